"""What an upload of several files is to do: each looked at, their columns and types made one."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from sqlalchemy import Connection

from taskwidgets.errors import SourceError
from taskwidgets.tabular.detection.scan import merge_types
from taskwidgets.tabular.sample import Row, Sample, whole_sample
from taskwidgets.tabular.source import Fingerprint
from taskwidgets.tabular.types import TEXT, infer_types
from taskwidgets.transfers.names import TableName
from taskwidgets.transfers.origins.files import part_names, paths_of
from taskwidgets.transfers.origins.origin import Origin
from taskwidgets.transfers.origins.spool import Contents
from taskwidgets.transfers.origins.tabular_files import check_sheet, table_kind
from taskwidgets.transfers.part_list import Part, PartList
from taskwidgets.transfers.planning import settled_plan
from taskwidgets.transfers.reading import PLAIN, Reading, find_reading, spool_reading
from taskwidgets.transfers.upload_options import UploadOptions
from taskwidgets.transfers.upload_plan import UploadPlan

__all__ = ["plan_files"]

SAMPLE_BYTES = 8 << 20  # of all files together; as many as a single large one has eight times
LEAST_SAMPLE = 16 << 10  # bytes of each
MOST_NOTES = 20
MOST_ROWS = 20_000  # of which types are inferred at once
SMALL_BYTES = 1 << 16


def plan_files(
    options: UploadOptions,
    origin: Origin,
    breathe: Callable[[str], None],
    spooled: Callable[[int, Path, str], tuple[Path, Contents]],
) -> Callable[[Connection, TableName], UploadPlan]:
    """Look at each file; what makes the plan, once there is a transaction for it.

    ``breathe`` is told before each file which one it is; ``spooled`` writes one down that is no
    delimited text: by its number, path and kind, where the table is, and what is in it. Raises
    SourceError for a file that cannot be read, or that has other columns than the first one, naming
    file and column.
    """
    paths = paths_of(origin.facts)
    names = part_names(paths)
    keeps_rejects = options.on_error == "reject"
    sample_bytes = max(LEAST_SAMPLE, min(SAMPLE_BYTES // len(paths), 1 << 20))
    types = _Types()
    quick = _SmallFiles(options)
    parts = PartList()
    notes: list[str] = []
    known: list[dict[str, str]] = []
    first: Reading | None = None
    sampled = 0
    for number, (given, name) in enumerate(zip(paths, names, strict=True), start=1):
        breathe(f"looking at file {number:,} of {len(paths):,}: {name}")
        # Of very many files, those are sampled that the budget of all together has room for.
        is_sampled = sampled <= SAMPLE_BYTES * number / len(paths) + sample_bytes
        path, made_of = Path(given), None
        found = quick.read(path, is_sampled=is_sampled)
        if found is not None:
            fingerprint, reading = found
        else:
            kind = table_kind(path)
            check_sheet(options.sheet, kind, given)
            if kind is not None:
                path, contents = spooled(number - 1, path, kind)
                made_of = {**contents.facts, "path": given}
                notes += [f"{name}: {note}" for note in contents.notes]
                fingerprint = Fingerprint.of(path)
                reading = spool_reading(
                    path, contents.types, options.names, keeps_rejects=keeps_rejects
                )
                known.append(_filled(reading, contents))
            else:
                fingerprint = Fingerprint.of(path)
                reading = find_reading(
                    path,
                    options.overrides,
                    keeps_rejects=keeps_rejects,
                    needs_types=options.types != "text" and is_sampled,
                    sample_bytes=sample_bytes,
                    limits=options.limits,
                )
                quick.learn(path, fingerprint, reading)
        if first is None:
            first = reading
        _check_columns(Path(given), reading.columns, Path(paths[0]), first.columns)
        if reading.sample is not None:
            sampled += reading.sample.bytes_read
            types.take(
                _in_order(reading, first.columns, sample_bytes),
                first.columns,
                whole=reading.sample.whole,
            )
        elif made_of is None and options.types != "text":
            types.whole = False
        notes += [f"{name}: {note}" for note in reading.notes]
        del notes[MOST_NOTES:]
        parts.append(
            Part(
                name=name,
                path=path,
                fingerprint=fingerprint,
                dialect=reading.dialect,
                columns=reading.columns,
                data_start=reading.data_start,
                data_stop=reading.data_stop,
                first_line=reading.first_line,
                description=reading.description,
                made_of=made_of,
            )
        )
    assert first is not None
    is_guessed = not known  # else some files say what their types are
    inferred = types.result(first.columns)
    if inferred is not None:
        known.append(inferred)
    together = _light(
        first, inferred=joined_types(known), notes=tuple(notes), is_guessed=is_guessed
    )

    def make(connection: Connection, target: TableName) -> UploadPlan:
        start = parts[0]
        plan = settled_plan(
            connection, options, target, start.path, start.fingerprint, together
        ).with_origin(origin.to_json())
        # What COPY is told of a file depends on the types, where its values are converted.
        return plan.with_parts(parts).with_types(plan.types, plan.notes)

    return make


class _Types:
    """The types of all files' rows, of which only some are in memory."""

    def __init__(self) -> None:
        self.whole = True
        self._rows: list[Row] = []
        self._types: dict[str, str] = {}
        self._is_empty = True

    def take(self, rows: list[Row], columns: Sequence[str], *, whole: bool) -> None:
        """Some more rows; ``whole``: they are all of their file's."""
        self.whole = self.whole and whole
        self._rows += rows
        self._is_empty = self._is_empty and not rows
        if len(self._rows) >= MOST_ROWS:
            self._infer(columns, whole=False)

    def result(self, columns: Sequence[str]) -> dict[str, str] | None:
        """The type of each column; None where there were no rows."""
        if self._is_empty:
            return None
        if not self._types:
            return infer_types(Sample(self._rows, whole=self.whole), columns)
        self._infer(columns, whole=False)
        return {column: self._types.get(column, TEXT) for column in columns}

    def _infer(self, columns: Sequence[str], *, whole: bool) -> None:
        if self._rows:
            found = infer_types(Sample(self._rows, whole=whole), columns)
            merge_types(self._types, found, self._rows, columns)
            self._rows = []


