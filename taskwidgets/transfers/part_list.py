"""The files of an upload of several: a hundred thousand of them in a few megabytes.

In memory, each file is a row of arrays, and its name; what many files have in common (the dialect,
the columns) is there once. In the store, the arrays are packed. Few files are stored as a list of
objects, which is what earlier releases have stored for any number.
"""

from __future__ import annotations

import base64
import zlib
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np

from taskwidgets.tabular.description import Description
from taskwidgets.tabular.dialect import Dialect
from taskwidgets.tabular.source import Fingerprint

__all__ = ["Part", "PartList", "pack_texts", "unpack_texts"]

FEW = 100  # files that are stored as a list
SAMPLE_BYTES = 8  # that are kept of the hash of a file's sample
UNKNOWN = -1
_NUMBERS = (
    "size",
    "mtime_ns",
    "ctime_ns",
    "inode",
    "data_start",
    "data_stop",
    "first_line",
    "like",
    "sample",
)


@dataclass(frozen=True)
class Part:
    """One of several files that are loaded into one table; ``name`` is what tells it apart.

    Its columns are those of the table, in its own order. All else is as in `UploadPlan`.
    """

    name: str
    path: Path
    fingerprint: Fingerprint
    dialect: Dialect
    columns: tuple[str, ...]
    data_start: int
    data_stop: int | None
    first_line: int
    description: Description | None
    made_of: Mapping[str, Any] | None = None  # the file that a spool was made of

    @property
    def length(self) -> int | None:
        """Bytes of data; None where only reading will tell."""
        return None if self.data_stop is None else self.data_stop - self.data_start

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary for the store."""
        return {
            "name": self.name,
            "path": str(self.path),
            "fingerprint": self.fingerprint.to_json(),
            "dialect": self.dialect.to_json(),
            "columns": list(self.columns),
            "data_start": self.data_start,
            "data_stop": self.data_stop,
            "first_line": self.first_line,
            "description": None if self.description is None else self.description.to_json(),
            "made_of": None if self.made_of is None else dict(self.made_of),
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Part:
        """The reverse of ``to_json``."""
        described = stored["description"]
        return cls(
            name=stored["name"],
            path=Path(stored["path"]),
            fingerprint=Fingerprint.from_json(stored["fingerprint"]),
            dialect=Dialect.from_json(stored["dialect"]),
            columns=tuple(stored["columns"]),
            data_start=stored["data_start"],
            data_stop=stored["data_stop"],
            first_line=stored["first_line"],
            made_of=stored["made_of"],
            description=None if described is None else Description.from_json(described),
        )


_Like = tuple[Dialect, tuple[str, ...], Description | None]


class PartList(Sequence[Part]):
    """Files in their order; a file that is asked for is made into a `Part`."""

    def __init__(self, parts: Iterable[Part] = ()) -> None:
        self._names: dict[int, str] = {}  # that are not the ends of their paths
        self._folder = 0  # how much of a path comes before its name
        self._paths: list[str] = []
        self._samples: list[str] = []  # of few files, all of it
        self._json: Any = None
        self._numbers = {name: array("q") for name in _NUMBERS}
        self._likes: list[_Like] = []
        self._like_numbers: dict[str, int] = {}
        self._made_of: dict[int, Mapping[str, Any]] = {}
        for part in parts:
            self.append(part)

    def append(self, part: Part) -> None:
        """Add a file at the end; only while nobody else has the list."""
        number, path = len(self._paths), str(part.path)
        if part.made_of is not None:
            self._made_of[number] = part.made_of
        if not number and path.endswith(part.name):
            self._folder = len(path) - len(part.name)
        if path[self._folder :] != part.name:
            self._names[number] = part.name
        self._paths.append(path)
        self._json = None
        own, numbers = part.fingerprint, self._numbers
        if number < FEW:
            self._samples.append(own.sample)
        for name, value in (
            ("size", own.size),
            ("mtime_ns", own.mtime_ns),
            ("ctime_ns", own.ctime_ns),
            ("inode", own.inode),
            ("data_start", part.data_start),
            ("data_stop", part.data_stop),
            ("first_line", part.first_line),
            ("like", self._like(part)),
            ("sample", int(own.sample[: 2 * SAMPLE_BYTES] or "0", 16)),
        ):
            # An inode may have 64 bits, without a sign.
            numbers[name].append(
                UNKNOWN if value is None else value if value < 1 << 63 else value - (1 << 64)
            )

    def __len__(self) -> int:
        return len(self._paths)

    @overload
    def __getitem__(self, number: int) -> Part: ...
    @overload
    def __getitem__(self, number: slice) -> list[Part]: ...
    def __getitem__(self, number: int | slice) -> Part | list[Part]:
        if isinstance(number, slice):
            return [self[one] for one in range(*number.indices(len(self)))]
        if not -len(self) <= number < len(self):
            raise IndexError(number)
        number %= len(self)
        values = {name: numbers[number] for name, numbers in self._numbers.items()}
        dialect, columns, description = self._likes[values["like"]]
        ctime, inode, stop = values["ctime_ns"], values["inode"], values["data_stop"]
        return Part(
            name=self.name(number),
            path=Path(self._paths[number]),
            fingerprint=Fingerprint(
                values["size"],
                values["mtime_ns"],
                self._samples[number]
                if len(self) <= FEW
                else f"{values['sample'] % (1 << 64):0{2 * SAMPLE_BYTES}x}",
                None if ctime == UNKNOWN else ctime,
                None if inode == UNKNOWN else inode % (1 << 64),
            ),
            dialect=dialect,
            columns=columns,
            data_start=values["data_start"],
            data_stop=None if stop == UNKNOWN else stop,
            first_line=values["first_line"],
            description=description,
            made_of=self._made_of.get(number),
        )

    def __iter__(self) -> Iterator[Part]:
        return (self[number] for number in range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PartList) and self.to_json() == other.to_json()

    __hash__ = None  # type: ignore[assignment]

    @property
    def sizes(self) -> Sequence[int]:
        """Bytes of each file."""
        return self._numbers["size"]

    @property
    def paths(self) -> Sequence[str]:
        """Where each file is."""
        return self._paths

    def name(self, number: int) -> str:
        """What tells a file apart."""
        return self._names.get(number) or self._paths[number][self._folder :]

    def bounds(self, number: int) -> tuple[int, int | None]:
        """Where a file's data begin and end; None: only reading will tell."""
        stop = self._numbers["data_stop"][number]
        return self._numbers["data_start"][number], None if stop == UNKNOWN else stop

    def has_description(self, number: int) -> bool:
        """Whether COPY cannot read the file as it stands."""
        return self._likes[self.like(number)][2] is not None

    def like(self, number: int) -> int:
        """A number that files with the same dialect, columns and description have in common."""
        return self._numbers["like"][number]

    def has_facts(self, number: int, size: int, mtime_ns: int, ctime_ns: int, inode: int) -> bool:
        """Whether a file has this size, these times and this inode: then its bytes are the same."""
        numbers = self._numbers
        return (
            numbers["size"][number],
            numbers["mtime_ns"][number],
            numbers["ctime_ns"][number],
            numbers["inode"][number] % (1 << 64),
        ) == (size, mtime_ns, ctime_ns, inode)

    @property
    def representatives(self) -> Iterator[int]:
        """One file of each kind, by its number."""
        seen = set()
        for number, like in enumerate(self._numbers["like"]):
            if like not in seen:
                seen.add(like)
                yield number

    @property
    def made_of(self) -> Mapping[int, Mapping[str, Any]]:
        """By number, what spools were made of."""
        return self._made_of

    @property
    def length(self) -> int | None:
        """Bytes of data of all files; None where only reading will tell."""
        stops = np.frombuffer(self._numbers["data_stop"], np.int64)
        if (stops == UNKNOWN).any():
            return None
        return int(stops.sum() - np.frombuffer(self._numbers["data_start"], np.int64).sum())

    def replaced(self, changed: Mapping[int, Part]) -> PartList:
        """The list with other parts in some places."""
        return PartList(changed.get(number) or part for number, part in enumerate(self))

    def with_dialects(self, dialects: Mapping[int, Dialect]) -> PartList:
        """The list with other dialects for all files that are `like` some number."""
        made = PartList()
        made.__dict__.update(self.__dict__)
        made._json = None
        made._likes = [
            (dialects.get(number, dialect), columns, description)
            for number, (dialect, columns, description) in enumerate(self._likes)
        ]
        return made

    def to_json(self) -> Any:
        """What the store keeps: a list of few files, else one packed object."""
        if self._json is None:
            self._json = self._to_json()
        return self._json

    def is_stored_as(self, stored: Any) -> bool:
        """Whether this is the list that the store keeps so."""
        return self._json is not None and bool(self._json == stored)

    def _to_json(self) -> Any:
        if len(self) <= FEW:
            return [part.to_json() for part in self]
        return {
            "count": len(self),
            "folder": self._folder,
            "names": {str(number): name for number, name in self._names.items()},
            "paths": pack_texts(self._paths),
            "numbers": {
                name: _packed(
                    np.diff(np.frombuffer(numbers, np.int64), prepend=0).astype("<i8").tobytes()
                )
                for name, numbers in self._numbers.items()
            },
            "like": [
                {
                    "dialect": dialect.to_json(),
                    "columns": list(columns),
                    "description": None if description is None else description.to_json(),
                }
                for dialect, columns, description in self._likes
            ],
            "made_of": {str(number): dict(one) for number, one in self._made_of.items()},
        }

    @classmethod
    def from_json(cls, stored: Any) -> PartList:
        """The reverse of ``to_json``."""
        if isinstance(stored, list):
            return cls(map(Part.from_json, stored))
        made = cls()
        made._folder = stored["folder"]
        made._names = {int(number): name for number, name in stored["names"].items()}
        made._paths = unpack_texts(stored["paths"])
        for name in _NUMBERS:
            steps = np.frombuffer(_unpacked(stored["numbers"][name]), "<i8")
            made._numbers[name] = array("q", np.cumsum(steps).astype(np.int64).tobytes())
        made._likes = [
            (
                Dialect.from_json(one["dialect"]),
                tuple(one["columns"]),
                None if one["description"] is None else Description.from_json(one["description"]),
            )
            for one in stored["like"]
        ]
        made._made_of = {int(number): one for number, one in stored["made_of"].items()}
        made._json = stored
        return made

    def _like(self, part: Part) -> int:
        key = repr((part.dialect, part.columns, part.description))
        found = self._like_numbers.get(key)
        if found is None:
            found = self._like_numbers[key] = len(self._likes)
            self._likes.append((part.dialect, part.columns, part.description))
        return found


def pack_texts(texts: Sequence[str]) -> str:
    """Texts without NUL as one packed text."""
    return _packed("\0".join(texts).encode())


def unpack_texts(packed: str) -> list[str]:
    """The reverse of ``pack_texts``, of at least one text."""
    return _unpacked(packed).decode().split("\0")


def _packed(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data, 6)).decode("ascii")


def _unpacked(packed: str) -> bytes:
    return zlib.decompress(base64.b64decode(packed))
