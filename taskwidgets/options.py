"""The options of upload, download and preview as they are written in a terminal and in a magic.

Each has the name of the Python function's argument, with dashes: ``if_exists`` is ``--if-exists``.
What was written is text; ``arguments`` makes the values of it that the functions take.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from taskwidgets.errors import OptionError
from taskwidgets.tabular.limits import checked_bytes

__all__ = ["DOWNLOAD", "PREVIEW", "RESUME", "UPLOAD", "Option", "arguments", "spelled"]


@dataclass(frozen=True)
class Option:
    """One option: the argument's ``name``, what it says to people, how its text is read.

    ``read`` takes the text, or the list of texts where the option may be given ``many`` times;
    None for a flag, which has no text. ``choices`` are all the texts that it knows, if few.
    """

    name: str
    help: str
    read: Callable[..., object] | None
    metavar: str = ""
    many: bool = False
    choices: tuple[str, ...] = ()

    @property
    def flag(self) -> str:
        """As it is written: ``--if-exists``."""
        return spelled(self.name)


def spelled(name: str) -> str:
    """An argument's name as an option."""
    return f"--{name.replace('_', '-')}"


def arguments(options: Sequence[Option], given: Mapping[str, object]) -> dict[str, object]:
    """The arguments for the Python function; what was not given is left out.

    ``given``: by the argument's name, a text, a list of texts, or True for a flag. Raises
    OptionError, which names the option, for a text that cannot be read.
    """
    made: dict[str, object] = {}
    for option in options:
        value = given.get(option.name)
        if value is None or value is False or value == []:
            continue
        if option.read is None:
            made[option.name] = True
            continue
        try:
            made[option.name] = option.read(value)
        except ValueError as error:
            raise OptionError(f"{option.flag} {_repeated(value)}: {error}") from None
    return made


def _repeated(value: object) -> str:
    return " ".join(map(repr, value)) if isinstance(value, list) else repr(value)


# ---------------------------------------------------------------------- how texts are read

