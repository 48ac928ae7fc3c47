"""A folder on this machine: made under a partial name beside the final one, renamed whole.

What it replaces is renamed first, and there for as long as the export can be undone. Between the
two renames, for the blink of an eye, there is nothing under the name.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from taskwidgets.engine.private_files import own_folder, publish_mode
from taskwidgets.errors import SourceChanged, TargetError, TargetExists
from taskwidgets.runtime.failpoints import reach
from taskwidgets.transfers.folders import check_parts, exists_already
from taskwidgets.transfers.manifest import MANIFEST, check_ours, listed
from taskwidgets.transfers.partial_file import older_path, partial_path
from taskwidgets.transfers.places import DiskPlace, disk_error, sync_folder

__all__ = ["DiskFolder"]


class DiskFolder:
    """See ``Folder``."""

    def __init__(self, path: Path, job_id: int, *, replace: bool) -> None:
        self._path = path
        self._partial = partial_path(path, job_id)
        self._older = older_path(self._partial)
        self._replace = replace
        self.place = DiskPlace(str(self._partial))

    def check(self) -> None:
        path = self._path
        try:
            if not path.parent.is_dir():
                what = "is not a directory" if path.parent.exists() else "does not exist"
                raise TargetError(f"the folder {path.parent} {what}; create it first")
            self._check_free()
            if not os.access(path.parent, os.W_OK | os.X_OK):
                raise TargetError(f"the folder {path.parent} is not writable for this user")
        except OSError as error:  # a folder above that may not be looked into, too long a name
            raise TargetError(f"{path} cannot be written: {error.strerror}") from error
        except ValueError as error:  # a NUL in the name
            raise TargetError(f"{str(path)!r} is no path: {error}") from None

    def _check_free(self) -> None:
        path = self._path
        if path.is_symlink():
            raise TargetError(f"{path} is a link; name the folder itself")
        if not path.exists():
            return
        if not path.is_dir():
            raise TargetError(f"{path} is a file, and a path that ends in / means a folder")
        names = os.listdir(path)  # noqa: PTH208 - names are all that is needed
        if not names:
            return
        if not self._replace:
            raise exists_already(str(path))
        check_ours(str(path), names, _read(path / MANIFEST))

    def begin(self, parts: Mapping[str, int]) -> None:
        if parts:
            if not self._partial.is_dir():
                raise self._gone()
            check_parts(str(self._partial), parts, _sizes(self._partial))
            return
        try:
            own_folder(self._partial)
            sync_folder(self._partial.parent)
        except FileNotFoundError as error:
            raise TargetError(f"the folder {self._path.parent} is not there any more") from error
        except OSError as error:
            raise disk_error(self._partial, error) from error

    def _gone(self) -> SourceChanged:
        return SourceChanged(
            f"{self._partial}, which held the export, is gone; start over with again=True"
        )

    def final_name(self, number: int, name: str) -> str:
        return f"part-{number:05}.{name.partition('.')[2]}"

    def is_taken(self) -> bool:
        return self._path.is_dir() and any(self._path.iterdir())

    def publish(self, manifest: bytes, names: Mapping[str, str]) -> None:
        if not self._partial.is_dir():
            if _read(self._path / MANIFEST) != manifest:
                raise self._gone()
            return
        try:
            self._complete(manifest, names)
        except OSError as error:
            raise disk_error(self._partial, error) from error
        try:
            publish_mode(self._partial, self._path if self._replace else None)
            # Where only this one's name is missing, the older one has given up its own already.
            if self._path.exists() or self._path.is_symlink():
                self._check_free()
                if any(self._path.iterdir()):
                    self._path.rename(self._older)
                    reach("between the two names")
            self._partial.rename(self._path)  # over an empty folder, but never over a file
            sync_folder(self._path.parent)
            # Of somebody who had lost the job, and begun it before the name changed.
            self._sweep(self._path, set(names.values()))
        except TargetExists:
            raise TargetExists(
                f"{self._path} has come into being meanwhile; move it away and resume, or terminate"
            ) from None
        except OSError as error:
            raise TargetError(
                f"the export is whole, but cannot be named {self._path}: {error.strerror}. It "
                f"stands in {self._partial}; mend that and resume, or terminate"
            ) from error

    def _complete(self, manifest: bytes, names: Mapping[str, str]) -> None:
        """The parts under their final names, the manifest, and nothing else."""
        for name, final in names.items():
            part = self._partial / name
            if part.exists():  # else a publication that was cut off has named it
                part.rename(self._partial / final)
        check_parts(str(self._partial), listed(manifest) or {}, _sizes(self._partial))
        self._sweep(self._partial, set(names.values()))
        new = self._partial / f"{MANIFEST}.new"
        with new.open("wb") as file:
            file.write(manifest)
            file.flush()
            os.fsync(file.fileno())
        new.rename(self._partial / MANIFEST)
        sync_folder(self._partial)

    @staticmethod
    def _sweep(folder: Path, counted: set[str]) -> None:
        for path in folder.iterdir():
            if path.name not in counted and path.name != MANIFEST:
                path.unlink(missing_ok=True)

    def settle(self) -> None:
        _remove(self._older)

    def undo(self, sha256: str | None, *, over: bool) -> None:
        try:
            is_alone = self._older.exists() or not over
            if is_alone and not self._partial.exists() and self._is_published(sha256):
                _remove(self._path)
            if self._older.exists():  # cut off between its name and its record
                if not self._path.exists():
                    self._older.rename(self._path)
                else:
                    _remove(self._older)
            _remove(self._partial)
        except OSError as error:
            raise TargetError(f"{self._partial} cannot be removed: {error.strerror}") from error

    def _is_published(self, sha256: str | None) -> bool:
        data = _read(self._path / MANIFEST)
        return data is not None and hashlib.sha256(data).hexdigest() == sha256

    def stands(self, sha256: str) -> bool:
        data = _read(self._path / MANIFEST)
        if data is None or hashlib.sha256(data).hexdigest() != sha256:
            return False
        known, found = listed(data), _sizes(self._path)
        return known is not None and all(found.get(name) == size for name, size in known.items())


def _sizes(folder: Path) -> dict[str, int]:
    with os.scandir(folder) as entries:
        return {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
