"""How a source is written, found out from its bytes alone.

One order of decisions, each made on what the earlier ones gave: container, encoding, line ends,
delimiter with quote and escape, layout, values, types. Whatever the caller gives is taken as
given, and the rest is found out under it.

Why this is our own and no library's sniffer: measured in benchmarks/detection.py. DuckDB's
sniff_csv, CleverCSV, csv.Sniffer and pandas each lose on files of which one row is damaged, and
none of them knows several header rows, footers or further tables; a CSV sniffer of 20 MB and more
to install would then only confirm what the rest of this has to find out anyway.
"""

from __future__ import annotations

import codecs
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from taskwidgets.errors import SourceError
from taskwidgets.tabular.description import Description
from taskwidgets.tabular.detection.delimiters import Syntax, find_syntax
from taskwidgets.tabular.detection.encoding import (
    Encoding,
    check_utf8,
    decode,
    detect_encoding,
    given_encoding,
)
from taskwidgets.tabular.detection.ending import Table
from taskwidgets.tabular.detection.excerpts import Excerpts, read_excerpts, stream_blocks
from taskwidgets.tabular.detection.layout import Layout, find_layout
from taskwidgets.tabular.detection.overrides import OVERRIDES, checked_overrides
from taskwidgets.tabular.detection.records import Record, split_records
from taskwidgets.tabular.detection.scan import scan_all
from taskwidgets.tabular.detection.values import Values, convert, find_values
from taskwidgets.tabular.header import MAX_COLUMNS
from taskwidgets.tabular.identifiers import by_column, renamed, snake_names
from taskwidgets.tabular.limits import Limits
from taskwidgets.tabular.sample import Row, Sample
from taskwidgets.tabular.source import check_readable
from taskwidgets.tabular.types import infer_types

__all__ = ["OVERRIDES", "Detection", "Finding", "Table", "detect"]

_UTF8_WHOLE_BYTES = 1 << 28  # validating 256 MiB takes 0.1 to 0.3 s
_MOST_RECORDS = 50_000  # of the head; a small file has fewer
_MOST_ROWS = 20_000  # that types are inferred from
# Control characters other than line ends, tabs and those that some programs delimit with.
_CONTROL = re.compile(r"[\x00\x02-\x08\x0e-\x13\x15-\x1d\x7f\ufffd]")
_MOST_CONTROL = 0.1  # share of all characters; noise has a fifth of them, damaged text a hundredth
_LEAST_LETTERS = 3  # rows with a quote that quotes nothing
_ENDING = re.compile(r"\r\n|\n|\r")
_ENDING_LF = re.compile(r"\r\n|\n")


@dataclass(frozen=True, slots=True)
class Finding:
    """One decision: its value, how sure it is (0..1), and why, in words."""

    value: object
    sure: float
    why: str


@dataclass(frozen=True)
class Detection:
    """What was found out about a source.

    ``findings`` has a `Finding` for each decision, by the names of `Description`. ``sample`` are
    rows as they would land in the table, None for NULL, values converted; the first ``head`` of
    them are the table's first. ``types`` are Postgres types by column. ``tables`` are further
    tables in the file, that are not loaded. ``preamble`` are the lines before the header.
    ``rows`` is the number of records, where all of the source was read, and ``ragged`` how many
    of those that were looked at have another number of fields than the table. ``header`` are the
    names as they stand in the file, and ``renamed`` those that the columns do not have: (what the
    file says, what the column is called).
    """

    description: Description
    findings: Mapping[str, Finding]
    sample: Sequence[Row] = ()
    types: Mapping[str, str] = field(default_factory=dict)
    tables: tuple[Table, ...] = ()
    preamble: tuple[str, ...] = ()
    head: int = 0
    rows: int | None = None
    ragged: int = 0
    header: tuple[str, ...] = ()
    renamed: tuple[tuple[str, str], ...] = ()


