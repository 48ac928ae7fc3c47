"""The system account that the server runs as, and how a program is run as it.

Postgres refuses to run as root. An ordinary user runs it as himself; root lends it an account
without rights that every system has. Nothing on the system is changed for that: no account is
made, and no mode of a directory that is not ours.
"""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from taskwidgets.errors import EmbeddedServerError

__all__ = ["Account", "Outcome", "server_account"]

# In the order of preference; the first is made by every distribution's Postgres package.
LENT_ACCOUNTS = ("postgres", "nobody")

# What a program of the server gets from the kernel's environment. Not the rest: a notebook's
# environment holds passwords and tokens that would stay readable in a process that outlives it,
# and PG* variables (PGDATA, PGPORT, PGOPTIONS) would silently turn our commands elsewhere.
KEPT_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")

# Prints the first of its arguments that may not be entered or executed. Asking the system itself
# (and not computing with mode bits) counts access lists and noexec mounts in.
BARRED_SCRIPT = 'for path; do test -x "$path" || { printf %s "$path"; exit 0; }; done'


@dataclass(frozen=True)
class Outcome:
    """A program's end: its exit status, and its stdout and stderr in one text."""

    status: int
    output: str


@dataclass(frozen=True)
class Account:
    """The account that owns the data and runs the server.

    ``lent`` is True when we are root and become this account for the server's programs.
    """

    name: str
    uid: int
    gid: int
    lent: bool

    def run(self, command: Sequence[str | Path], directory: Path) -> Outcome:
        """Run a program to its end in ``directory`` (absolute), as this account.

        Its own session: an interrupt from the notebook goes to the kernel's whole process group
        and must hit neither pg_ctl nor the server that it leaves behind. No descriptor of ours
        is passed on (subprocess closes them all). Raises EmbeddedServerError if it cannot be run.
        """
        environment = {k: v for k in KEPT_VARIABLES if (v := os.environ.get(k)) is not None}
        environment["LC_ALL"] = "C"  # English messages; we read some of them
        try:
            done = subprocess.run(
                [os.fspath(part) for part in command],
                cwd=directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                encoding="utf-8",
                errors="replace",
                umask=0o077,
                start_new_session=True,
                user=self.uid if self.lent else None,
                group=self.gid if self.lent else None,
                extra_groups=[] if self.lent else None,
                check=False,
            )
        except OSError as error:
            raise EmbeddedServerError(
                f"Cannot run {command[0]} as user {self.name} in {directory}: {error.strerror}."
            ) from error
        return Outcome(done.returncode, done.stdout.strip())

    def barred(self, *paths: Path) -> Path | None:
        """Return the first of the paths or of their parents that this account cannot enter.

        None when it reaches them all; always None for one's own account, whose own attempt says
        more.
        """
        if not self.lent:
            return None
        chain = dict.fromkeys(step for path in paths for step in [*reversed(path.parents), path])
        outcome = self.run(["/bin/sh", "-c", BARRED_SCRIPT, "sh", *chain], Path("/"))
        return Path(outcome.output) if outcome.output else None

    def take(self, descriptor: int) -> None:
        """Give an open file or directory to this account, if root has made it."""
        if self.lent:
            os.fchown(descriptor, self.uid, self.gid)


def server_account(home: Path, data: Path) -> Account:
    """Return the account for the data directory ``data`` in ``home``; neither need exist yet.

    An existing data directory decides by its owner: Postgres accepts no other. So root can join
    a server that an ordinary user has made. A new one in an ordinary user's home is his.
    """
    user = os.geteuid()
    try:
        owner = _owner(data)
        if owner is None and user == 0:
            owner = _owner(home) or None  # root's own home says nothing
    except PermissionError as error:
        raise EmbeddedServerError(
            f"The embedded server cannot use its home {home}: Permission denied ({data}). Set "
            "TASKWIDGETS_HOME to a directory that you may write to."
        ) from error
    if user != 0:
        if owner is not None and owner != user:
            raise EmbeddedServerError(
                f"The data directory {data} belongs to user {_entry(owner).name}, and you are "
                f"{_entry(user).name}. Set TASKWIDGETS_HOME to a directory of your own."
            )
        return Account(_entry(user).name, user, os.getegid(), lent=False)
    if owner == 0:
        raise EmbeddedServerError(
            f"The data directory {data} belongs to root, and Postgres does not run as root. "
            "Give it to the account it was made by (chown -R), or set TASKWIDGETS_HOME to "
            "another directory."
        )
    if owner is not None:
        return _entry(owner)
    for name in LENT_ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_name, entry.pw_uid, entry.pw_gid, lent=True)
    raise EmbeddedServerError(
        "Postgres does not run as root, and this system has neither an account "
        f"{' nor '.join(LENT_ACCOUNTS)} to lend it. Run the notebook as an ordinary user."
    )


def _owner(path: Path) -> int | None:
    try:
        return path.stat().st_uid
    except (FileNotFoundError, NotADirectoryError):
        return None


def _entry(uid: int) -> Account:
    """Return the account with this number; in some containers it has no name."""
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return Account(str(uid), uid, uid, lent=True)
    return Account(entry.pw_name, uid, entry.pw_gid, lent=True)
