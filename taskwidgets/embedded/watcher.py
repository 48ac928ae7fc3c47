"""Stops the server some minutes after the last process that used it is gone, however it ended.

A process that ends in order leaves the server, and the last one stops it (``server.leave``). One
that is killed says nothing. But the operating system frees its lock on ``users.lock``, and closes
its connections. A small process looks at these two. It starts with the server, in a session of its
own, and ends when the server does.

Two such processes run: one watches, and one waits for the watcher's lock, which is free in the
moment in which the watcher dies. So the end of either is harmless. Each process that joins looks
whether there is a watcher, too.

What is counted:

- Locks. A process that joined holds ``users.lock`` shared. The lock is free when the process has
  ended, not before: a process that is stopped (SIGSTOP), or that computes, still uses the server.
- Sessions. Programs such as psql connect without joining. The server itself finds out that the
  client of a running statement is gone (client_connection_check_interval in ``settings``).

Time counts while the machine runs: a computer that sleeps for a night stops no server when it
wakes up, since each look counts for a few seconds at most.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from taskwidgets.embedded.account import KEPT_VARIABLES, server_account
from taskwidgets.embedded.binaries import Binaries
from taskwidgets.embedded.connection import other_sessions
from taskwidgets.embedded.directory import Directory
from taskwidgets.embedded.locks import FileLock
from taskwidgets.embedded.pipes import sweep
from taskwidgets.embedded.postmaster import PidFile, Postmaster
from taskwidgets.errors import EmbeddedServerError

__all__ = [
    "DEFAULT_TIMEOUT", "IDLE_VARIABLE", "IdleTime", "ensure_watcher", "idle_timeout", "is_in_use",
    "record_timeout",
]  # fmt: skip

IDLE_VARIABLE = "TASKWIDGETS_IDLE_TIMEOUT"
DEFAULT_TIMEOUT = 600.0  # seconds
NEVER = "never"

LONGEST_LOOK = 10.0  # seconds between two looks
LOOKS = 20  # within the timeout, if it is short
LOCK_PATIENCE = 0.5  # seconds for the start lock; a process that is starting the server holds it

# The package's own folder is given, since -I leaves out the current folder and PYTHONPATH.
PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from taskwidgets.embedded.watcher import main; main(sys.argv[2])"
)


def idle_timeout() -> float | None:
    """Seconds after which an unused server stops, by $TASKWIDGETS_IDLE_TIMEOUT; None: never.

    Raises EmbeddedServerError for a value that is neither a number of seconds nor "never".
    """
    return _parsed(os.environ.get(IDLE_VARIABLE, "").strip())


def _parsed(value: str) -> float | None:
    if not value:
        return DEFAULT_TIMEOUT
    if value.lower() == NEVER:
        return None
    with suppress(ValueError):
        seconds = float(value)
        if 0 < seconds < float("inf"):
            return seconds
    raise EmbeddedServerError(
        f"{IDLE_VARIABLE} is {value!r}; it must be a number of seconds above 0, after which an "
        f'embedded server that nobody uses stops, or "{NEVER}".'
    )


def record_timeout(directory: Directory, *, starts: bool) -> None:
    """Tell the watcher the timeout: of whoever starts the server, or who says it in a variable."""
    timeout = idle_timeout()  # a wrong value is an error for everybody
    if starts or os.environ.get(IDLE_VARIABLE):
        text = NEVER if timeout is None else f"{timeout:g}"
        with suppress(FileNotFoundError):
            if directory.idle_timeout.read_text("utf-8") == text:
                return
        directory.write(directory.idle_timeout, text, mode=0o600)


def ensure_watcher(directory: Directory) -> None:
    """Start a watcher if none runs. Under the start lock, with the server running.

    A system that cannot start one (no memory, no more processes) has the server none the less: the
    last process that leaves stops it, as far as none is killed.
    """
    watching = FileLock(directory.watcher_lock)
    try:
        if not watching.acquire(shared=False, patience=0.0):
            return
    finally:
        watching.release()
    # The watcher itself makes no file: its user may be removing the home meanwhile.
    FileLock(directory.standby_lock).release()
    _start(directory)


def _start(directory: Directory) -> None:
    """Start a watcher that is no child of ours: who has children must look after them."""
    if not sys.executable:  # Python is part of another program
        return
    root = Path(__file__).parents[2]
    environment = {k: v for k in KEPT_VARIABLES if (v := os.environ.get(k)) is not None}
    with suppress(OSError):
        subprocess.run(
            [
                "/bin/sh", "-c", '"$@" &', "sh",
                sys.executable, "-I", "-c", PROGRAM, str(root), str(directory.home),
            ],
            cwd="/",
            env=environment,  # no secrets of the notebook in a process that outlives it
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            umask=0o077,
            start_new_session=True,
            check=False,
        )  # fmt: skip


@dataclass
class IdleTime:
    """For how long the server has been unused, by looks that are ``interval`` seconds apart.

    A look that comes late counts for no more than twice that: while the machine was suspended, or
    the watcher stopped, nobody looked. Whoever was there a moment ago begins anew.
    """

    interval: float
    idle: float = 0.0
    last: float | None = None

    def observe(self, now: float, *, in_use: bool) -> float:
        """Seconds of idle time up to this look; ``now``: of a monotonic clock."""
        passed = 0.0 if self.last is None else min(now - self.last, 2 * self.interval)
        self.last = now
        self.idle = 0.0 if in_use else self.idle + passed
        return self.idle


def is_in_use(directory: Directory, running: PidFile) -> bool:
    """Whether a process has joined, or a session of a client is open."""
    users = FileLock(directory.users_lock, create=False)
    try:
        if not users.acquire(shared=False, patience=0.0):
            return True
    finally:
        users.release()
    return _has_sessions(running)


def _has_sessions(running: PidFile) -> bool:
    """Whether others are connected; also when the server does not say so just now."""
    if running.socket_directory is None:
        return True
    return other_sessions(running.socket_directory) != 0


def main(home: str) -> None:
    """Be the watcher of a home's server, or the one that waits for its end; see above."""
    directory = Directory(Path(home))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with suppress(OSError, EmbeddedServerError):  # the home is gone, or may not be entered
        waiting = FileLock(directory.standby_lock, create=False)
        if not waiting.acquire(shared=False, patience=0.0):
            return  # both are there
        watching = FileLock(directory.watcher_lock, create=False)
        watching.wait()
        waiting.release()
        _watch(directory, watching)


