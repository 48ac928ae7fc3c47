"""Lock files: how processes agree on who starts the server, who uses it and who stops it.

``start.lock`` is held exclusively while a process starts or joins the server. ``users.lock`` is
held shared by every process that uses it, for as long as it does; who gets it exclusively is
alone and may stop the server. flock(2) locks end with the process, however it ends, so a killed
kernel leaves no registration behind that somebody would have to judge stale.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

__all__ = ["FileLock"]

POLL = 0.02  # seconds between two attempts


class FileLock:
    """One open lock file. The descriptor is close-on-exec, as all of Python's are."""

    def __init__(self, path: Path, *, create: bool = True) -> None:
        """Open the file; ``create``: make it if need be. Raises OSError."""
        self.path = path
        flags = os.O_RDWR | os.O_NOFOLLOW | (os.O_CREAT if create else 0)
        self._descriptor: int | None = os.open(path, flags, 0o600)
        home = path.parent.stat()
        if os.geteuid() == 0 and os.fstat(self._descriptor).st_uid != home.st_uid:
            # Root in an ordinary user's home: he must be able to open it, too, afterwards.
            os.fchown(self._descriptor, home.st_uid, home.st_gid)

    def acquire(self, *, shared: bool, patience: float) -> bool:
        """Take the lock; False if it was not to be had within ``patience`` seconds.

        Polls instead of blocking, so that there is an end to it; an interrupt gets through.
        """
        deadline = time.monotonic() + patience
        while not self._attempt(fcntl.LOCK_SH if shared else fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL)
        return True

    def wait(self) -> None:
        """Take the lock exclusively, however long that takes; costs no processor time."""
        if self._descriptor is None:
            raise ValueError(f"The lock {self.path} is closed.")
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def only_holder(self) -> bool:
        """Give up the shared lock and try at once for the exclusive one; True if we got it.

        False leaves us with no lock at all: flock drops the old lock before it tries the new one.
        """
        return self._attempt(fcntl.LOCK_EX)

    def is_current(self) -> bool:
        """Say whether the path still leads to this file (somebody may have deleted the home)."""
        if self._descriptor is None:
            return False
        try:
            return os.path.samestat(os.fstat(self._descriptor), self.path.stat())
        except OSError:
            return False

    def release(self) -> None:
        """Give the lock up and close the file; does nothing the second time.

        Unlocks before it closes: a descriptor that a fork has inherited would keep the lock.
        """
        if self._descriptor is not None:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            self.abandon()

    def abandon(self) -> None:
        """Close the file only: what a forked child does, whose parent goes on holding the lock."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _attempt(self, kind: int) -> bool:
        if self._descriptor is None:
            raise ValueError(f"The lock {self.path} is closed.")
        try:
            fcntl.flock(self._descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