SIZES = {"": 1, "b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9}  # bytes; as file managers count
ESCAPES = {"\\t": "\t", "\\n": "\n", "\\r": "\r", "\\r\\n": "\r\n"}  # a shell does not say them


def _choice(*choices: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in choices:
            raise ValueError(f"it is one of {', '.join(choices)}")
        return text

    return read


def _sign(text: str) -> str:
    return ESCAPES.get(text, text)


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError("it is a whole number") from None


def _yes_or_no(text: str) -> bool:
    answers = {"yes": True, "true": True, "no": False, "false": False}
    if text.lower() not in answers:
        raise ValueError("it is yes or no")
    return answers[text.lower()]


def _header(text: str) -> bool | int:
    if text.isdecimal():
        return int(text)
    try:
        return _yes_or_no(text)
    except ValueError:
        raise ValueError("it is yes, no, or the number of header rows") from None


def _sheet(text: str) -> str | int:
    return int(text) if text.isdecimal() else text


def _rate(text: str) -> float:
    found = re.fullmatch(r"([\d.]+(?:e\d+)?)\s*([kmg]?b?)(?:/s)?", text.strip().lower())
    if found and found[2] in ("k", "m", "g"):
        found = None
    if not found:
        raise ValueError("it is bytes per second, such as 500000, 2e6, 500kB or 2MB")
    return float(found[1]) * SIZES[found[2]]


def _size(text: str) -> int:
    try:
        size = checked_bytes(int(text) if text.isdecimal() else text, "it")
    except OptionError:
        raise ValueError("it is a number of bytes, such as 500000, '64 MB' or 2GiB") from None
    assert size is not None
    return size


def _limit(text: str) -> float:
    try:
        if text.endswith("%"):
            return float(text[:-1]) / 100
        return float(text) if "." in text else int(text)
    except ValueError:
        raise ValueError("it is a number of rows, or a fraction such as 0.05 or 5%") from None


def _types(texts: list[str]) -> dict[str, str] | str:
    if texts == ["text"]:
        return "text"
    return _pairs(texts, "column=type, or text for all", last=True)


def _formats(texts: list[str]) -> dict[str, str]:
    return _pairs(texts, "column=format, such as day=%d.%m.%Y")


def _booleans(texts: list[str]) -> dict[str, tuple[str, str]]:
    meant = "column=true,false, such as paid=ja,nein"
    found = {}
    for column, words in _pairs(texts, meant).items():
        true, comma, false = words.partition(",")
        if not comma:
            raise ValueError(f"it is {meant}")
        found[column] = (true, false)
    return found


def _pairs(texts: list[str], meant: str, *, last: bool = False) -> dict[str, str]:
    """A column's name may hold a =, as a type never does; a format may."""
    found = {}
    for text in texts:
        column, equals, value = text.rpartition("=") if last else text.partition("=")
        if not equals or not column:
            raise ValueError(f"it is {meant}")
        found[column] = value
    return found


# ---------------------------------------------------------------------- which there are

_HOW_MANY = [
    Option(
        "workers",
        "Connections that move data at once [default: the machine's cores, 4 at most].",
        _whole,
        "N",
    ),
    Option("max_rate", "Bytes per second at most: 500000, 500kB, 2MB.", _rate, "RATE"),
]
_NAMES = Option("names", "snake: lower case column names that need no quotes in SQL.",
                _choice("snake"), "HOW", choices=("snake",))  # fmt: skip
_SHEET = Option("sheet", "Of an Excel workbook: the sheet's name, or its number from 1 on.",
                _sheet, "SHEET")  # fmt: skip
_AGAIN = Option("again", "Start over, also when the same job is there already.", None)

_LIMITS = (
    Option("max_unpacked", "Bytes that a packed file, a workbook or a Parquet file may become "
           "[default: 4 GiB, or 100 times its size].", _size, "SIZE"),
    Option("max_row", "Bytes that a row of the file may have [default: 16 MiB].", _size, "SIZE"),
)  # fmt: skip

# How a file is written; what is not given is found out.
_WRITTEN = (
    Option("delimiter", r"Sign between fields; \t for a tab, '' for one column.", _sign, "SIGN"),
    Option("quotechar", "Sign around fields; '' where nothing is quoted.", _sign, "SIGN"),
    Option("escapechar", "Sign before a quote in a field; '' where they are doubled.", str, "SIGN"),
    Option("encoding", "Such as utf-8, latin-1, utf-16.", str, "NAME"),
    Option("header", "yes, no, or how many rows of it.", _header, "ROWS"),
    Option("null_values", "A text that means NULL; may be given again.", list, "TEXT", many=True),
    Option("decimal", "Sign before a number's decimals.", str, "SIGN"),
    Option("thousands", "Sign between a number's thousands.", str, "SIGN"),
    Option("skip_rows", "Lines above the table.", _whole, "N"),
    Option("footer_rows", "Lines below the table.", _whole, "N"),
    Option("skip_initial_space", "Leave out blanks behind delimiters: yes or no.", _yes_or_no,
           "ANSWER", choices=("yes", "no")),
    Option("line_terminator", r"\n, \r\n or \r.", _sign, "SIGN"),
    Option("date_formats", "How a column's dates are written, as in day=%d.%m.%Y; may be given "
           "again.", _formats, "COLUMN=FORMAT", many=True),
    Option("booleans", "A column's words for true and false, as in paid=ja,nein; may be given "
           "again.", _booleans, "COLUMN=TRUE,FALSE", many=True),
)  # fmt: skip

UPLOAD = (
    Option("if_exists", "What to do with a table that is there: fail, replace or append.",
           _choice("fail", "replace", "append"), "WHAT", choices=("fail", "replace", "append")),
    Option("on_error", "stop at the first bad row, or reject: keep bad rows aside.",
           _choice("stop", "reject"), "WHAT", choices=("stop", "reject")),
    Option("max_rejects", "How many rows may be rejected: 100, 0.05 or 5%.", _limit, "N"),
    Option("cast", "exact: a value that its column's type would change does not fit; or "
           "assignment: round and cut it as INSERT does.", _choice("exact", "assignment"), "WHAT",
           choices=("exact", "assignment")),
    Option("types", "A column's Postgres type, as in amount=numeric(10,2), which may be given "
           "again; or text for all.", _types, "COLUMN=TYPE", many=True),
    _NAMES,
    Option("source_column", "A column of this name says of each row which file it came from.",
           str, "NAME"),
    _SHEET,
    *_WRITTEN,
    *_LIMITS,
    *_HOW_MANY,
    _AGAIN,
)  # fmt: skip

DOWNLOAD = (
    Option("if_exists", "What to do with a file, or a folder, that is there: fail or replace.",
           _choice("fail", "replace"), "WHAT", choices=("fail", "replace")),
    Option("delimiter", r"Sign between fields; \t for a tab.", _sign, "SIGN"),
    Option("null_value", "What NULL is written as.", str, "TEXT"),
    Option("header", "The columns' names in the first row: yes or no.", _yes_or_no, "ANSWER",
           choices=("yes", "no")),
    Option("quote_all", "Quote every value that is not NULL.", None),
    Option("escape_formulas", "Put an apostrophe before what a spreadsheet would take for a "
           "formula.", None),
    Option("format", "Of a folder's part files, where the path ends in /: csv, csv.gz, csv.zst or "
           "parquet.", _choice("csv", "csv.gz", "csv.zst", "parquet"), "NAME",
           choices=("csv", "csv.gz", "csv.zst", "parquet")),
    *_HOW_MANY,
    _AGAIN,
)  # fmt: skip

PREVIEW = (
    Option("rows", "How many rows to show.", _whole, "N"),
    Option("full", "Read all of the file, for exact types and the number of rows.", None),
    _NAMES,
    _SHEET,
    *_WRITTEN,
    *_LIMITS,
)

RESUME = (
    Option("take_over", "Also from another process that has the job, such as one that hangs, and "
           "from another role that made it.", None),
    *_HOW_MANY,
)  # fmt: skip
