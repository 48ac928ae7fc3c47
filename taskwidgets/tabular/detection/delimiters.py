r"""The delimiter, the quote and the escape that explain a text best.

Each combination that the text could have is tried on a sample, and scored by what a person looks
for: rows of one width, columns whose cells look alike, and nothing left over that another
delimiter or quote would explain. Counting characters alone falls for commas in sentences and for
blanks in timestamps; widths alone fall for colons in times. That both together decide well is the
finding of van den Burg, Nazábal and Sutton ("Wrangling messy CSV files by detecting row and type
patterns", 2019), whose measure is another one.

Scores are shares of rows and of cells, so one damaged row moves them by its own weight, no more.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from taskwidgets.tabular.detection.cells import EMPTY, TEXT, WORD, is_typed, kind_of
from taskwidgets.tabular.detection.records import Record, split_records

__all__ = ["Syntax", "find_syntax", "line_widths", "split_by_other"]

# How readily a character is believed to be a delimiter when the rows fit equally well. Blanks,
# colons and the like stand within values far more often than between them.
_PRIORS = {
    ",": 1.0, "\t": 1.0, ";": 1.0, "|": 0.98, "\x01": 1.0, "\x1f": 1.0, "\x1e": 0.9,
    "^": 0.92, "~": 0.92, "¦": 0.92, "§": 0.92, "¬": 0.92, "þ": 0.8, "\x14": 0.8,
    " ": 0.62, ":": 0.42, "#": 0.35, "/": 0.25, "&": 0.3, "=": 0.3, "*": 0.35, "!": 0.3,
    "%": 0.25, "@": 0.25, "$": 0.25, "+": 0.2, "_": 0.2,
}  # fmt: skip
_PRIOR_MULTIPLE = 0.97  # of several characters, that stand in every line equally often
_QUOTES = ('"', "'", "`", "~", "|", "$", "%", "^", "*")
_QUOTE_PRIORS = {'"': 1.0, "'": 0.97, "": 0.9}
_OTHER_QUOTE = 0.9
_SEPARATORS = re.compile(r"[;|\t\x01\x1f]|,(?=\S)|^,$")  # in an unquoted cell: hardly a value
_RUN = re.compile(r"([^\w\s\"'.()\-])\1+|\t\t+|[^\w\s\"'.,()\-/\\]{2,4}|\\t")

_SAMPLE_CHARACTERS = 1 << 16  # what each combination is tried on
_SAMPLE_RECORDS = 300
_WORTH_TRYING = 0.1  # share of lines that hold a character; fewer, and it separates nothing
_ONE_COLUMN = 0.18  # the best score below which the file has one column; prose has 0.1 to 0.2


@dataclass(frozen=True, slots=True)
class Syntax:
    """A combination and how well it explains the text.

    ``score`` is between 0 and 1; ``margin`` how far the next best delimiter is behind (0..1);
    ``width`` the fields that most records have; ``regular`` the share of records that have them.
    """

    delimiter: str
    quotechar: str = '"'
    escapechar: str = ""
    skip_space: bool = False
    score: float = 0.0
    margin: float = 0.0
    width: int = 1
    regular: float = 1.0


def find_syntax(
    text: str,
    *,
    delimiter: str | None = None,
    quotechar: str | None = None,
    escapechar: str | None = None,
    skip_space: bool | None = None,
) -> Syntax:
    """The best combination for a text whose lines end in newlines; what is given is kept."""
    sample = text[:_SAMPLE_CHARACTERS]
    if len(sample) < len(text) and "\n" in sample:
        sample = sample[: sample.rindex("\n") + 1]
    lines = [line for line in sample.split("\n") if line.strip()][:_SAMPLE_RECORDS]
    delimiters = [delimiter] if delimiter is not None else _candidates(lines)
    tried: list[Syntax] = []
    for candidate in delimiters:
        quotes = [quotechar] if quotechar is not None else _quotes(sample, candidate)
        for quote in quotes:
            for run in (False, True) if candidate == " " and skip_space is None else (None,):
                tried.append(_score(sample, candidate, quote, run))
    best = max(tried, key=lambda syntax: syntax.score, default=Syntax(""))
    others = [one.score for one in tried if one.delimiter != best.delimiter]
    rival = max(others, default=0.0)
    if delimiter is None and (best.score < _ONE_COLUMN or _whole_values(lines, best)):
        best = _one_column(lines, quotechar, best.score)
        rival = 0.0
    margin = 1 - rival / best.score if best.score > 0 else 0.0
    quote = best.quotechar if quotechar is None else quotechar
    escape = escapechar
    if escape is None:
        escape = _escape(sample, best.delimiter, quote)
    skip = skip_space
    if skip is None:
        skip = best.skip_space or _blanks_follow(sample, best.delimiter, quote, escape)
    width, regular = best.width, best.regular
    if escape:  # the combinations were tried without one
        records = split_records(
            sample, best.delimiter, quote, escape, skip_space=skip, most=_SAMPLE_RECORDS
        )
        width, regular = _usual(line_widths(records)) or (width, regular)
    return Syntax(best.delimiter, quote, escape, skip, best.score, margin, width, regular)


def split_by_other(cell: str, delimiter: str, quotechar: str) -> list[tuple[str, list[str]]]:
    """The ways in which a cell that should be a whole record splits by another delimiter.

    Each is (that delimiter, the fields). One row may be written with blanks or semicolons in a
    file of commas.
    """
    return [
        (other, split_records(cell, other, quotechar, most=1)[0].fields)
        for other in (" ", ";", "\t", "|", ",")
        if other != delimiter and other in cell
    ]


def line_widths(records: Sequence[Record]) -> Counter[int]:
    """How many records have each number of fields; blank ones are none."""
    return Counter(len(record.fields) for record in records if not record.blank)


def _candidates(lines: Sequence[str]) -> list[str]:
    if not lines:
        return []
    least = max(1, round(len(lines) * _WORTH_TRYING))
    found = [
        sign
        for sign in _PRIORS
        if sign in lines[0] or sum(1 for line in lines if sign in line) >= least
    ]
    runs = Counter(run for line in lines for run in {m[0] for m in _RUN.finditer(line)})
    for run, count in runs.most_common(8):
        if count < max(1, len(lines) * 0.9) or len(run) > 4:
            continue
        if len(set(run)) == 1 and run != "\\t":
            # Where that character never stands alone, all of them are delimiters, even where
            # their number differs: empty fields stand between some.
            whole = sum(1 for line in lines if _only_in_runs(line, run))
            if whole >= 0.97 * len(lines):
                found.append(run)
                continue
        counts = Counter(line.count(run) for line in lines)
        if counts.most_common(1)[0][1] >= 0.8 * len(lines):
            found.append(run)
    return found


def _only_in_runs(line: str, run: str) -> bool:
    return line.count(run[0]) == line.count(run) * len(run)


def _quotes(sample: str, delimiter: str) -> list[str]:
    """The quotes worth trying with a delimiter: those that stand around whole fields somewhere."""
    found = ['"']
    border = re.escape(delimiter) if delimiter else r"\n"
    for quote in _QUOTES[1:]:
        if quote not in sample or quote in delimiter:
            continue
        sign = re.escape(quote)
        around = re.findall(
            rf"(?:^|{border}) ?{sign}(?:[^{sign}]|{sign}{sign}){{0,400}}{sign} ?(?={border}|$)",
            sample,
            re.MULTILINE,
        )
        if len(around) >= (1 if quote == "'" else 4):
            found.append(quote)
    return found


def _prior(delimiter: str) -> float:
    return _PRIOR_MULTIPLE if len(delimiter) > 1 else _PRIORS.get(delimiter, 0.2)


def _score(sample: str, delimiter: str, quotechar: str, run: bool | None) -> Syntax:
    records = [
        record
        for record in split_records(
            sample,
            delimiter,
            quotechar,
            skip_space=delimiter != " " if run is None else run,
            most=_SAMPLE_RECORDS,
        )
        if not record.blank
    ]
    nothing = Syntax(delimiter, quotechar, skip_space=bool(run))
    widths = line_widths(records)
    usual = _usual(widths)
    if usual is None:
        return nothing
    width, regular = usual
    total = len(records)
    near = sum(widths[one] for one in (width - 1, width + 1) if one > 1) / total
    consistent = regular + 0.4 * near
    cells, alike = _cells(records, width)
    # A file whose cells hold the delimiter unquoted has few rows of one width, but columns at
    # its left edge that are all numbers or all days: no accident makes those.
    consistent = min(1.0, max(consistent, min(0.7, 0.16 * alike)))
    header = 1.0 if len(records[0].fields) == width or regular < 0.5 else 0.93
    if len(records[0].fields) == 1 and total > 1:
        header = 0.8  # where names stand, the delimiter stands too
    score = consistent * cells * _prior(delimiter) * (1 - 0.5 / width) * header
    score *= _QUOTE_PRIORS.get(quotechar, _OTHER_QUOTE) * (1 + 0.05 * min(alike, 6)) / 1.3
    return Syntax(delimiter, quotechar, "", bool(run), score, width=width, regular=regular)


def _usual(widths: Counter[int]) -> tuple[int, float] | None:
    """The number of fields, more than one, that most records have; and the share of these."""
    width = max(widths, key=lambda one: (widths[one] if one > 1 else 0, one), default=1)
    return (width, widths[width] / widths.total()) if width > 1 else None


def _cells(records: Sequence[Record], width: int) -> tuple[float, int]:
    """How well the cells look like values (0..1), and how many columns have cells alike."""
    good = total = 0.0
    columns: list[Counter[str]] = [Counter() for _ in range(min(width, 40))]
    filled = [False] * width
    for record in records:
        for place, (cell, quoted) in enumerate(zip(record.fields, record.quoted, strict=True)):
            kind = TEXT if quoted else kind_of(cell)
            if place < len(columns) and (kind != EMPTY):
                columns[place][kind_of(cell) if quoted else kind] += 1
            if place < width and kind != EMPTY:
                filled[place] = True
            total += 1
            good += 1.0 if quoted else _worth(cell, kind)
    alike = 0
    for counts in columns:
        kind, most = counts.most_common(1)[0] if counts else ("", 0)
        if (is_typed(kind) or kind.startswith("code:")) and most >= 0.8 * counts.total() >= 2:
            alike += 1
    # A column without a single cell, name included, is what half a delimiter leaves behind.
    hollow = filled.count(False) / width
    return good / max(total, 1) * (1 - 0.6 * hollow), alike


def _worth(cell: str, kind: str) -> float:
    if kind == EMPTY:
        return 0.85
    if is_typed(kind):
        return 1.0
    if kind.startswith("code:") or kind == WORD:
        if _SEPARATORS.search(cell):
            return 0.3
        return 0.35 if cell[0] in "\"'" or cell[-1] in '"' else 0.92
    if _SEPARATORS.search(cell):
        return 0.3
    stripped = cell.strip()
    if stripped[0] == '"' or stripped[-1] == '"' or (stripped[0] == stripped[-1] == "'"):
        return 0.2
    return 0.78


def _whole_values(lines: Sequence[str], best: Syntax) -> bool:
    """Whether the delimiter found is part of values, such as a column of times or of addresses."""
    if _prior(best.delimiter) > _PRIORS[" "]:
        return False
    return sum(is_typed(kind_of(line)) for line in lines) >= 0.8 * len(lines)


def _one_column(lines: Sequence[str], quotechar: str | None, score: float) -> Syntax:
    """A file of one column; a comma as its delimiter where none could be met, as COPY needs one."""
    quote = '"' if quotechar is None else quotechar
    plain = not any("," in line for line in lines)
    return Syntax("," if plain else "", quote, score=max(0.5, 1 - 2 * score), width=1)


def _escape(sample: str, delimiter: str, quotechar: str) -> str:
    r"""A backslash where it explains the quotes better than doubling does; else nothing.

    A backslash before a quote may also end a path (``"C:\data\"``); then reading it as an escape
    loses the field's end, and more quotes are left over.
    """
    if not quotechar or "\\" + quotechar not in sample:
        return ""
    border = re.escape(delimiter) if delimiter else r"\n"
    quote = re.escape(quotechar)
    sure = rf"(?<!\\)(?:\\\\)*\\{quote}"
    escaped = len(re.findall(sure, sample))
    inside = len(re.findall(rf"{sure}(?! *(?:{border}|\n|\Z))", sample))
    pairs = rf"(?<![{quote}\n\\])(?<!{border}){quote}{quote}(?!{quote})(?=.)"
    doubled = len(re.findall(pairs, sample))
    if escaped <= doubled:
        return ""

    def quality(escapechar: str) -> tuple[int, int]:
        records = split_records(
            sample, delimiter, quotechar, escapechar, skip_space=True, most=_SAMPLE_RECORDS
        )
        widths = line_widths(records)
        most = max(widths.values(), default=0)
        return most, -sum(record.flaws for record in records)

    with_escape, without = quality("\\"), quality("")
    return "\\" if with_escape > without or (with_escape == without and inside) else ""


def _blanks_follow(sample: str, delimiter: str, quotechar: str, escapechar: str) -> bool:
    """Whether most fields behind a delimiter begin with a blank."""
    if not delimiter or delimiter == " " or delimiter + " " not in sample:
        return False
    blank = filled = 0
    for record in split_records(
        sample, delimiter, quotechar, escapechar, skip_space=False, most=_SAMPLE_RECORDS
    ):
        for field, quoted in zip(record.fields[1:], record.quoted[1:], strict=True):
            if quoted or field.strip():
                filled += 1
                blank += not quoted and field.startswith(" ")
    spaced = (
        len(re.findall(rf"{re.escape(delimiter)} +{re.escape(quotechar)}", sample))
        if quotechar
        else 0
    )
    return bool(filled) and (blank + spaced) * 2 > filled
