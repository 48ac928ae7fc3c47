"""A folder at a URL, where nothing can be renamed: its manifest, which comes last, makes it whole.

Parts lie there under the names of the attempts that wrote them, which no other one has; so neither
those of a folder that is replaced are written over, nor one copy of a part by another. Whoever
reads goes by the manifest. Until the export is recorded as completed, what it replaces is there as
well.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from taskwidgets.errors import TargetError, TargetExists
from taskwidgets.runtime.failpoints import reach
from taskwidgets.transfers.folders import check_parts, exists_already
from taskwidgets.transfers.manifest import MANIFEST, check_ours, listed
from taskwidgets.transfers.places import UrlPlace

__all__ = ["UrlFolder"]

# What a worker may have left that was cut off from everything, of whatever export.
_STRAY = re.compile(r"part-\d+-[0-9a-f]{8}-[0-9a-f]{8}\.|_manifest-[0-9a-f]{8}\.")

T = TypeVar("T")


class UrlFolder:
    """See ``Folder``; ``token`` stands in the names of all that the job writes."""

    def __init__(self, place: UrlPlace, token: str, *, replace: bool) -> None:
        self.place = place
        self._token = token
        self._replace = replace
        self._older = f"_manifest-{token}.older.json"  # a copy of that which is replaced
        self._new = f"_manifest-{token}.new.json"
        self._opened: tuple[Any, str] | None = None

    def check(self) -> None:
        self._check_free(self._names())

    def _check_free(self, names: Mapping[str, int]) -> None:
        others = {name for name in names if not self._is_mine(name)}
        if not others:
            return
        if not self._replace:
            raise exists_already(self.place.shown)
        others = {name for name in others if not _STRAY.match(name)}
        check_ours(self.place.shown, others, self._read(MANIFEST))

    def begin(self, parts: Mapping[str, int]) -> None:
        if parts:
            check_parts(self.place.shown, parts, self._names())

    def final_name(self, number: int, name: str) -> str:
        return name

    def is_taken(self) -> bool:
        return MANIFEST in self._names()

    def publish(self, manifest: bytes, names: Mapping[str, str]) -> None:
        found = self._names()
        check_parts(self.place.shown, listed(manifest) or {}, found)
        counted = {*names, self._older}
        self._remove(name for name in found if self._is_mine(name) and name not in counted)
        before = self._read(MANIFEST) if MANIFEST in found else None
        if before == manifest:
            return
        try:
            self._check_free(found)
        except TargetExists:
            raise TargetExists(
                f"{self.place.shown} has got other files meanwhile; move them away and resume, or "
                "terminate"
            ) from None
        if before is not None:
            self._put(self._older, before)
            reach("between the two names")
        self._put(MANIFEST, manifest)

    def settle(self) -> None:
        older = self._read(self._older)
        if older is not None:
            counted = set(listed(self._read(MANIFEST) or b"") or ())
            self._remove(name for name in listed(older) or () if name not in counted)
            self._remove([self._older])

    def undo(self, sha256: str | None, *, over: bool) -> None:
        data = self._read(MANIFEST)
        if data is not None and hashlib.sha256(data).hexdigest() == sha256:
            older = self._read(self._older)
            if older is not None:
                self._put(MANIFEST, older)
            elif over:
                return  # what it replaced is gone already: then this one stays
            else:
                self._remove([MANIFEST])
        self._remove(name for name in self._names() if self._is_mine(name))

    def stands(self, sha256: str) -> bool:
        data = self._read(MANIFEST)
        if data is None or hashlib.sha256(data).hexdigest() != sha256:
            return False
        known, found = listed(data), self._names()
        return known is not None and all(found.get(name) == size for name, size in known.items())

    # ------------------------------------------------------------------ what is done there

    def _is_mine(self, name: str) -> bool:
        return re.match(rf"(part-\d+|_manifest)-{self._token}[.-]", name) is not None

    def _do(self, act: Callable[[Any, str], T]) -> T:
        """With the file system and the folder's path there."""
        if self._opened is None:
            self._opened = self.place.opened()
        try:
            return act(*self._opened)
        except TargetError:
            raise
        except Exception as error:  # noqa: BLE001 - of whatever library the protocol has
            raise self.place.error(error) from None

    def _names(self) -> dict[str, int]:
        """What is in the folder, with its bytes."""

        def act(system: Any, folder: str) -> dict[str, int]:
            try:
                found = system.ls(folder, detail=True)
            except FileNotFoundError:
                return {}
            paths = {str(one["name"]).rstrip("/"): one.get("size") for one in found}
            return {
                posixpath.basename(path): int(size or 0)
                for path, size in paths.items()
                if path.strip("/") != folder.strip("/")
            }

        return self._do(act)

    def _read(self, name: str) -> bytes | None:
        def act(system: Any, folder: str) -> bytes | None:
            try:
                return bytes(system.cat_file(f"{folder}/{name}"))
            except FileNotFoundError:
                return None

        return self._do(act)

    def _put(self, name: str, data: bytes) -> None:
        """In one step: who reads it sees the one before, or this one."""

        def act(system: Any, folder: str) -> None:
            path = f"{folder}/{name}"
            if "file" not in _protocols(system):
                system.pipe_file(path, data)
                return
            system.makedirs(folder, exist_ok=True)
            system.pipe_file(f"{folder}/{self._new}", data)
            system.mv(f"{folder}/{self._new}", path)

        self._do(act)

    def _remove(self, names: Iterable[str]) -> None:
        def act(system: Any, folder: str) -> None:
            paths = [f"{folder}/{name}" for name in names]
            if paths:
                try:
                    system.rm(paths)
                except FileNotFoundError:  # some were removed before
                    for path in paths:
                        with suppress(FileNotFoundError):
                            system.rm_file(path)

        self._do(act)


def _protocols(system: Any) -> tuple[str, ...]:
    named = system.protocol
    return (named,) if isinstance(named, str) else tuple(named)
