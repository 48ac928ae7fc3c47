"""How an upload reads its source: what was given, what is found out, and which way it goes.

A source that COPY reads as it stands goes the strict way: its bytes are cut, never parsed, and
COPY judges each record. Every other, and each of which damaged records are to be kept, goes the
lenient way.
"""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from taskwidgets.errors import OptionError, SourceError
from taskwidgets.tabular.container import HEAD_BYTES, detect_container
from taskwidgets.tabular.description import Description
from taskwidgets.tabular.detect import Detection, detect
from taskwidgets.tabular.detection.overrides import checked_overrides
from taskwidgets.tabular.dialect import Dialect
from taskwidgets.tabular.ending import find_data_stop
from taskwidgets.tabular.grammar import Grammar
from taskwidgets.tabular.header import read_layout
from taskwidgets.tabular.identifiers import renamed, snake_names
from taskwidgets.tabular.lenient import read_lenient_layout
from taskwidgets.tabular.limits import Limits
from taskwidgets.tabular.sample import SAMPLE_BYTES, Sample, sample_records
from taskwidgets.tabular.stream import open_stream
from taskwidgets.tabular.types import infer_types
from taskwidgets.transfers.origins.texts import NULL

__all__ = ["Reading", "find_reading", "spool_reading"]

# What COPY itself can be told of how a file is written; and the names, which it is not told.
PLAIN = frozenset({"delimiter", "quotechar", "encoding", "header", "null_values", "names"})
MOST_NAMED = 10  # of what was changed or left out, in a receipt


@dataclass(frozen=True)
class Reading:
    """What was decided of a source.

    ``dialect`` is what COPY is told. ``description`` is None where COPY reads the source as it
    stands. ``data_start``, ``data_stop`` are positions in bytes, the latter None where only
    reading will tell; ``first_line`` is the physical line of the first record. ``notes`` are for
    the receipt: what was left out, renamed, decided. ``header`` are the columns' names as they
    stand in the file. ``is_guessed``: the types come from a sample, and later values may need
    wider ones.
    """

    dialect: Dialect
    columns: tuple[str, ...]
    data_start: int
    data_stop: int | None
    first_line: int
    description: Description | None
    inferred: Mapping[str, str]
    notes: tuple[str, ...] = ()
    sample: Sample | None = None  # what the types were inferred from, where they were
    header: tuple[str, ...] = ()
    is_guessed: bool = True


def find_reading(
    path: Path,
    overrides: Mapping[str, object],
    *,
    keeps_rejects: bool,
    needs_types: bool,
    sample_bytes: int = SAMPLE_BYTES,
    limits: Limits | None = None,
) -> Reading:
    """Find out how the source is written, and decide how it is read.

    Where rejects are kept, everything that was not given is found out. A load that stops at the
    first fault takes a plain file at its word, as RFC 4180 has it, and looks further only where
    that makes no table of it: a single column, a packed file, UTF-16, or marks that COPY does not
    know. ``sample_bytes``: of a file that COPY reads as it stands, about so many are looked at for
    its types. ``limits``: what it may unpack to; None: the default. Raises SourceError for what
    cannot be read, OptionError for an override that makes no sense.
    """
    overrides = checked_overrides(overrides)
    names = overrides.get("names")
    if not keeps_rejects and set(overrides) <= PLAIN and not _is_packed_or_wide(path):
        dialect = _plain_dialect(overrides)
        width = len(read_layout(path, dialect, any_names=names is not None).columns)
        if "delimiter" in overrides or width > 1:
            return _strict(path, dialect, names, sample_bytes, needs_types=needs_types)
        found = detect(path, overrides, limits=limits).description
        if len(found.columns) < 2:
            return _strict(path, dialect, names, sample_bytes, needs_types=needs_types)
    detection = detect(path, overrides, limits=limits)
    found_dialect = None if keeps_rejects else replace(detection.description, clean=True).dialect
    if found_dialect is not None:
        return _strict(path, found_dialect, names, sample_bytes, needs_types=needs_types)
    return _lenient(path, detection, limits, as_text=not needs_types, given=frozenset(overrides))


def spool_reading(
    path: Path, types: Mapping[str, str], names: str | None, *, keeps_rejects: bool
) -> Reading:
    """How a file is read that was written by us (`transfers.origins.spool`): nothing is unknown."""
    header = tuple(types)
    columns = snake_names(header) if names == "snake" else header
    dialect = Dialect(null_value=NULL)
    layout = read_layout(path, dialect)
    description = None
    if keeps_rejects:
        description = Description(columns=header, null_values=(NULL,))
        with open_stream(path, description) as stream:
            dialect = Grammar.of(description, len(columns), stream.codec).output
    return Reading(
        dialect=dialect,
        columns=columns,
        data_start=layout.data_start,
        data_stop=path.stat().st_size,
        first_line=1 + layout.header_lines,
        description=description,
        inferred=dict(zip(columns, types.values(), strict=True)),
        notes=tuple(_renaming(renamed(header, columns))),
        header=header,
        is_guessed=False,
    )


