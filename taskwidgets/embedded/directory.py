"""The home: where it is, what lies in it, how its parts are made, what may be wrong with it.

What lies in a home:

    start.lock  users.lock      see locks
    data/                       the data directory, of the server's account, 0700
    socket/                     the Unix socket, of the server's account, 0700; rows-* are pipes
    log/                        the server's log, of the server's account, 0700
    server.conf                 the configuration, see settings
    host                        the name of the machine on which the server was last started
    watcher.lock  standby.lock  see watcher
    idle-timeout                after how many seconds an unused server stops (see watcher)
    socket-directory            where the socket is, if not here (see sockets)
    postgres-<version>/         a copy of the programs, only if root needs one (see binaries)
    initdb-*/ copy-*/ write-*   unfinished; removed by the next process that starts the server
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from taskwidgets.embedded.account import Account
from taskwidgets.errors import EmbeddedServerError

__all__ = ["Directory", "advice", "find_home", "translate_os_errors"]

SYSTEM_HOME = Path("/var/lib/taskwidgets")  # root's own ~ is closed to the server's account
VARIABLE = "TASKWIDGETS_HOME"

# pg_ctl starts the server through a shell and puts paths between double quotes; these
# characters would mean something there (pg_ctl.c, start_postmaster). Newlines break the
# server's own pid file.
UNSAFE = '"$`\\\n'

UNFINISHED = ("initdb-", "copy-", "write-")


def find_home(home: Path | None) -> Path:
    """Return the absolute home: the argument, else $TASKWIDGETS_HOME, else the user's data."""
    if home is None:
        value = os.environ.get(VARIABLE)
        if value:
            home = Path(value)
        elif os.geteuid() == 0:
            home = SYSTEM_HOME
        else:
            import platformdirs  # here: joined homes that are named do not need it

            home = Path(platformdirs.user_data_dir("taskwidgets"))
    with translate_os_errors(home):
        found = home.expanduser().resolve()
    if any(character in UNSAFE for character in str(found)):
        raise EmbeddedServerError(
            f"The home {str(found)!r} has a character in its path that Postgres's start script "
            f'cannot take (one of " $ ` \\ and line breaks). Set {VARIABLE} to another directory.'
        )
    return found


def advice(text: str) -> str:
    """Return what to do about an error whose text is ``text``; empty where we do not know."""
    if "No space left on device" in text or "Disk quota exceeded" in text:
        return f"The disk is full: free some space, or set {VARIABLE} to a directory elsewhere."
    if "Read-only file system" in text:
        return f"That file system is read-only: set {VARIABLE} to a directory elsewhere."
    if "Permission denied" in text or "not permitted" in text:
        return f"Set {VARIABLE} to a directory that you may write to."
    if "could not create shared memory segment" in text or "Cannot allocate memory" in text:
        return "The system gives no more shared memory: stop other servers, or raise its limit."
    return ""


@contextmanager
def translate_os_errors(home: Path) -> Iterator[None]:
    """Turn an OSError about the home's files into an EmbeddedServerError that helps."""
    try:
        yield
    except OSError as error:
        place = error.filename if error.filename is not None else home
        reason = os.strerror(error.errno) if error.errno else str(error)
        message = f"The embedded server cannot use its home {home}: {reason} ({place})."
        if error.errno in (errno.EEXIST, errno.ENOTDIR):
            hint = f"Set {VARIABLE} to a directory."
        else:
            hint = advice(reason) or f"Set {VARIABLE} to another directory."
        raise EmbeddedServerError(f"{message} {hint}") from error


@dataclass(frozen=True)
class Directory:
    """The home's paths, and the making of its parts."""

    home: Path

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def socket(self) -> Path:
        return self.home / "socket"

    @property
    def log(self) -> Path:
        return self.home / "log"

    @property
    def settings(self) -> Path:
        return self.home / "server.conf"

    @property
    def host(self) -> Path:
        return self.home / "host"

    @property
    def start_lock(self) -> Path:
        return self.home / "start.lock"

    @property
    def users_lock(self) -> Path:
        return self.home / "users.lock"

    @property
    def watcher_lock(self) -> Path:
        return self.home / "watcher.lock"

    @property
    def standby_lock(self) -> Path:
        return self.home / "standby.lock"

    @property
    def idle_timeout(self) -> Path:
        return self.home / "idle-timeout"

    def make(self, account: Account) -> None:
        """Make the home, with all missing parents, and see that the account can enter it.

        What we make is 0700. For a lent account it is 0711: it must pass, not look around. What
        was there before keeps its mode.
        """
        if self.home.exists() and not self.home.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "", str(self.home))
        missing = [p for p in [self.home, *self.home.parents] if not p.exists()]
        for path in reversed(missing):
            path.mkdir(exist_ok=True)
            path.chmod(0o711 if account.lent else 0o700)  # mkdir's mode is subject to the umask
        if (barred := account.barred(self.home)) is not None:
            raise EmbeddedServerError(
                f"The embedded server cannot use its home {self.home}: Postgres does not run as "
                f"root but as user {account.name} here, and that user may not enter {barred}. "
                f"Set {VARIABLE} to a directory that every user can reach, such as {SYSTEM_HOME}."
            )

    def make_private(self, path: Path, account: Account) -> None:
        """Make a directory that only the server's account can enter, or make it so again.

        By descriptor, without following links: root must not be led to hand out another place.
        """
        path.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            account.take(descriptor)
            os.fchmod(descriptor, 0o700)
        finally:
            os.close(descriptor)

    def make_unfinished(self, kind: str) -> Path:
        """Make a new empty directory for something that is renamed when it is complete."""
        return Path(tempfile.mkdtemp(prefix=f"{kind}-", dir=self.home))

    def remove_unfinished(self) -> None:
        """Remove what killed processes have left half made. Only under the start lock.

        An orphaned initdb may still be writing there; it fails then, and what it has written
        meanwhile goes next time, so errors are no matter.
        """
        for path in self.home.iterdir():
            if not path.name.startswith(UNFINISHED) or path.is_symlink():
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def write(self, path: Path, text: str, *, mode: int) -> None:
        """Write a small file of the home, whole or not at all."""
        descriptor, name = tempfile.mkstemp(prefix="write-", dir=self.home)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
                os.fchmod(descriptor, mode)
                if os.geteuid() == 0:  # root in an ordinary user's home
                    owner = self.home.stat()
                    os.fchown(descriptor, owner.st_uid, owner.st_gid)
                file.write(text)
                file.flush()
                os.fsync(descriptor)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    def sync(self) -> None:
        """Make the home's own entries durable: a rename counts only after that."""
        descriptor = os.open(self.home, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