def _watch(directory: Directory, watching: FileLock) -> None:
    account = server_account(directory.home, directory.data)
    postmaster = Postmaster(directory, account, Binaries(directory.home))  # runs none of them
    idle: IdleTime | None = None
    while watching.is_current():
        timeout = _recorded_timeout(directory)
        interval = LONGEST_LOOK if timeout is None else min(LONGEST_LOOK, timeout / LOOKS)
        if idle is None or idle.interval != interval:
            idle = IdleTime(interval)
        running = postmaster.running()
        if running is None:
            if _is_over(directory, postmaster, watching):
                return
        else:
            _ensure_standby(directory)
            passed = idle.observe(time.monotonic(), in_use=is_in_use(directory, running))
            if timeout is not None and passed >= timeout:
                _stop(directory, postmaster)
        time.sleep(interval)


def _recorded_timeout(directory: Directory) -> float | None:
    try:
        return _parsed(directory.idle_timeout.read_text("utf-8").strip())
    except (FileNotFoundError, EmbeddedServerError):
        return DEFAULT_TIMEOUT


def _ensure_standby(directory: Directory) -> None:
    waiting = FileLock(directory.standby_lock, create=False)
    try:
        if not waiting.acquire(shared=False, patience=0.0):
            return
    finally:
        waiting.release()
    _start(directory)


def _is_over(directory: Directory, postmaster: Postmaster, watching: FileLock) -> bool:
    """Whether there is nothing to watch; gives the watcher's lock up then.

    Under the start lock: a process that starts the server looks for a watcher under it.
    """
    start = FileLock(directory.start_lock, create=False)
    try:
        if not start.acquire(shared=False, patience=LOCK_PATIENCE):
            return False
        if postmaster.running() is not None:
            return False
        watching.release()
        return True
    finally:
        start.release()


def _stop(directory: Directory, postmaster: Postmaster) -> None:
    """Stop the server as the last process that leaves does; not if somebody has come meanwhile."""
    users = FileLock(directory.users_lock, create=False)
    try:
        if not users.acquire(shared=False, patience=0.0):
            return
        running = postmaster.running()
        if running is None or _has_sessions(running):
            return
        if running.socket_directory is not None:
            sweep(running.socket_directory)  # a session that waits there would not end
        os.kill(running.pid, signal.SIGINT)  # what "pg_ctl stop -m fast" sends
        postmaster.wait_for_stop(running)
    finally:
        users.release()
