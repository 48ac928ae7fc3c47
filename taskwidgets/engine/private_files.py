"""Files that only their owner can open until they are published, whoever else writes the folder."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

__all__ = ["new_file", "open_own", "own_folder", "publish_mode"]

_SAFE = os.O_CLOEXEC | os.O_NOFOLLOW


def new_file(path: Path, flags: int = os.O_RDWR) -> int:
    """Create a file with mode 0600 and open it; what else has the name is removed first.

    A file of an attempt that was killed may be there, or one of a process that was frozen and
    lost the job: that one writes on into its own file, which has no name any more. Raises OSError.
    """
    path.unlink(missing_ok=True)
    # Never one that somebody puts there in this moment, nor what a link points to.
    return os.open(path, flags | os.O_CREAT | os.O_EXCL | _SAFE, 0o600)


def open_own(path: Path, flags: int = os.O_RDWR) -> int:
    """Open a file that this user has made; OSError for a link, another kind, another owner."""
    file = os.open(path, flags | _SAFE)
    facts = os.fstat(file)
    if not stat.S_ISREG(facts.st_mode) or facts.st_uid != os.geteuid():
        os.close(file)
        raise PermissionError(1, "it is not a file of this user", str(path))
    return file


def own_folder(path: Path) -> None:
    """Create a folder with mode 0700, or use one of this user; OSError for anything else."""
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        facts = path.lstat()
        if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.geteuid():
            raise PermissionError(1, "it is not a folder of this user", str(path)) from None


def publish_mode(path: Path, replaced: Path | None) -> None:
    """Give a file or folder the mode of what it replaces, else that of any new one."""
    kept = None
    if replaced is not None and not replaced.is_symlink() and replaced.exists():
        kept = stat.S_IMODE(replaced.stat().st_mode)
    if kept is None:
        kept = (0o777 if path.is_dir() else 0o666) & ~_umask()
    path.chmod(kept)


def _umask() -> int:
    """The umask of this process.

    Linux tells it (https://man7.org/linux/man-pages/man5/proc_pid_status.5.html). Elsewhere it can
    only be asked by setting it, for all threads at once: for a moment, to the strictest.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        status = ""
    found = re.search(r"^Umask:\s*([0-7]+)", status, re.MULTILINE)
    if found is not None:
        return int(found[1], 8)
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