def detect(
    path: str | Path,
    overrides: Mapping[str, object] | None = None,
    *,
    full: bool = False,
    limits: Limits | None = None,
) -> Detection:
    """Find out how a source is written, from excerpts of it: under 2 s for a file of any size.

    ``overrides``: what is known already, by the names in `OVERRIDES`; ``header`` is True, False or
    the number of header rows, ``null_values`` a text or several, ``names`` a rule by which the
    columns are renamed; other options may call them by their new names or the file's. ``full``:
    read all of the source, so that types and the number of rows are exact. ``limits``: for a row,
    and for what the source unpacks to, where all of it is read; None: the defaults.

    Raises SourceError for what cannot be read, is no delimited text or exceeds a limit, OptionError
    for an override that makes no sense. A file that is damaged is no error here.
    """
    given = checked_overrides(overrides or {})
    source = check_readable(path)
    excerpts = read_excerpts(source)
    encoding = _encoding(source, excerpts, given)
    text = decode(excerpts.head, encoding, head=True)
    if "encoding" not in given:
        _refuse_binary(source, text)
    if not excerpts.whole:
        text = text[: max(text.rfind("\n"), text.rfind("\r")) + 1] or text
    lines, endings, syntax, breaks_at_cr = _lines(text, given)
    body = "\n".join(lines)
    records = split_records(
        body, syntax.delimiter, syntax.quotechar, syntax.escapechar,
        skip_space=syntax.skip_space, width=syntax.width, most=_MOST_RECORDS,
    )  # fmt: skip
    if _quotes_are_letters(records, excerpts, given):
        syntax = replace(syntax, quotechar="")
        records = split_records(
            body, syntax.delimiter, "", skip_space=syntax.skip_space, most=_MOST_RECORDS
        )
    layout = find_layout(
        records, syntax.delimiter, syntax.quotechar, width=syntax.width,
        header=given.get("header"), skip_rows=given.get("skip_rows"),  # type: ignore[arg-type]
        ended=excerpts.whole and len(records) < _MOST_RECORDS,
    )  # fmt: skip
    if len(layout.names) > MAX_COLUMNS:
        raise SourceError(
            f"{source} has {len(layout.names):,} columns; a Postgres table has at most "
            f"{MAX_COLUMNS:,}",
            path=source,
            line=layout.skip_rows + 1,
        )
    if given.get("names") == "snake":
        layout = replace(layout, names=snake_names(layout.header))
        for option in ("date_formats", "booleans"):
            if isinstance(named := given.get(option), Mapping):
                given[option] = by_column(named, layout.header, layout.names, option)
    rows, ragged = _rows(records[layout.first : layout.last], len(layout.names))
    head = len(rows)
    if not excerpts.whole:
        rows += _spread_rows(excerpts, encoding, syntax, len(layout.names), breaks_at_cr)
        layout = _with_tail(excerpts, encoding, syntax, layout, breaks_at_cr, given)
    values = find_values(
        layout.names, rows[:_MOST_ROWS], null_values=given.get("null_values"),  # type: ignore[arg-type]
        decimal=given.get("decimal"), thousands=given.get("thousands"),  # type: ignore[arg-type]
    )  # fmt: skip
    values = replace(
        values,
        **{name: given[name] for name in ("date_formats", "booleans") if name in given},  # type: ignore[arg-type]
    )
    terminator = given.get("line_terminator")
    if terminator is None:
        terminator = _terminator(records, endings)
    description = Description(
        container=excerpts.container,
        encoding=encoding.name,
        delimiter=syntax.delimiter,
        quotechar=syntax.quotechar,
        escapechar=syntax.escapechar,
        skip_initial_space=syntax.skip_space,
        line_terminator=str(terminator),
        skip_rows=layout.skip_rows,
        header_rows=layout.header_rows,
        footer_rows=int(given.get("footer_rows", layout.after_lines)),  # type: ignore[call-overload]
        columns=layout.names,
        decimal=values.decimal,
        thousands=values.thousands,
        null_values=values.null_values,
        date_formats=values.date_formats,
        booleans=values.booleans,
        clean=not ragged and _is_clean(records, layout, text) and encoding.sure > 0.8,
    )
    sample = [_landed(row, layout.names, values) for row in rows[:_MOST_ROWS]]
    whole = excerpts.whole and not layout.tables and len(rows) <= _MOST_ROWS
    types = infer_types(Sample(sample, whole=whole), layout.names) if layout.names else {}
    detection = Detection(
        description=description,
        findings=_findings(description, encoding, syntax, layout, values, given, excerpts),
        sample=sample,
        types=types,
        tables=layout.tables,
        preamble=layout.preamble,
        head=min(head, len(sample)),
        rows=len(rows) if excerpts.whole and len(records) < _MOST_RECORDS else None,
        ragged=ragged,
        header=layout.header,
        renamed=renamed(layout.header, layout.names) if layout.header_rows else (),
    )
    if full and layout.names and not (detection.rows is not None and whole):
        return _scanned(source, detection, values, Limits() if limits is None else limits)
    return detection