def _is_packed_or_wide(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        reason = error.strerror or str(error)
        raise SourceError(f"{path} cannot be read: {reason}", path=path) from None
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return True
    try:
        return bool(detect_container(head))
    except SourceError as error:
        raise SourceError(f"{path} {error}", path=path) from None


def _plain_dialect(overrides: Mapping[str, object]) -> Dialect:
    """What was given, and RFC 4180 for what was not."""
    given: dict[str, Any] = dict(overrides)
    given.pop("names", None)
    nulls = given.pop("null_values", None)
    if nulls is not None:
        listed = [nulls] if isinstance(nulls, str) else list(nulls)
        if len(listed) != 1:
            raise OptionError(
                "null_values: COPY knows one marker for NULL at a time; give one, such as 'NA', "
                'or load with on_error="reject", where each value is looked at'
            )
        given["null_value"] = listed[0]
    return Dialect(**given)


def _strict(
    path: Path, dialect: Dialect, names: object, sample_bytes: int, *, needs_types: bool
) -> Reading:
    layout = read_layout(path, dialect, any_names=names is not None)
    columns = snake_names(layout.columns) if names == "snake" else layout.columns
    types: dict[str, str] = {}
    sample = None
    if needs_types:
        sample = sample_records(path, dialect, layout, sample_bytes)
        types = infer_types(sample, columns)
    return Reading(
        dialect=dialect,
        columns=columns,
        data_start=layout.data_start,
        data_stop=path.stat().st_size,
        first_line=1 + (layout.header_lines if dialect.header else 0),
        description=None,
        inferred=types,
        sample=sample,
        notes=tuple(_renaming(renamed(layout.columns, columns))),
        header=layout.columns,
    )


def _lenient(
    path: Path,
    detection: Detection,
    limits: Limits | None,
    *,
    as_text: bool,
    given: frozenset[str],
) -> Reading:
    description = detection.description
    if as_text:  # each value as it is written, and nothing stands for NULL that was not given
        nulls = description.null_values if "null_values" in given else ("",)
        description = replace(
            description, null_values=nulls, decimal=".", thousands="", date_formats=None,
            booleans=None,
        )  # fmt: skip
    if not description.columns:
        raise SourceError(f"{path} is empty: not even one record", path=path)
    with open_stream(path, description, limits) as stream:
        layout = read_lenient_layout(stream, description)
        description = replace(description, columns=layout.columns)
        last_line = detection.tables[0].first_line - 1 if detection.tables else None
        data_stop = find_data_stop(stream, description, last_line)
        grammar = Grammar.of(description, len(layout.columns), stream.codec)
    if data_stop is not None:
        data_stop = max(data_stop, layout.data_start)
    return Reading(
        dialect=grammar.output,
        columns=layout.columns,
        data_start=layout.data_start,
        data_stop=data_stop,
        first_line=layout.first_line,
        description=description,
        inferred=dict(zip(layout.columns, detection.types.values(), strict=False)),
        notes=tuple(_notes(detection)),
        header=detection.header,
        sample=Sample(list(detection.sample), whole=detection.rows == len(detection.sample)),
    )


def _notes(detection: Detection) -> list[str]:
    description = detection.description
    notes = []
    if detection.preamble:
        lines = [line for line in detection.preamble if line.strip()]
        above = " / ".join(lines[:MOST_NAMED])
        notes.append(f"{description.skip_rows} lines above the table were left out: {above}")
    if description.footer_rows and not detection.tables:
        notes.append(f"{description.footer_rows} lines below the table were left out")
    for table in detection.tables[:MOST_NAMED]:
        notes.append(
            f"another table in lines {table.first_line} to {table.last_line} was left out: "
            + ", ".join(table.columns)
        )
    notes += _renaming(detection.renamed)
    # They are kept in the database, which can hold no NUL.
    return [note.replace("\0", "\N{SYMBOL FOR NULL}") for note in notes]


def _renaming(pairs: tuple[tuple[str, str], ...]) -> list[str]:
    """What was renamed, all of it: the receipt is where one looks a name up."""
    if not pairs:
        return []
    return ["columns were renamed: " + ", ".join(f"{old!r} is {new}" for old, new in pairs)]
