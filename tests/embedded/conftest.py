"""Homes for servers, and other Python processes ("kernels") that join them on command."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import taskwidgets
from taskwidgets.embedded.account import server_account
from taskwidgets.embedded.binaries import find_binaries
from taskwidgets.embedded.directory import Directory
from taskwidgets.embedded.postmaster import Postmaster

ROOT = Path(taskwidgets.__file__).parents[1]
NOBODY = 65534

# Reads a command a line and answers each with a line of JSON; ends, as a kernel does, at the end
# of its input, and leaves then by atexit.
KERNEL = """
import json, os, sys
from pathlib import Path
from taskwidgets.embedded import join
from taskwidgets.errors import EmbeddedServerError
home = Path(sys.argv[1]) if len(sys.argv) > 1 else None
server = None
print(json.dumps({"uid": os.geteuid()}), flush=True)
for line in sys.stdin:
    answer = {}
    try:
        if line.strip() == "join":
            server = join(home)
            answer = {"url": server.url, "version": server.version, "home": str(server.home)}
        elif line.strip() == "leave":
            server.leave()
        else:
            exec(json.loads(line))
    except EmbeddedServerError as error:
        answer = {"error": str(error)}
    print(json.dumps(answer), flush=True)
"""


class Kernel:
    """A Python process of its own, in a process group of its own, as Jupyter starts them."""

    def __init__(self, home: Path | None, *, nobody: bool = False, **environment: str) -> None:
        command = [sys.executable, "-W", "error", "-c", KERNEL]
        if nobody:
            # With the right to read everything: the interpreter may lie below /root.
            command = [
                "setpriv",
                f"--reuid={NOBODY}",
                f"--regid={NOBODY}",
                "--clear-groups",
                "--inh-caps=+dac_read_search",
                "--ambient-caps=+dac_read_search",
                *command,
            ]
        self.process = subprocess.Popen(
            [*command, *([str(home)] if home else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            start_new_session=True,
        )
        self.uid = self.answer()["uid"]

    def tell(self, command: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{command}\n")
        self.process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        return dict(json.loads(self.process.stdout.readline()))

    def ask(self, command: str) -> dict[str, Any]:
        self.tell(command)
        return self.answer()

    def execute(self, code: str) -> None:
        """Run Python code in the kernel, which knows its ``server``."""
        self.ask(json.dumps(code))

    def kill(self) -> None:
        """SIGKILL, as JupyterLab does at "Restart" when a kernel does not end in time."""
        self.process.kill()
        self.close()

    def interrupt_group(self, kind: signal.Signals) -> None:
        """Signal the whole process group, as Jupyter interrupts and closed terminals do."""
        os.killpg(self.process.pid, kind)
        self.close()

    def close(self) -> None:
        """End it in order, and read its output to the end, which no server may hold open."""
        if self.process.stdin is not None and not self.process.stdin.closed:
            self.process.stdin.close()
        if self.process.stdout is not None and not self.process.stdout.closed:
            self.process.stdout.read()
            self.process.stdout.close()
        self.process.wait()


class Homes:
    """Makes homes, and knows the servers in them."""

    def __init__(self) -> None:
        self.bases: list[Path] = []
        self.homes: list[Path] = []

    def base(self) -> Path:
        """Return a new directory that every account can enter."""
        path = Path(tempfile.mkdtemp(prefix="taskwidgets-test-")).resolve()
        path.chmod(0o755)
        self.bases.append(path)
        return path

    def __call__(self, name: str = "home") -> Path:
        """Return the path of a home that is not there yet."""
        home = self.base() / name
        self.homes.append(home)
        return home

    def pid(self, home: Path) -> int:
        """Return the pid of the home's server, verified to be one on this data directory."""
        pid = int((home / "data/postmaster.pid").read_text().split("\n")[0])
        command = psutil.Process(pid).cmdline()
        assert command[0].endswith("postgres")
        assert command[1:] == ["-D", str(home / "data")]
        return pid

    def kill(self, home: Path) -> None:
        """SIGKILL the home's server process."""
        pid = self.pid(home)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: _gone(pid))

    def pg_ctl(self, home: Path, *arguments: str) -> None:
        directory = Directory(home)
        account = server_account(home, directory.data)
        binaries = find_binaries(directory, account)
        account.run([binaries.pg_ctl, "-D", directory.data, *arguments], home)

    def is_stopped(self, home: Path) -> bool:
        return not (home / "data/postmaster.pid").exists()

    def clean(self) -> None:
        for home in self.homes:
            if (home / "data/PG_VERSION").exists():
                directory = Directory(home)
                account = server_account(home, directory.data)
                binaries = find_binaries(directory, account)
                found = Postmaster(directory, account, binaries).running()
                if found is not None:
                    self.pg_ctl(home, "stop", "-m", "immediate", "-w")
                    wait_until(lambda pid=found.pid: _gone(pid))
            record = home / "socket-directory"
            if record.exists():
                shutil.rmtree(record.read_text())
        for base in self.bases:
            shutil.rmtree(base)


def _gone(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def wait_until(condition: Callable[[], bool]) -> None:
    """Return when the condition holds; a guard ends it if that never happens."""
    deadline = time.monotonic() + 60  # seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], None]:
    return wait_until


@pytest.fixture
def homes() -> Iterator[Homes]:
    made = Homes()
    yield made
    made.clean()


@pytest.fixture
def kernel(homes: Homes) -> Iterator[Callable[..., Kernel]]:
    """A factory of kernels; they all end with the test, before its servers do."""
    kernels: list[Kernel] = []

    def start(home: Path | None, **options: Any) -> Kernel:
        kernels.append(Kernel(home, **options))
        return kernels[-1]

    yield start
    for one in kernels:
        if one.process.poll() is None:
            one.process.kill()
        one.close()
