"""The folders below one root: what is in them, and nothing outside of it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from taskwidgets.errors import OptionError, SourceError, TargetError, TargetExists

__all__ = ["DATA_ENDINGS", "Entry", "Folders", "Listing"]

# Of files that may be delimited text, packed or not.
DATA_ENDINGS = frozenset(
    {
        ".csv", ".tsv", ".tab", ".psv", ".txt", ".dat", ".asc",
        ".gz", ".zst", ".bz2", ".xz", ".zip",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """A folder or a data file; ``size`` in bytes, 0 for a folder; ``modified`` in local time."""

    name: str
    path: Path
    is_folder: bool
    size: int
    modified: datetime


@dataclass(frozen=True)
class Listing:
    """What is in a folder: ``others`` is the number of files that are no data files."""

    folder: Path
    entries: tuple[Entry, ...]
    others: int


class Folders:
    """The folders below ``root``; links and ``..`` lead nowhere else."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    def inside(self, path: str | Path) -> Path:
        """The absolute path, when it lies below the root; SourceError otherwise.

        A relative path begins at the root.
        """
        joined = self.root / path
        try:
            real = joined.resolve()
        except (OSError, ValueError, RuntimeError) as error:  # a loop of links, a NUL
            raise SourceError(f"{str(path)!r} is no path: {error}") from None
        if not real.is_relative_to(self.root):
            raise SourceError(
                f"{path} is not below {self.root}, where files can be chosen; a file elsewhere "
                'can be loaded by tw.upload("path", "table")',
                path=str(path),
            )
        return real if ".." in joined.parts else joined

    def shown(self, path: Path) -> str:
        """A path as it is seen from the root; "" for the root itself."""
        relative = path.relative_to(self.root).as_posix()
        return "" if relative == "." else relative

    def listing(self, folder: Path) -> Listing:
        """Folders and data files in a folder, the folders first; hidden ones are left out."""
        folder = self.inside(folder)
        found: list[Entry] = []
        others = 0
        try:
            with os.scandir(folder) as entries:
                for one in entries:
                    if one.name.startswith("."):
                        continue
                    entry = self._entry(one)
                    if entry is not None:
                        found.append(entry)
                    elif one.is_file(follow_symlinks=False):
                        others += 1
        except OSError as error:
            raise SourceError(
                f"{folder} cannot be looked into: {error.strerror or error}", path=folder
            ) from None
        found.sort(key=lambda entry: (not entry.is_folder, entry.name.casefold(), entry.name))
        return Listing(folder, tuple(found), others)

    def _entry(self, one: os.DirEntry[str]) -> Entry | None:
        path = Path(one.path)
        try:
            if one.is_symlink() and not path.resolve().is_relative_to(self.root):
                return None
            is_folder = one.is_dir()
            if not is_folder and not (one.is_file() and path.suffix.lower() in DATA_ENDINGS):
                return None
            status = one.stat()
        except (OSError, RuntimeError):  # gone meanwhile, or a link that leads to itself
            return None
        modified = datetime.fromtimestamp(status.st_mtime)
        return Entry(one.name, path, is_folder, 0 if is_folder else status.st_size, modified)

    def save(self, folder: Path, name: str, content: bytes | memoryview) -> Path:
        """Write a new file; TargetExists when there is one of this name, which is left alone."""
        if not name or name.startswith(".") or any(sign in name for sign in "/\\\0"):
            raise OptionError(f"{name!r} is no name for a file here")
        path = self.inside(folder) / name
        try:
            with path.open("xb") as file:
                try:
                    file.write(content)
                except OSError:
                    path.unlink(missing_ok=True)
                    raise
        except FileExistsError:
            raise TargetExists(
                f"{self.shown(path)} exists already and was left as it is; choose it in the "
                "list, or rename the file that you send"
            ) from None
        except OSError as error:
            raise TargetError(f"{path} cannot be written: {error.strerror or error}") from None
        return path