# ---------------------------------------------------------------- bytes to lines


def _encoding(path: Path, excerpts: Excerpts, given: Mapping[str, object]) -> Encoding:
    if "encoding" in given:
        return given_encoding(path, str(given["encoding"]), excerpts.head)
    pieces = [block for _, block in excerpts.blocks] + ([excerpts.tail] if excerpts.tail else [])
    utf8 = None
    if excerpts.whole or (not excerpts.container and (excerpts.size or 0) <= _UTF8_WHOLE_BYTES):
        utf8 = check_utf8(
            [excerpts.head] if excerpts.whole else stream_blocks(path, excerpts.container)
        )
    return detect_encoding(excerpts.head, pieces, utf8)


def _refuse_binary(path: Path, text: str) -> None:
    """SourceError for what is no text in any encoding: full of control characters."""
    control = len(_CONTROL.findall(text))
    if control > _MOST_CONTROL * len(text):
        raise SourceError(
            f"{path} is no text: {control / len(text):.0%} of what it begins with are control "
            "characters; if it is text nevertheless, give its encoding with encoding=",
            path=path,
        )


def _lines(text: str, given: Mapping[str, object]) -> tuple[list[str], list[str], Syntax, bool]:
    """The physical lines, how each ends, the syntax, and whether a lone CR ends a line.

    A lone CR ends lines where no other ending does, or where more rows then have one width.
    """
    kinds = Counter(_ENDING.findall(text))
    ways = [_ENDING_LF]
    terminator = given.get("line_terminator")
    if terminator == "\r" or (terminator in (None, "") and kinds["\r"]):
        ways = [_ENDING] if terminator == "\r" or not kinds["\n"] + kinds["\r\n"] else [
            _ENDING_LF, _ENDING]  # fmt: skip
    best: tuple[float, list[str], list[str], Syntax, bool] | None = None
    for way in ways:
        lines, endings = way.split(text), way.findall(text)
        syntax = find_syntax(
            "\n".join(lines), delimiter=given.get("delimiter"), quotechar=given.get("quotechar"),  # type: ignore[arg-type]
            escapechar=given.get("escapechar"), skip_space=given.get("skip_initial_space"),  # type: ignore[arg-type]
        )  # fmt: skip
        if len(ways) == 1:
            return lines, endings, syntax, way is _ENDING
        records = split_records(
            "\n".join(lines), syntax.delimiter, syntax.quotechar, syntax.escapechar,
            skip_space=True, width=syntax.width,
        )  # fmt: skip
        fitting = sum(len(one.fields) == syntax.width and not one.blank for one in records)
        unfit = sum(len(one.fields) != syntax.width for one in records)
        score = fitting - unfit
        if best is None or score > best[0]:
            best = (score, lines, endings, syntax, way is _ENDING)
    assert best is not None
    return best[1:]


def _terminator(records: Sequence[Record], endings: Sequence[str]) -> str:
    """What ends records; "" where several do. Line ends within quotes are none."""
    found = {
        endings[last]
        for one in records
        if (last := one.line + one.lines - 1) < len(endings) and endings[last]
    }
    if len(found) == 1:
        return found.pop()
    return "" if found else "\n"


