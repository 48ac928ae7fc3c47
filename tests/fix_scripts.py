"""Plain scripts and long-lived processes beside the test's own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fork_server import Forked

ROOT = Path(__file__).parents[1]
AT_START = {"PYTHONWARNINGS"}  # variables that Python reads when it starts


def environment(**variables: str) -> dict[str, str]:
    """The environment for a process that imports the package from this checkout."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TASKW")}
    return {**kept, "PYTHONPATH": str(ROOT), **variables}


class Script:
    """A Python process that runs the code; ended with the test. See ``fork_server.py``."""

    def __init__(self, code: str, *arguments: str, fresh: bool = False, **variables: str) -> None:
        """``fresh``: not a fork of a process that has imported the package."""
        self.process: Forked | subprocess.Popen[str]
        if fresh or variables.keys() & AT_START:
            self.process = subprocess.Popen(
                [sys.executable, "-W", "error", "-c", textwrap.dedent(code), *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=environment(**variables),
            )
        else:
            self.process = Forked(
                [*arguments], environment(**variables), code=textwrap.dedent(code)
            )

    def line(self) -> str:
        """The next line that it prints; fails with its errors when it has ended."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(f"the script has ended: {self.end()[1]}")
        return line.rstrip("\n")

    def say(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{text}\n")
        self.process.stdin.flush()

    def end(self) -> tuple[str, str]:
        """Wait for its end; (rest of stdout, stderr)."""
        return self.process.communicate(timeout=120)

    def kill(self) -> None:
        self.process.kill()
        self.end()


@pytest.fixture
def script() -> Iterator[Callable[..., Script]]:
    """A factory of processes: ``script(code, *arguments)``."""
    made: list[Script] = []

    def start(code: str, *arguments: str, fresh: bool = False, **variables: str) -> Script:
        made.append(Script(code, *arguments, fresh=fresh, **variables))
        return made[-1]

    yield start
    for one in made:
        if one.process.poll() is None:
            one.process.kill()
        if one.process.stdout is not None and not one.process.stdout.closed:
            one.end()


@pytest.fixture
def run_script(script: Callable[..., Script]) -> Callable[..., tuple[str, str]]:
    """Runs a script to its end; (stdout, stderr); fails unless it succeeds."""

    def run(code: str, *arguments: str, **options: Any) -> tuple[str, str]:
        started = script(code, *arguments, **options)
        out, err = started.end()
        assert started.process.returncode == 0, err
        return out, err

    return run


def pytest_unconfigure() -> None:
    Forked.close()
