"""The data directory (Postgres calls it a database cluster): made whole or not at all."""

from __future__ import annotations

import os
import shutil

from taskwidgets.embedded.account import Account
from taskwidgets.embedded.binaries import MAJOR, Binaries
from taskwidgets.embedded.directory import Directory, advice
from taskwidgets.embedded.settings import INCLUDE
from taskwidgets.embedded.sockets import ROLE
from taskwidgets.errors import EmbeddedServerError

__all__ = ["ensure_cluster"]

OPTIONS = (
    f"--username={ROLE}",
    # The directory of the socket lets only its owner in; by TCP nobody comes in at all.
    "--auth-local=trust",
    "--auth-host=reject",
    "--encoding=UTF8",
    # Postgres's own locale, with Unicode's upper and lower case: it is there on every system, and
    # a system's update cannot change an order that indexes rely on.
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--locale=C",
    "--no-instructions",
)


def ensure_cluster(directory: Directory, account: Account, binaries: Binaries) -> None:
    """Make the data directory if there is none. Only under the start lock.

    initdb works in a sibling that is renamed when it is complete, so that a kill in the middle
    leaves nothing that looks like a data directory. Raises EmbeddedServerError, also for an
    existing one that these programs cannot read.
    """
    if directory.data.exists():
        _check_version(directory)
        return
    unfinished = directory.make_unfinished("initdb")
    try:
        directory.make_private(unfinished, account)
        outcome = account.run([binaries.initdb, "-D", unfinished, *OPTIONS], directory.home)
        if outcome.status != 0:
            last = "\n".join(outcome.output.splitlines()[-10:])
            raise EmbeddedServerError(
                f"Making the data directory in {directory.home} failed (initdb, status "
                f"{outcome.status}):\n{last}\n{advice(last)}".rstrip()
            )
        configuration = unfinished / "postgresql.conf"
        descriptor = os.open(configuration, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW)
        with os.fdopen(descriptor, "a", encoding="utf-8") as file:
            file.write(INCLUDE)
            file.flush()
            os.fsync(descriptor)
        unfinished.rename(directory.data)
        directory.sync()
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def _check_version(directory: Directory) -> None:
    """Refuse a data directory that another major version has made."""
    try:
        version = (directory.data / "PG_VERSION").read_text(encoding="ascii").strip()
    except FileNotFoundError:
        raise EmbeddedServerError(
            f"{directory.data} is not a data directory of Postgres: it has no file PG_VERSION. "
            "Move it away, or set TASKWIDGETS_HOME to another directory."
        ) from None
    if version != str(MAJOR):
        raise EmbeddedServerError(
            f"The data directory {directory.data} was made by Postgres {version}, and this "
            f"release of taskwidgets comes with Postgres {MAJOR}, which cannot read it. Set "
            f"TASKWIDGETS_HOME to another directory to start afresh; to keep the data, dump it "
            f"with the release that made it and load it into the new server (pg_dumpall, psql)."
        )