# ---------------------------------------------------------------- records to rows


def _rows(records: Sequence[Record], width: int) -> tuple[list[list[tuple[str, bool]]], int]:
    """The records as rows of ``width``, and how many had another number of fields.

    A short one is filled up, an overlong one keeps its first fields where the rest is empty;
    with more in it, it is left out, as the table would not have it either.
    """
    rows, ragged = [], 0
    for record in records:
        if record.blank and width > 1:
            ragged += 1
            continue
        if record.flaws or "\0" in "".join(record.fields):
            record.fields = [text.replace("\0", "") for text in record.fields]
        fields = list(zip(record.fields, record.quoted, strict=True))
        if len(fields) != width:
            ragged += 1
            if any(text.strip() for text, _ in fields[width:]):
                continue
            fields = fields[:width] + [("", False)] * (width - len(fields))
        rows.append(fields)
    return rows, ragged


def _piece_records(
    piece: bytes, encoding: Encoding, syntax: Syntax, width: int, cr: bool, big: bool
) -> list[Record]:
    """Records of a piece that begins anywhere in a record: the first line is left out."""
    text = decode(piece, encoding, head=False, big=big)
    lines = (_ENDING if cr else _ENDING_LF).split(text)[1:]
    return split_records(
        "\n".join(lines), syntax.delimiter, syntax.quotechar, syntax.escapechar,
        skip_space=syntax.skip_space, width=width,
    )  # fmt: skip


def _spread_rows(
    excerpts: Excerpts, encoding: Encoding, syntax: Syntax, width: int, cr: bool
) -> list[list[tuple[str, bool]]]:
    """Rows from the middle and the end: those of the table's width, from pieces that read well."""
    rows: list[list[tuple[str, bool]]] = []
    big = excerpts.head.startswith(codecs.BOM_UTF16_BE)
    for piece in (*(block for _, block in excerpts.blocks), excerpts.tail):
        found = _piece_records(piece, encoding, syntax, width, cr, big)[:-1]
        good = [one for one in found if len(one.fields) == width and not one.flaws]
        # A piece that begins within quotes reads wrong to its end, and shows it.
        if len(good) * 10 >= len(found) * 8:
            rows += [list(zip(one.fields, one.quoted, strict=True)) for one in good]
    return rows


def _with_tail(
    excerpts: Excerpts,
    encoding: Encoding,
    syntax: Syntax,
    layout: Layout,
    cr: bool,
    given: Mapping[str, object],
) -> Layout:
    """The layout with the footer that the source's end shows."""
    if not excerpts.tail or not layout.names or "footer_rows" in given:
        return layout
    big = excerpts.head.startswith(codecs.BOM_UTF16_BE)
    width = len(layout.names)
    records = _piece_records(excerpts.tail, encoding, syntax, width, cr, big)
    if records and records[-1].blank and records[-1].line > 0:
        records.pop()  # behind the last line ending nothing stands: that is no line
    good = sum(len(one.fields) == width for one in records)
    if good * 2 < len(records):
        return layout
    end = find_layout(
        records, syntax.delimiter, syntax.quotechar, width=width, header=False, skip_rows=0
    )
    return replace(layout, after_lines=end.after_lines)


def _landed(row: Sequence[tuple[str, bool]], columns: Sequence[str], values: Values) -> Row:
    if values.as_written:
        nulls = values.null_values
        return [None if not quoted and text in nulls else text for text, quoted in row]
    return [
        None if not quoted and text in values.null_values else convert(text, column, values)
        for (text, quoted), column in zip(row, columns, strict=True)
    ]


