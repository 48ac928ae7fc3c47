"""The command as a process: in a pipe, and in a terminal."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pexpect
import pytest
from fix_scripts import environment
from fork_server import Forked

COMMAND = [sys.executable, "-W", "error", "-m", "taskwidgets.cli"]
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")  # how a bar moves the cursor and colours itself


class Command:
    """A command in a pipe, as a script would run it; ended with the test."""

    def __init__(
        self,
        url: str,
        folder: Path,
        *arguments: str,
        stdin: Any = subprocess.DEVNULL,
        fresh: bool = False,
    ) -> None:
        """``fresh``: not a fork of a process that has imported the package."""
        variables = environment(TASKWIDGETS_DATABASE_URL=url)
        self.process: Forked | subprocess.Popen[str]
        if fresh:
            self.process = subprocess.Popen(
                [*COMMAND, *arguments],
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                cwd=folder,
                env=variables,
            )
        else:
            self.process = Forked(
                [*arguments], variables, module="taskwidgets.cli", folder=folder, stdin=stdin
            )

    def line(self) -> str:
        """The next line that it prints."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.communicate()[1]
        return line.rstrip("\n")

    def until(self, wanted: str) -> str:
        """Read lines until one has this in it; that line."""
        while wanted not in (line := self.line()):
            pass
        return line

    def end(self, given: str | None = None) -> tuple[int, str, str]:
        """Wait for its end: exit code, what is left of stdout, stderr."""
        out, err = self.process.communicate(given, timeout=120)
        assert "Traceback" not in err, err
        return self.process.returncode, out, err


@pytest.fixture
def start(database_url: str, tmp_path: Path) -> Iterator[Callable[..., Command]]:
    """A factory of commands on the test's database, in its folder."""
    made: list[Command] = []

    def begin(*arguments: object, url: str = database_url, **options: Any) -> Command:
        made.append(Command(url, tmp_path, *map(str, arguments), **options))
        return made[-1]

    yield begin
    for one in made:
        if one.process.poll() is None:
            one.process.kill()
        one.process.communicate()


@pytest.fixture
def run(start: Callable[..., Command]) -> Callable[..., tuple[int, str, str]]:
    """Runs a command to its end: exit code, stdout, stderr."""
    return lambda *arguments, **options: start(*arguments, **options).end()


@pytest.fixture
def run_json(run: Callable[..., tuple[int, str, str]]) -> Callable[..., Any]:
    """Runs a command with --json that succeeds; its document."""

    def document(*arguments: object, code: int = 0, **options: Any) -> Any:
        found, out, err = run(*arguments, "--json", **options)
        assert found == code, (out, err)
        return json.loads(out)

    return document


class Terminal:
    """A command in a terminal of its own, with a person at the keys."""

    def __init__(self, url: str, folder: Path, *arguments: str) -> None:
        self.child = pexpect.spawn(
            COMMAND[0],
            [*COMMAND[1:], *arguments],
            cwd=str(folder),
            env=environment(TASKWIDGETS_DATABASE_URL=url, TERM="xterm-256color"),
            encoding="utf-8",
            timeout=60,
            dimensions=(24, 120),
            echo=False,
        )
        self.seen = ""

    def wait_for(self, pattern: str) -> str:
        """Read until this is on the screen."""
        self.child.expect(pattern)
        found = self.child.before + self.child.after
        self.seen += found
        return str(found)

    def press(self, keys: str) -> None:
        self.child.send(keys)

    def interrupt(self) -> None:
        self.child.sendintr()  # the terminal makes SIGINT of it

    def end(self) -> tuple[int, str]:
        """Wait for its end: exit code, all that was ever on the screen, as plain text."""
        self.child.expect(pexpect.EOF)
        self.seen += self.child.before
        self.child.close()
        assert "Traceback" not in self.seen, self.seen
        return self.child.exitstatus, ESCAPES.sub("", self.seen).replace("\r", "")


@pytest.fixture
def terminal(database_url: str, tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    """A factory of terminals in which a command runs."""
    made: list[Terminal] = []

    def open_(*arguments: object, url: str = database_url) -> Terminal:
        made.append(Terminal(url, tmp_path, *map(str, arguments)))
        return made[-1]

    yield open_
    for one in made:
        one.child.close(force=True)