class _SmallFiles:
    """Small files that begin with the same header as one before, looked at in one go.

    What was decided of that one from its first record holds for them, too: of a file of several
    columns that COPY reads as it stands, nothing else is looked at (`reading.find_reading`).
    """

    def __init__(self, options: UploadOptions) -> None:
        self._is_possible = (
            options.on_error != "reject"
            and set(options.overrides) <= PLAIN
            and options.header in (None, True)
        )
        self._given = "delimiter" in options.overrides
        self._needs_types = options.types != "text"
        self._head = b""
        self._known: Reading | None = None

    def learn(self, path: Path, fingerprint: Fingerprint, reading: Reading) -> None:
        """Take the reading of this file for those that begin likewise."""
        width = len(reading.columns)
        if (
            not self._is_possible
            or reading.description is not None
            or not (width > 1 or self._given)
            or not reading.dialect.header
            or reading.data_start > SMALL_BYTES
            or fingerprint.size < reading.data_start
        ):
            return
        with path.open("rb") as file:
            head = file.read(reading.data_start)
        if head.endswith(b"\n"):
            self._head, self._known = head, _light(reading, notes=reading.notes)

    def read(self, path: Path, *, is_sampled: bool) -> tuple[Fingerprint, Reading] | None:
        """What was decided of a file; None where it has to be looked at closely."""
        known = self._known
        if known is None or path.suffix.lower() in (".jsonl", ".ndjson"):
            return None
        try:
            with path.open("rb", buffering=0) as file:
                facts = os.fstat(file.fileno())
                if not stat.S_ISREG(facts.st_mode) or facts.st_size > SMALL_BYTES:
                    return None
                data = file.read(SMALL_BYTES + 1)
        except OSError:
            return None
        is_text = b"\0" not in data and data[257:262] != b"ustar"
        if not data.startswith(self._head) or not is_text or len(data) != facts.st_size:
            return None
        sample = None
        if self._needs_types and is_sampled:
            sample = whole_sample(data[len(self._head) :], known.dialect, len(known.columns))
        reading = replace(known, data_stop=len(data), sample=sample)
        return Fingerprint.of_bytes(data, facts), reading


def _filled(reading: Reading, contents: Contents) -> dict[str, str]:
    """The types of a spool's columns; one without a value says nothing."""
    empty = {
        column
        for column, old in zip(reading.columns, reading.header, strict=True)
        if old in contents.facts["empty"]
    }
    return {name: kind for name, kind in reading.inferred.items() if name not in empty}


def joined_types(known: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """One type for each column, that holds all that the files' own types hold, exactly."""
    types: dict[str, str] = {}
    for one in known:
        for name, kind in one.items():
            types[name] = _joined(types[name], kind) if name in types else kind
    return types


def _joined(one: str, other: str) -> str:
    if one == other:
        return one
    kinds = {kind.partition("(")[0] for kind in (one, other)}
    for family in (("smallint", "integer", "bigint", "numeric"), ("real", "double precision"),
                   ("date", "timestamp")):  # fmt: skip
        if kinds <= set(family):
            return max(kinds, key=family.index)
    if kinds <= {"smallint", "integer", "double precision"}:
        return "double precision"
    if kinds <= {"smallint", "integer", "bigint", "numeric", "real", "double precision"}:
        return "numeric"
    return "text"


def _check_columns(
    path: Path, columns: Sequence[str], first: Path, expected: Sequence[str]
) -> None:
    lacking = [column for column in expected if column not in set(columns)]
    other = [column for column in columns if column not in set(expected)]
    if not lacking and not other:
        return
    faults = []
    if lacking:
        faults.append(f"lacks {_list(lacking)}")
    if other:
        faults.append(f"has {_list(other)} besides")
    raise SourceError(
        f"{path} has other columns than {first}, and goes into the same table: it "
        f"{' and '.join(faults)}. Nothing was loaded; mend it, or leave it out",
        path=path,
        line=1,
        column=(lacking or other)[0],
    )


def _list(columns: Sequence[str]) -> str:
    shown = ", ".join(f'"{column}"' for column in columns[:5])
    return f"{shown} and {len(columns) - 5} more" if columns[5:] else shown


def _in_order(reading: Reading, columns: Sequence[str], most_bytes: int) -> list[Row]:
    """The sampled rows, their fields in the order of the table's columns."""
    assert reading.sample is not None
    rows = reading.sample.rows[: max(100, most_bytes // (10 * len(columns)))]
    if tuple(columns) == reading.columns:
        return list(rows)
    places = [reading.columns.index(column) for column in columns]
    return [[row[place] for place in places] for row in rows]


def _light(
    reading: Reading,
    inferred: dict[str, str] | None = None,
    notes: tuple[str, ...] = (),
    *,
    is_guessed: bool = True,
) -> Reading:
    """The reading without its sample: of a thousand files, that would be too much to keep."""
    return Reading(
        dialect=reading.dialect,
        columns=reading.columns,
        data_start=reading.data_start,
        data_stop=reading.data_stop,
        first_line=reading.first_line,
        description=reading.description,
        inferred=dict(reading.inferred) if inferred is None else inferred,
        notes=notes,
        header=reading.header,
        is_guessed=is_guessed,
    )
