"""The directory of the Unix socket, and the URL that leads to it."""

from __future__ import annotations

import os
import re
import stat
import tempfile
from pathlib import Path
from urllib.parse import quote

from taskwidgets.embedded.account import Account
from taskwidgets.embedded.directory import Directory
from taskwidgets.errors import EmbeddedServerError

__all__ = ["DATABASE", "PORT", "ROLE", "find_socket_directory", "make_url", "socket_path"]

PORT = 5432  # only a part of the socket's name; the socket's directory is ours alone
# Not "taskwidgets": "$user" stands first in the search path, and in a schema of that name a table
# of ours would hide the user's own.
ROLE = "postgres"
DATABASE = "taskwidgets"

# Bytes of a socket's path: 108 in Linux, 104 in macOS (sys/un.h), one of them for the final NUL.
LONGEST = 103

# libpq splits a host at commas, SQLAlchemy looks for a port behind a colon, the configuration
# file has its own quotes: anything but plain characters goes by the short directory as well.
PLAIN = re.compile(r"[\w/ .+~@%=()-]*")


def socket_path(directory: Path) -> Path:
    """Return the path of the socket in its directory, as Postgres names it."""
    return directory / f".s.PGSQL.{PORT}"


def make_url(directory: Path) -> str:
    """Return the URL, without a password. The port is said, else $PGPORT would count."""
    return (
        f"postgresql+psycopg2://{ROLE}@/{DATABASE}?host={quote(str(directory), safe='/')}"
        f"&port={PORT}"
    )


def find_socket_directory(home: Directory, account: Account) -> Path:
    """Return the directory for the socket, the same one each time; make it if need be.

    It is ``socket`` in the home. Where that path is too long for a socket, it is a directory
    with a random name among the temporary ones, and the home remembers which.
    """
    if _fits(home.socket):
        home.make_private(home.socket, account)
        return home.socket
    record = home.home / "socket-directory"
    if record.exists():
        known = Path(record.read_text(encoding="utf-8"))
        if _is_private(known, account):
            return known
    for parent in dict.fromkeys([Path(tempfile.gettempdir()).resolve(), Path("/tmp")]):
        # A trial name: mkdtemp adds eight characters to its prefix.
        if not _fits(parent / "taskwidgets-12345678") or account.barred(parent) is not None:
            continue
        found = Path(tempfile.mkdtemp(prefix="taskwidgets-", dir=parent))
        home.make_private(found, account)
        home.write(record, str(found), mode=0o600)
        return found
    raise EmbeddedServerError(
        f"The path {socket_path(home.socket)} cannot be a Unix socket (it is longer than "
        f"{LONGEST} bytes or has special characters), nor can one in {tempfile.gettempdir()}. "
        "Set TASKWIDGETS_HOME to a directory with a short path."
    )


def _fits(directory: Path) -> bool:
    path = socket_path(directory)
    return len(os.fsencode(path)) <= LONGEST and PLAIN.fullmatch(str(path)) is not None


def _is_private(path: Path, account: Account) -> bool:
    """Say whether it is a directory that only the account can put a socket into.

    Among the temporary files anybody may have made one of this name after ours was cleared away.
    """
    try:
        found = path.lstat()
    except OSError:
        return False
    mode = found.st_mode
    return stat.S_ISDIR(mode) and found.st_uid == account.uid and stat.S_IMODE(mode) == 0o700
