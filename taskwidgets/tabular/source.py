"""Which file it is, and whether it is still the same one.

A job that resumes after a restart must not mix the bytes of two files. Reading all of a large
file again to be sure would take as long as loading it, so a `Fingerprint` has its size, its time
of modification and a hash over blocks spread through it.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from taskwidgets.errors import SourceError

__all__ = ["Fingerprint", "check_readable", "describe_change"]

_SAMPLE_BYTES = 4096  # bytes per block: one page
_SPREAD_BLOCKS = 16  # between head and tail

_KINDS = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


@dataclass(frozen=True)
class Fingerprint:
    """A regular file as it was at one moment.

    ``size`` is in bytes, ``mtime_ns`` in nanoseconds since 1970 (UTC), ``sample`` the SHA-256 in
    hexadecimal over the first 4 KiB, up to 16 blocks of 4 KiB spread evenly, and the last 4 KiB.
    ``ctime_ns`` is the time of the last change of the inode, which programs cannot set: a file
    that is rewritten in place and gets its old ``mtime`` back (``rsync --inplace -t``) has another.
    Both are None in fingerprints that earlier releases have stored.
    """

    size: int
    mtime_ns: int
    sample: str
    ctime_ns: int | None = None
    inode: int | None = None

    @classmethod
    def of(cls, path: str | Path) -> Fingerprint:
        """The file's fingerprint now; SourceError when it cannot be read."""
        path = check_readable(path)
        digest = hashlib.sha256()
        try:
            with path.open("rb") as file:
                facts = os.fstat(file.fileno())
                for offset in _sample_offsets(facts.st_size):
                    file.seek(offset)
                    digest.update(file.read(_SAMPLE_BYTES))
        except OSError as error:
            raise _unreadable(path, error) from None
        return cls(
            facts.st_size,
            facts.st_mtime_ns,
            digest.hexdigest(),
            facts.st_ctime_ns,
            facts.st_ino,
        )

    @classmethod
    def of_bytes(cls, data: bytes, facts: os.stat_result) -> Fingerprint:
        """The fingerprint of a file that is read already: all of its bytes, and its facts."""
        digest = hashlib.sha256()
        for offset in _sample_offsets(len(data)):
            digest.update(data[offset : offset + _SAMPLE_BYTES])
        return cls(
            len(data), facts.st_mtime_ns, digest.hexdigest(), facts.st_ctime_ns, facts.st_ino
        )

    def has_sample_of(self, other: Fingerprint) -> bool:
        """Whether the samples are equal, as far as both are kept."""
        length = min(len(self.sample), len(other.sample))
        return self.sample[:length] == other.sample[:length]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Fingerprint):
            return NotImplemented
        mine = (self.size, self.mtime_ns, self.ctime_ns, self.inode)
        theirs = (other.size, other.mtime_ns, other.ctime_ns, other.inode)
        return mine == theirs and self.has_sample_of(other)

    def __hash__(self) -> int:
        return hash((self.size, self.mtime_ns, self.ctime_ns, self.inode))

    def is_touched(self, facts: os.stat_result) -> bool:
        """Whether a file of the same size and mtime was changed or replaced all the same.

        Only its bytes can tell: a new mode, or a copy with the old times, looks like that, too.
        """
        return (self.ctime_ns, self.inode) not in (
            (None, None),
            (facts.st_ctime_ns, facts.st_ino),
        )

    def to_json(self) -> dict[str, int | str | None]:
        """A plain dict for a checkpoint."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, object]) -> Fingerprint:
        """The fingerprint that `to_json` wrote; ValueError when it is not one."""
        match data:
            case {"size": int(size), "mtime_ns": int(mtime_ns), "sample": str(sample)}:
                ctime_ns, inode = data.get("ctime_ns"), data.get("inode")
                return cls(
                    size,
                    mtime_ns,
                    sample,
                    ctime_ns if isinstance(ctime_ns, int) else None,
                    inode if isinstance(inode, int) else None,
                )
        raise ValueError(f"not a fingerprint: {dict(data)!r}")


def describe_change(then: Fingerprint, now: Fingerprint) -> str | None:
    """What changed between two fingerprints of one file, in plain words; None: nothing did.

    A time of modification that differs is a change even where size and sample are equal, as
    bytes outside the sample may have been edited; so is another inode, or one that was changed.
    """
    changes = []
    if now.size != then.size:
        difference = abs(now.size - then.size)
        unit = "byte" if difference == 1 else "bytes"
        changes.append(f"{difference:,} {unit} {'longer' if now.size > then.size else 'shorter'}")
    if now.mtime_ns != then.mtime_ns:
        before, after = _moment(then.mtime_ns), _moment(now.mtime_ns)
        if before == after:
            before, after = _moment(then.mtime_ns, exact=True), _moment(now.mtime_ns, exact=True)
        changes.append(f"modified {after} UTC instead of {before} UTC")
    if not now.has_sample_of(then) and now.size == then.size:
        changes.append("with other contents")
    known = None not in (then.ctime_ns, now.ctime_ns)
    if not changes and known and (then.ctime_ns, then.inode) != (now.ctime_ns, now.inode):
        changes.append("changed or replaced since, with the same size and time of modification")
    return ", ".join(changes) or None


def check_readable(path: str | Path) -> Path:
    """The path, absolute and with ``~`` expanded, of a regular file that can be opened.

    Raises SourceError for everything else, before anything is opened that could block.
    """
    given = Path(path)
    try:
        absolute = given.expanduser().absolute()
        mode = absolute.stat().st_mode
    except FileNotFoundError:
        raise SourceError(_missing(absolute), path=absolute) from None
    except (OSError, RuntimeError, ValueError) as error:  # ~nobody-such, NUL in the name, ...
        raise _unreadable(given, error) from None
    if stat.S_ISDIR(mode):
        raise SourceError(f"{absolute} is a directory, not a file", path=absolute)
    if not stat.S_ISREG(mode):
        kind = next((name for is_kind, name in _KINDS if is_kind(mode)), "not a regular file")
        raise SourceError(
            f"{absolute} is {kind}; a load that can resume needs a regular file", path=absolute
        )
    try:
        with absolute.open("rb"):
            pass
    except OSError as error:
        raise _unreadable(absolute, error) from None
    return absolute


def _unreadable(path: Path, error: Exception) -> SourceError:
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return SourceError(f"{path} cannot be read: {reason}", path=path)


def _missing(path: Path) -> str:
    if path.is_symlink():
        return f"{path} is a link to {path.readlink()}, which does not exist"
    folder = path.parent
    if not folder.is_dir():
        return f"{path} does not exist: there is no folder {folder}"
    try:
        names = [entry.name for entry in folder.iterdir()]
    except OSError:
        names = []
    near = difflib.get_close_matches(path.name, names, n=3)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return f"{path} does not exist{hint}"


def _sample_offsets(size: int) -> list[int]:
    last = max(size - _SAMPLE_BYTES, 0)
    parts = _SPREAD_BLOCKS + 1
    return sorted({last * part // parts for part in range(parts + 1)})


def _moment(nanoseconds: int, *, exact: bool = False) -> str:
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
    return f"{text}.{rest:09d}" if exact else text
