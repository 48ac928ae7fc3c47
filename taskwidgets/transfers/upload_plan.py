"""What an upload is to do: decided once, kept with the job, followed by every resume."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from taskwidgets.csvfile.types.exactness import ChangeFinder
from taskwidgets.errors import OptionError
from taskwidgets.tabular.conversion import conversions
from taskwidgets.tabular.description import Description
from taskwidgets.tabular.dialect import Dialect, postgres_encoding
from taskwidgets.tabular.grammar import Grammar
from taskwidgets.tabular.limits import Limits
from taskwidgets.tabular.source import Fingerprint
from taskwidgets.transfers.names import TableName
from taskwidgets.transfers.part_list import Part, PartList

__all__ = ["PART_BYTES", "Part", "UploadPlan"]

# Where each of several files begins in the ledger, behind the one before: farther than any file,
# packed or unpacked, is long. So a position there says which file it is, and a file that grows
# moves no other.
PART_BYTES = 1 << 40


@dataclass(frozen=True)
class UploadPlan:
    """Everything that was decided from the source and the target before the first row."""

    path: Path
    fingerprint: Fingerprint
    dialect: Dialect
    columns: tuple[str, ...]
    types: dict[str, str]  # by column, as they stand in SQL
    data_start: int  # byte of the first record behind the header
    target: TableName
    if_exists: str
    landed: dict[str, Any] | None = None  # the target as the final switch left it
    # Where records may be damaged: how the source is written. None: COPY judges every record.
    description: Description | None = None
    data_stop: int | None = None  # the byte behind the last record; None: not known yet
    first_line: int = 1  # the physical line of the first record
    on_error: str = "stop"
    max_rejects: float | None = None
    notes: tuple[str, ...] = ()
    names: str | None = None  # the rule by which the file's names became the columns'
    inferred: tuple[str, ...] = ()  # columns whose types are no one's wish and may be widened
    # By column, the types that must not change its values: given ones, and the existing table's.
    exact_types: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    source_key: str | None = None  # what identifies the source, whatever it holds
    loads_again: bool = False  # also what earlier jobs have put into the table
    beginnings: int = 0  # how often the load has begun anew with wider types
    origin: Mapping[str, Any] | None = None  # what the file was made of, if it is a spool
    source_column: str | None = None
    source_name: str = ""  # what the source column says of each row
    parts: PartList = field(
        default_factory=PartList
    )  # several files, of which this plan is the sum
    limits: Limits = field(default_factory=Limits)
    base: int = 0  # of one of several: where its first byte stands in the ledger

    @property
    def source(self) -> str:
        """The source as it is shown."""
        return str(self.path) if self.origin is None else str(self.origin["name"])

    @property
    def number(self) -> int:
        """Of one of several files: which one."""
        return self.base // PART_BYTES

    @property
    def staged_columns(self) -> tuple[str, ...]:
        """The table's columns: those of the source, and the one that says which source it was."""
        return self.columns + (() if self.source_column is None else (self.source_column,))

    @property
    def grammar(self) -> Grammar:
        """How a lenient reader goes about the source."""
        assert self.description is not None
        return Grammar.of(
            self.description,
            len(self.columns),
            self.codec,
            spaced_rows=True,
            converted=bool(self.conversions),
        )

    @property
    def codec(self) -> str:
        """The encoding of the source as it is read: unpacked, and recoded where it has to be."""
        assert self.description is not None
        try:
            postgres_encoding(self.description.encoding)
        except OptionError:
            return "utf-8"
        return Dialect(encoding=self.description.encoding).codec

    @property
    def conversions(self) -> dict[int, Callable[[str], str]]:
        """What is to be done with the values of which columns, by their index."""
        if self.description is None:
            return {}
        return conversions(self.description, {name: self.types[name] for name in self.columns})

    def with_origin(self, origin: Mapping[str, Any]) -> UploadPlan:
        """The same plan, for a source that is made ready in the job itself."""
        return replace(self, origin=origin)

    def of_part(self, number: int) -> UploadPlan:
        """The plan for one of several files alone, as if there were no other."""
        part = self.parts[number]
        return replace(
            self,
            path=part.path,
            fingerprint=part.fingerprint,
            dialect=part.dialect,
            columns=part.columns,
            data_start=part.data_start,
            data_stop=part.data_stop,
            first_line=part.first_line,
            description=part.description,
            source_name=part.name,
            parts=PartList(),
            base=number * PART_BYTES,
        )

    def with_parts(self, parts: Iterable[Part]) -> UploadPlan:
        """The same plan for these files; its size and its data are all of theirs together."""
        listed = parts if isinstance(parts, PartList) else PartList(parts)
        return replace(
            self,
            parts=listed,
            fingerprint=Fingerprint(sum(listed.sizes), 0, ""),
            data_start=0,
            data_stop=listed.length,
        )

    def with_types(self, types: Mapping[str, str], notes: tuple[str, ...]) -> UploadPlan:
        """The same plan with other types, of which conversions and what COPY is told depend."""
        plan = replace(self, types=dict(types), notes=notes)
        if plan.parts:
            dialects = {}
            for number in plan.parts.representatives:
                own = plan.of_part(number)
                if own.description is not None:
                    dialects[plan.parts.like(number)] = own.grammar.output
            return replace(plan, parts=plan.parts.with_dialects(dialects))
        return plan if plan.description is None else replace(plan, dialect=plan.grammar.output)

    def with_end(self, data_stop: int) -> UploadPlan:
        """The same plan, now that it is known where the data end."""
        return replace(self, data_stop=data_stop)

    @property
    def change_finder(self) -> ChangeFinder:
        """What finds the values that the columns' types would change."""
        return ChangeFinder(
            self.dialect,
            {
                index: self.exact_types[column]
                for index, column in enumerate(self.columns)
                if column in self.exact_types
            },
        )

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self.fingerprint.size

    def with_source(self, fingerprint: Fingerprint) -> UploadPlan:
        """The same plan for a file that was mended."""
        by = fingerprint.size - self.size
        stop = None if self.data_stop is None else self.data_stop + by
        return replace(self, fingerprint=fingerprint, data_stop=stop)

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary for the store."""
        return {
            "path": str(self.path),
            "fingerprint": self.fingerprint.to_json(),
            "dialect": self.dialect.to_json(),
            "columns": list(self.columns),
            "types": self.types,
            "data_start": self.data_start,
            "target": [self.target.schema, self.target.table],
            "if_exists": self.if_exists,
            "landed": self.landed,
            "description": None if self.description is None else self.description.to_json(),
            "data_stop": self.data_stop,
            "first_line": self.first_line,
            "on_error": self.on_error,
            "max_rejects": self.max_rejects,
            "notes": list(self.notes),
            "origin": None if self.origin is None else dict(self.origin),
            "source_column": self.source_column,
            "source_name": self.source_name,
            "parts": self.parts.to_json(),
            "names": self.names,
            "inferred": list(self.inferred),
            "exact_types": {name: list(types) for name, types in self.exact_types.items()},
            "source_key": self.source_key,
            "loads_again": self.loads_again,
            "beginnings": self.beginnings,
            "limits": self.limits.to_json(),
        }

    @classmethod
    def from_json(cls, stored: dict[str, Any], known: UploadPlan | None = None) -> UploadPlan:
        """The reverse of ``to_json``.

        ``known``: a plan of the same job, whose files are taken where they are the same.
        """
        parts = stored.get("parts", [])
        if known is not None and known.parts.is_stored_as(parts):
            listed = known.parts
        else:
            listed = PartList.from_json(parts)
        described = stored.get("description")
        return cls(
            path=Path(stored["path"]),
            fingerprint=Fingerprint.from_json(stored["fingerprint"]),
            dialect=Dialect.from_json(stored["dialect"]),
            columns=tuple(stored["columns"]),
            types=stored["types"],
            data_start=stored["data_start"],
            target=TableName(*stored["target"]),
            if_exists=stored["if_exists"],
            landed=stored["landed"],
            description=None if described is None else Description.from_json(described),
            # Plans of earlier releases read to the file's end.
            data_stop=stored.get("data_stop", stored["fingerprint"]["size"]),
            first_line=stored.get("first_line", 1),
            on_error=stored.get("on_error", "stop"),
            max_rejects=stored.get("max_rejects"),
            notes=tuple(stored.get("notes", ())),
            origin=stored.get("origin"),
            source_column=stored.get("source_column"),
            source_name=stored.get("source_name", ""),
            parts=listed,
            names=stored.get("names"),
            inferred=tuple(stored.get("inferred", ())),
            exact_types={
                name: tuple(types) for name, types in stored.get("exact_types", {}).items()
            },
            source_key=stored.get("source_key"),
            loads_again=stored.get("loads_again", False),
            beginnings=stored.get("beginnings", 0),
            limits=Limits.from_json(stored.get("limits")),
        )
