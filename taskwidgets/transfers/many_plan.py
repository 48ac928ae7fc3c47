"""What an upload of several files is to do: each looked at, their columns and types made one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from sqlalchemy import Connection

from taskwidgets.errors import SourceError
from taskwidgets.tabular.sample import Row, Sample
from taskwidgets.tabular.source import Fingerprint
from taskwidgets.tabular.types import infer_types
from taskwidgets.transfers.names import TableName
from taskwidgets.transfers.origins.files import part_names
from taskwidgets.transfers.origins.origin import Origin
from taskwidgets.transfers.origins.spool import Contents
from taskwidgets.transfers.origins.tabular_files import check_sheet, table_kind
from taskwidgets.transfers.planning import dialect_of, settled_plan
from taskwidgets.transfers.reading import Reading, find_reading, spool_reading
from taskwidgets.transfers.upload_options import UploadOptions
from taskwidgets.transfers.upload_plan import Part, UploadPlan

__all__ = ["plan_files"]

SAMPLE_BYTES = 8 << 20  # of all files together; as many as a single large one has eight times
LEAST_SAMPLE = 16 << 10  # bytes of each
MOST_NOTES = 20


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
    paths = [Path(path) for path in origin.facts["paths"]]
    names = part_names(paths)
    sample_bytes = max(LEAST_SAMPLE, min(SAMPLE_BYTES // len(paths), 1 << 20))
    readings: list[tuple[Fingerprint, Reading]] = []
    rows: list[Row] = []
    whole, notes = True, []
    known: list[dict[str, str]] = []
    places: list[Path] = []
    made_of: dict[int, dict[str, object]] = {}
    for number, (path, name) in enumerate(zip(paths, names, strict=True), start=1):
        breathe(f"looking at file {number:,} of {len(paths):,}: {name}")
        kind = table_kind(path)
        keeps_rejects = options.on_error == "reject"
        check_sheet(options.sheet, kind, str(path))
        lies, contents = path, None
        if kind is not None:
            lies, contents = spooled(number - 1, path, kind)
            made_of[number - 1] = {**contents.facts, "path": str(path)}
            notes += [f"{name}: {note}" for note in contents.notes]
        fingerprint = Fingerprint.of(lies)
        if contents is not None:
            reading = spool_reading(
                lies, contents.types, options.names, keeps_rejects=keeps_rejects
            )
        else:
            reading = find_reading(
                path,
                options.overrides,
                keeps_rejects=keeps_rejects,
                needs_types=options.types != "text",
                sample_bytes=sample_bytes,
                limits=options.limits,
            )
        if contents is not None:
            empty = {
                column
                for column, old in zip(reading.columns, reading.header, strict=True)
                if old in contents.facts["empty"]
            }
            known.append({n: type for n, type in reading.inferred.items() if n not in empty})
        places.append(lies)
        first = readings[0][1] if readings else reading
        _check_columns(path, reading.columns, paths[0], first.columns)
        if reading.sample is not None:
            rows += _in_order(reading, first.columns, sample_bytes)
            whole = whole and reading.sample.whole
        notes += [f"{name}: {note}" for note in reading.notes]
        readings.append((fingerprint, _light(reading)))
    first = readings[0][1]
    is_guessed = not known  # else some files say what their types are
    if rows:
        known.append(infer_types(Sample(rows, whole=whole), first.columns))
    types = joined_types(known)
    together = _light(first, inferred=types, notes=tuple(notes[:MOST_NOTES]), is_guessed=is_guessed)

    def make(connection: Connection, target: TableName) -> UploadPlan:
        plan = settled_plan(connection, options, target, places[0], readings[0][0], together)
        parts = [
            Part(
                name=name,
                path=places[number],
                fingerprint=fingerprint,
                dialect=dialect_of(plan, reading),
                columns=reading.columns,
                data_start=reading.data_start,
                data_stop=reading.data_stop,
                first_line=reading.first_line,
                description=reading.description,
                made_of=made_of.get(number),
            )
            for number, (name, (fingerprint, reading)) in enumerate(
                zip(names, readings, strict=True)
            )
        ]
        return plan.with_origin(origin.to_json()).with_parts(parts)

    return make


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