def _quotes_are_letters(
    records: Sequence[Record], excerpts: Excerpts, given: Mapping[str, object]
) -> bool:
    """Whether quotation marks quote nothing in this file: inches, seconds, ditto marks.

    Only where all of it was seen, no field is quoted as it should be, and several rows have such
    marks; one stray quote is one damaged row.
    """
    if not excerpts.whole or "quotechar" in given or len(records) >= _MOST_RECORDS:
        return False
    flawed = sum(one.flaws > 0 for one in records)
    return flawed >= _LEAST_LETTERS and not any(any(one.quoted) for one in records)


def _is_clean(records: Sequence[Record], layout: Layout, text: str) -> bool:
    """Whether COPY reads what was looked at as it is meant."""
    table = records[: layout.last]
    return "\0" not in text and not any(one.flaws for one in table)


def _scanned(path: Path, detection: Detection, values: Values, limits: Limits) -> Detection:
    """The detection with types and number of rows from all of the source."""
    description = detection.description
    last_line = None
    if detection.tables:
        last_line = detection.tables[0].first_line - 1
    found = scan_all(
        stream_blocks(path, description.container, limits),
        description,
        values,
        last_line=last_line,
        too_long=lambda line: limits.long_row(path, f"line {line:,}", line=line),
        longest=limits.row,
    )
    return replace(
        detection,
        types=found.types,
        rows=found.rows,
        ragged=found.ragged,
        description=replace(description, clean=description.clean and not found.ragged),
    )


# ---------------------------------------------------------------- findings


def _findings(
    description: Description,
    encoding: Encoding,
    syntax: Syntax,
    layout: Layout,
    values: Values,
    given: Mapping[str, object],
    excerpts: Excerpts,
) -> dict[str, Finding]:
    fit = f"{syntax.regular:.0%} of the records have {syntax.width} fields"
    if not description.delimiter or len(description.columns) < 2:
        fit = "no delimiter makes columns"
    sure = round(min(1.0, 0.5 + 0.5 * max(syntax.margin, 0.0)) * min(1.0, 0.4 + syntax.score), 2)
    quoted = "fields are quoted with it" if description.quotechar else "quotes are letters here"
    seen = "" if excerpts.whole else "; looked at in excerpts"
    found = {
        "container": Finding(description.container, 1.0, "its first bytes say so"),
        "encoding": Finding(encoding.name, encoding.sure, encoding.why),
        "delimiter": Finding(description.delimiter, sure, fit + seen),
        "quotechar": Finding(description.quotechar, sure, quoted),
        "escapechar": Finding(
            description.escapechar,
            0.9,
            "quotes within quotes have it before them"
            if description.escapechar
            else "quotes within quotes are doubled, or there are none",
        ),
        "skip_initial_space": Finding(
            description.skip_initial_space,
            0.9,
            "most fields begin with a blank"
            if description.skip_initial_space
            else "fields do not begin with blanks",
        ),
        "line_terminator": Finding(
            description.line_terminator,
            0.95,
            "all records end so" if description.line_terminator else "records end in several ways",
        ),
        "skip_rows": Finding(
            description.skip_rows,
            layout.header_sure,
            "lines before the table" if description.skip_rows else "the table begins at once",
        ),
        "header_rows": Finding(description.header_rows, layout.header_sure, layout.header_why),
        "footer_rows": Finding(
            description.footer_rows,
            0.8 if description.footer_rows else 0.9,
            "lines behind the table" if description.footer_rows else "the table goes to the end",
        ),
        "null_values": Finding(values.null_values, 0.8, "texts among values of another kind"),
        "decimal": Finding(values.decimal, 0.9, "numbers are written with it"),
        "thousands": Finding(
            values.thousands,
            0.9,
            "stands between thousands" if values.thousands else "thousands are not set apart",
        ),
        "date_formats": Finding(
            values.date_formats, 0.9, "the only format that reads all of the sample"
        ),
        "booleans": Finding(values.booleans, 0.8, "two words that mean true and false"),
    }
    for name in given:
        if name == "names":  # not how the file is written
            continue
        target = "header_rows" if name == "header" else name
        found[target] = Finding(found[target].value, 1.0, "as given")
    return {name: one for name, one in found.items() if one.value is not None}
