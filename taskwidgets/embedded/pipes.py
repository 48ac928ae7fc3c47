"""Named pipes through which a server on this machine hands rows to us, in its socket's directory.

Only where that directory is closed to all but the server's account, as the embedded server's is.
Whoever writes into a named pipe waits, deaf to any cancel, until somebody has it open for reading.
So a pipe is open for reading as long as it is there; and should its reader be killed in the moment
before the server opens it, whoever looks into the directory next lets the server go on.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Self
from weakref import WeakSet

__all__ = ["NamedPipe", "is_closed", "sweep"]

PREFIX = "rows-"
ATTEMPTS = 10  # at a pipe that nobody removes before it is locked; each reader sweeps once
READING = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW

_ends: WeakSet[FileIO] = WeakSet()  # reading ends of this process


def is_closed(directory: Path) -> bool:
    """Whether it is a directory that only one account may enter, and we may make something in."""
    try:
        facts = directory.stat()
    except OSError:
        return False
    return (
        stat.S_ISDIR(facts.st_mode)
        and not facts.st_mode & 0o077
        and os.access(directory, os.W_OK | os.X_OK)
    )


class NamedPipe:
    """A pipe at ``path``, which the directory's owner may write into; gone with `close`."""

    def __init__(self, directory: Path) -> None:
        for _ in range(ATTEMPTS):
            with suppress(FileNotFoundError):
                self._make(directory)
                if self._is_there():
                    return
                self.close()
        raise FileNotFoundError(f"no pipe stays in {directory}")

    def _make(self, directory: Path) -> None:
        self.path = directory / f"{PREFIX}{secrets.token_hex(8)}"
        os.mkfifo(self.path, 0o600)
        try:
            self._guard = self.open()
        except BaseException:
            self.path.unlink(missing_ok=True)
            raise
        try:
            fcntl.flock(self._guard, fcntl.LOCK_EX)
            if os.geteuid() == 0:
                # By descriptor: the directory is another account's, who must not be able to lead
                # root to another file.
                owner = directory.stat()
                os.fchown(self._guard.fileno(), owner.st_uid, owner.st_gid)
        except BaseException:
            self.close()
            raise

    def _is_there(self) -> bool:
        """Whether it was locked before `sweep` in another thread or process took it for unused."""
        try:
            return os.path.samestat(self.path.lstat(), os.fstat(self._guard.fileno()))
        except FileNotFoundError:
            return False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> FileIO:
        """Its reading end, not blocking; to be closed by the caller.

        A new one for each writer: one that has seen a writer leave tells of that ever after.
        """
        end = FileIO(os.open(self.path, READING))
        if not stat.S_ISFIFO(os.fstat(end.fileno()).st_mode):
            end.close()
            raise FileNotFoundError(f"{self.path} is no pipe any more")
        _ends.add(end)
        return end

    def close(self) -> None:
        """Remove it; idempotent. Whoever writes into it gets an error."""
        self.path.unlink(missing_ok=True)
        self._guard.close()


def sweep(directory: Path) -> None:
    """Remove the pipes whose readers are gone; a server that waits for one gets an error."""
    with suppress(OSError):
        for path in directory.glob(f"{PREFIX}*"):
            with suppress(OSError):
                pipe = os.open(path, READING)
                try:
                    fcntl.flock(pipe, fcntl.LOCK_EX | fcntl.LOCK_NB)  # else it is in use
                    path.unlink()
                finally:
                    os.close(pipe)


def _close_in_child() -> None:
    """A forked child reads nothing: with its copies, no writer would see that ours are closed."""
    for end in list(_ends):
        end.close()


os.register_at_fork(after_in_child=_close_in_child)
