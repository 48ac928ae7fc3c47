"""Where part files are written: a folder of this machine, or one at a URL, through fsspec.

A place can be sent to another process, which writes there as well. A part is durable when
``finish`` has returned: then, and not before, a checkpoint may speak of it.
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from taskwidgets.errors import TargetError
from taskwidgets.transfers.origins.extras import extra
from taskwidgets.transfers.origins.masks import Secrets, masked_url

__all__ = ["DiskPlace", "NewFile", "Place", "PlaceGone", "UrlPlace", "disk_error", "sync_folder"]


class PlaceGone(TargetError):
    """The folder is not there, or not seen from here."""


class NewFile(Protocol):
    """A file that is being written."""

    def write(self, data: bytes | memoryview) -> None:
        """Add to it; TargetError where that is not possible."""

    def finish(self) -> None:
        """Have it stay, whatever happens to this machine; TargetError where it does not."""

    def abandon(self) -> None:
        """Remove it, as far as that is possible; never raises."""


class Place(Protocol):
    """A folder in which parts are written; picklable."""

    def create(self, name: str) -> NewFile:
        """A new file of a name that nobody else uses; TargetError where there can be none."""


# ---------------------------------------------------------------------- of this machine


@dataclass(frozen=True)
class DiskPlace:
    """A folder that is there already: whoever is late finds it gone, and makes no new one."""

    folder: str

    def create(self, name: str) -> NewFile:
        return _DiskFile(Path(self.folder) / name)


class _DiskFile:
    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._file = os.open(path, flags, 0o666)  # less the umask
        except FileNotFoundError:
            raise PlaceGone(f"the folder {path.parent} is not there any more") from None
        except OSError as error:
            raise disk_error(path, error) from error

    def write(self, data: bytes | memoryview) -> None:
        view = memoryview(data).cast("B")
        try:
            while view:
                view = view[os.write(self._file, view) :]
        except OSError as error:
            raise disk_error(self._path, error) from error

    def finish(self) -> None:
        try:
            os.fsync(self._file)
            self._close()
            sync_folder(self._path.parent)  # the name is on the disk as well
        except FileNotFoundError:
            raise PlaceGone(f"the folder {self._path.parent} is not there any more") from None
        except OSError as error:
            raise disk_error(self._path, error) from error

    def abandon(self) -> None:
        with suppress(OSError):
            self._close()
        with suppress(OSError):
            self._path.unlink()

    def _close(self) -> None:
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)


def sync_folder(folder: Path) -> None:
    """Have the disk hold the names in it."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def disk_error(path: Path, error: OSError) -> TargetError:
    """What the system says, in words for the user."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return TargetError(
            f"the disk is full: {path.parent} has no room for the next part of the export. Make "
            "room and resume; the parts that are written stay"
        )
    if error.errno == errno.EFBIG:
        return TargetError(
            f"{path} may not become that large: a limit of this process or of the file system. "
            "Raise it and resume; the parts that are written stay"
        )
    return TargetError(f"{path} cannot be written: {error.strerror}")


# ---------------------------------------------------------------------- at a URL


@dataclass(frozen=True)
class UrlPlace:
    """A folder at a URL; ``options``, as fsspec has them, and the URL may hold secrets."""

    url: str = field(repr=False)
    options: Mapping[str, object] = field(repr=False)

    @property
    def shown(self) -> str:
        """The URL without its secrets."""
        return masked_url(self.url)

    def opened(self) -> tuple[Any, str]:
        """fsspec's file system, and the folder's path there."""
        fsspec = extra("fsspec", f"{self.shown} is written through fsspec")
        try:
            # Not among fsspec's remembered ones: neither listings nor secrets are to stay there.
            system, path = fsspec.core.url_to_fs(
                self.url, skip_instance_cache=True, use_listings_cache=False, **self.options
            )
        except Exception as error:  # noqa: BLE001 - of whatever library the protocol has
            raise self.error(error) from None
        return system, str(path).rstrip("/")

    def create(self, name: str) -> NewFile:
        return _UrlFile(self, name)

    def error(self, error: BaseException) -> TargetError:
        """What went wrong there, without secrets."""
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return TargetError(
                f"there is no room at {self.shown} for the next part of the export. Make room and "
                "resume; the parts that are written stay"
            )
        words = Secrets(self.url, self.options).out_of(str(error) or type(error).__name__)
        return TargetError(f"{self.shown} cannot be written: {words}")


class _UrlFile:
    """What is put there appears with its end, or grows; only what is recorded counts."""

    def __init__(self, place: UrlPlace, name: str) -> None:
        self._place = place
        self._system, folder = place.opened()
        self._path = f"{folder}/{name}"
        try:
            try:
                self._file = self._system.open(self._path, "wb")
            except FileNotFoundError:  # of a protocol that has folders
                self._system.makedirs(folder, exist_ok=True)
                self._file = self._system.open(self._path, "wb")
        except Exception as error:  # noqa: BLE001 - of whatever library the protocol has
            raise place.error(error) from None

    def write(self, data: bytes | memoryview) -> None:
        try:
            self._file.write(data)
        except Exception as error:  # noqa: BLE001 - see above
            raise self._place.error(error) from None

    def finish(self) -> None:
        try:
            with suppress(AttributeError, io.UnsupportedOperation):  # a file of some disk
                file = self._file.fileno()
                self._file.flush()
                os.fsync(file)
            self._file.close()
        except Exception as error:  # noqa: BLE001 - see above
            raise self._place.error(error) from None

    def abandon(self) -> None:
        # A large file that is sent in pieces is given up before it comes into being.
        for act in (getattr(self._file, "discard", None), self._file.close):
            with suppress(Exception):
                if act is not None:
                    act()
        with suppress(Exception):
            self._system.rm_file(self._path)
