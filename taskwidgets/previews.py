"""What a file is and what its table would look like, before anything is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from taskwidgets.errors import OptionError
from taskwidgets.runtime.viewer import viewer
from taskwidgets.tabular.description import Description
from taskwidgets.tabular.detect import Detection, Finding, Table, detect
from taskwidgets.tabular.limits import Limits
from taskwidgets.transfers.origins.files import given_files, is_pattern, paths_of
from taskwidgets.transfers.origins.given import Source
from taskwidgets.transfers.origins.heads import source_head
from taskwidgets.transfers.origins.pandas_values import is_frame
from taskwidgets.transfers.origins.remote import is_url

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Preview", "decision_words", "preview"]

WIDEST = 24  # characters of a cell in the text table
MOST_NAMED = 20  # of the columns that were renamed; ``renamed`` has them all
_UNSURE = 0.75  # below this, a decision is worth a look


class Preview:
    """How a file is written, and the first rows as they would land in the table.

    ``description`` is what was decided and ``findings`` how sure and why, by name; ``columns``,
    ``types`` (Postgres' types by column), ``rows`` (the first ones, None for NULL), ``renamed``
    (what was called otherwise in the file), ``tables`` (further ones, which are not loaded),
    ``preamble`` (the lines left out above the header). ``total`` is the number of records, None
    where not all of the file was read.
    """

    def __init__(
        self,
        path: Path,
        detection: Detection,
        rows: int,
        *,
        full: bool,
        what: str = "",
        beside: str = "",
    ) -> None:
        """``what``: what it is, if no delimited text; ``beside``: what else the source has."""
        self.path = path
        self.full = full
        self.what = what
        self.beside = beside
        self._detection = detection
        self.rows: list[tuple[str | None, ...]] = [
            tuple(row) for row in detection.sample[: min(rows, detection.head)]
        ]

    @property
    def description(self) -> Description:
        """How the file is written: what ``upload`` will go by."""
        return self._detection.description

    @property
    def findings(self) -> Mapping[str, Finding]:
        """Each decision: its value, how sure it is (0..1), and why."""
        return self._detection.findings

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns' names."""
        return self._detection.description.columns

    @property
    def types(self) -> Mapping[str, str]:
        """Postgres' types by column; exact after ``full=True``, else from a sample."""
        return self._detection.types

    @property
    def renamed(self) -> Mapping[str, str]:
        """Columns that are called otherwise than in the file: their name, and the file's."""
        return {new: old for old, new in self._detection.renamed}

    @property
    def tables(self) -> Sequence[Table]:
        """Further tables in the file: their first and last line, and their columns."""
        return self._detection.tables

    @property
    def preamble(self) -> Sequence[str]:
        """The lines above the header that are no part of the table."""
        return self._detection.preamble

    @property
    def total(self) -> int | None:
        """How many records the table has; None where not all of the file was read."""
        return self._detection.rows

    @property
    def ragged(self) -> int:
        """How many of the records that were looked at have another number of fields."""
        return self._detection.ragged

    def to_dataframe(self) -> pd.DataFrame:
        """The first rows, each cell as text or None."""
        import pandas as pd  # a quarter of a second, for those who want a table

        return pd.DataFrame(self.rows, columns=list(self.columns), dtype="object")

    def __repr__(self) -> str:
        lines = [heading_words(self), ""]
        lines += [f"  {name}: {words}" for name, words in decision_words(self)]
        lines += ["", _text_table(self)]
        lines += [""] * bool(self.tables) + [
            f"also in the file: {table_words(t)}" for t in self.tables
        ]
        return "\n".join(_printable(line) if line.strip() else line for line in lines)

    def _repr_html_(self) -> str | None:
        shown = viewer()
        return None if shown is None else shown.preview_html(self)


def preview(
    source: Source,
    rows: int = 10,
    *,
    full: bool = False,
    sheet: str | int | None = None,
    delimiter: str | None = None,
    quotechar: str | None = None,
    escapechar: str | None = None,
    encoding: str | None = None,
    header: bool | int | None = None,
    null_values: str | Sequence[str] | None = None,
    decimal: str | None = None,
    thousands: str | None = None,
    skip_rows: int | None = None,
    footer_rows: int | None = None,
    skip_initial_space: bool | None = None,
    line_terminator: str | None = None,
    date_formats: Mapping[str, str] | None = None,
    booleans: Mapping[str, tuple[str, str]] | None = None,
    names: Literal["snake"] | None = None,
    max_unpacked: int | str | None = None,
    max_row: int | str | None = None,
) -> Preview:
    """Find out how a file is written, and show it with its first rows; loads nothing.

    ``source``: the path of a text file, or of one packed with gzip, zstd, bzip2 or xz, or alone in
    a zip; of a Parquet file, an Excel workbook (``sheet``: its name, or its number from 1 on) or
    JSON lines; or a pandas DataFrame. Of a list of paths, or a pattern such as ``"2024-*.csv"``,
    the first file is shown. A URL is not looked at before it is loaded. ``rows``: how many to show.
    ``full``: read all of the file, so that types and the number of records are exact; without it, a
    file of any size is looked at in under two seconds.

    All else is found out where it is not given: ``delimiter`` ("" for one column), ``quotechar``
    ("" where nothing is quoted), ``escapechar`` ("" where quotes are doubled), ``encoding``,
    ``header`` (True, False, or the number of header rows), ``null_values``, ``decimal`` and
    ``thousands`` (signs in numbers), ``skip_rows`` and ``footer_rows`` (lines above and below the
    table), ``skip_initial_space`` (blanks behind a delimiter), ``line_terminator``,
    ``date_formats`` ({"column": "%d.%m.%Y"}), ``booleans`` ({"column": ("ja", "nein")}).
    ``names="snake"``: the columns' names as ``upload`` makes them with it. ``max_unpacked``,
    ``max_row``: as for ``upload``, where all of the file is read.

    Raises SourceError for a file that cannot be read or is no text, OptionError for an argument
    that makes no sense.
    """
    if not isinstance(rows, int) or isinstance(rows, bool) or rows < 0:
        raise OptionError(f"rows must be a number from 0 on, not {rows!r}")
    overrides = {
        "delimiter": delimiter, "quotechar": quotechar, "escapechar": escapechar,
        "encoding": encoding, "header": header, "null_values": null_values, "decimal": decimal,
        "thousands": thousands, "skip_rows": skip_rows, "footer_rows": footer_rows,
        "skip_initial_space": skip_initial_space, "line_terminator": line_terminator,
        "date_formats": date_formats, "booleans": booleans, "names": names,
    }  # fmt: skip
    limits = Limits.of(max_unpacked, max_row)
    path, beside = _one(source)
    head = source_head(path, rows, sheet, header=header is not False, full=full, limits=limits)
    if head is None:
        assert isinstance(path, Path)
        detection = detect(path, overrides, full=full, limits=limits)
        return Preview(path, detection, rows, full=full, beside=beside)
    return Preview(
        Path(head.name),
        Detection(
            description=Description(columns=tuple(head.types)),
            findings={},
            sample=[list(row) for row in head.rows],
            types=head.types,
            head=len(head.rows),
            rows=head.total,
        ),
        rows,
        full=full,
        what=head.what,
        beside=beside,
    )


def _one(source: Source) -> tuple[Path | pd.DataFrame, str]:
    """The one source to look at, and what there is besides, in words."""
    if is_frame(source):
        return source, ""
    if is_url(source):
        raise OptionError(
            "preview() looks at local files; upload() finds out how the file at a URL is written "
            "when it has fetched it"
        )
    if isinstance(source, str | Path) and not is_pattern(source):
        return Path(source), ""
    origin = given_files(source).origin
    assert origin is not None
    paths = paths_of(origin.facts)
    return Path(paths[0]), f"{len(paths):,} files, of which this is the first" if paths[1:] else ""


# ---------------------------------------------------------------------- words

_SIGNS = {
    ",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe", " ": "blank", ":": "colon",
    "\n": "LF", "\r\n": "CR LF", "\r": "CR", '"': 'double quote (")', "'": "apostrophe (')",
    "\\": "backslash", "\u00a0": "no-break space", "\u202f": "narrow no-break space",
}  # fmt: skip


def heading_words(shown: Preview) -> str:
    """The file's name, and how much of what is in it."""
    columns = len(shown.columns)
    many = f"{columns:,} column{'' if columns == 1 else 's'}"
    if shown.total is not None:
        many += f", {shown.total:,} record{'' if shown.total == 1 else 's'}"
    else:
        many += ", from a sample"
    return f"{shown.path.name}: {many}"


def decision_words(shown: Preview) -> list[tuple[str, str]]:
    """(what, decision in words) for all that is worth telling, the unsure ones with the reason."""
    described, found = shown.description, shown.findings
    words: list[tuple[str, str]] = []
    if shown.beside:
        words.append(("source", shown.beside))
    if shown.what:
        return [*words, ("read as", shown.what)]

    def tell(name: str, label: str, text: str) -> None:
        finding = found.get(name)
        if finding is not None and finding.why == "as given":
            text += " (as given)"
        elif finding is not None and finding.sure < _UNSURE:
            text += f" ({finding.sure:.0%} sure: {finding.why})"
        words.append((label, text))

    if described.container:
        tell("container", "packed with", described.container)
    tell("encoding", "encoding", described.encoding)
    if described.delimiter and len(shown.columns) > 1:
        extra = ", blanks behind it left out" if described.skip_initial_space else ""
        tell("delimiter", "delimiter", _sign(described.delimiter) + extra)
    else:
        tell("delimiter", "delimiter", "none: one column")
    quoted = _sign(described.quotechar) if described.quotechar else "none"
    if described.escapechar:
        quoted += f", escaped by {_sign(described.escapechar)}"
    tell("quotechar", "quotes", quoted)
    ending = described.line_terminator
    tell("line_terminator", "line ends", _sign(ending) if ending else "mixed")
    headers = described.header_rows
    names = "none: columns are numbered" if not headers else f"{headers} row" + "s" * (headers > 1)
    tell("header_rows", "header", names)
    if described.skip_rows:
        tell("skip_rows", "above the table", f"{described.skip_rows} lines left out")
    if described.footer_rows:
        tell("footer_rows", "below the table", f"{described.footer_rows} lines left out")
    if described.decimal != "." or described.thousands:
        text = f"decimal {_sign(described.decimal)}"
        text += f", thousands {_sign(described.thousands)}" if described.thousands else ""
        tell("decimal", "numbers", text)
    if described.null_values != ("",):
        tell("null_values", "NULL", ", ".join(one or "nothing" for one in described.null_values))
    for column, format_ in (described.date_formats or {}).items():
        words.append((f"dates in {column}", format_))
    for column, pair in (described.booleans or {}).items():
        words.append((f"true and false in {column}", " and ".join(pair)))
    if shown.renamed:
        pairs = [f"{old!r} is {new}" for new, old in shown.renamed.items()]
        more = f" and {len(pairs) - MOST_NAMED:,} more" if pairs[MOST_NAMED:] else ""
        words.append(("renamed", ", ".join(pairs[:MOST_NAMED]) + more))
    if shown.ragged:
        many = "1 record has" if shown.ragged == 1 else f"{shown.ragged:,} records have"
        words.append(("irregular", f"{many} another number of fields than the table"))
    return words


def table_words(table: Table) -> str:
    """A further table in the file."""
    names = ", ".join(table.columns[:6]) + (" ..." if table.columns[6:] else "")
    return f"lines {table.first_line:,} to {table.last_line:,}, with {names}"


def _sign(text: str) -> str:
    return _SIGNS.get(text, text if text.isprintable() and text.strip() else repr(text))


def _text_table(shown: Preview) -> str:
    table = [
        [_short(column) for column in shown.columns],
        [shown.types.get(column, "") for column in shown.columns],
        *([_short("NULL" if cell is None else cell) for cell in row] for row in shown.rows),
    ]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    )


def _short(text: str) -> str:
    text = _printable(text.replace("\n", "⏎"))
    return text if len(text) <= WIDEST else f"{text[: WIDEST - 1]}…"


def _printable(text: str) -> str:
    return "".join(
        sign if sign.isprintable() or sign == "\n" else "\N{REPLACEMENT CHARACTER}" for sign in text
    )
