"""One clean table, and what happens to tables on their way: a corpus with its truth.

The idea is that of the Pollock benchmark (Vitagliano, Hameed, Jiang, Reisener, Wu and Naumann,
"Pollock: A Data Loading Benchmark", VLDB 2023): one source, one pollution at a time, at every row
and column. Everything here is written anew, with a table of its own.
"""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Iterator
from dataclasses import dataclass

COLUMNS = (
    "Date", "Time", "Units", "Article", "Price", "Kind", "Description", "Link", "Remark",
)  # fmt: skip
ROWS = 84

_NOUNS = ("kettle", "lamp", "jacket", "rope", "tent", "stove", "bottle", "map", "boots", "chair")
_ADJECTIVES = ("light", "warm", "sturdy", "foldable", "women's", "kids'", "all-weather", "red")


@dataclass(frozen=True)
class Variant:
    """A polluted file: its bytes, and what a careful person would read from it.

    ``names`` None: there is no header, so any names will do. ``damaged``: the record that is not
    to be compared, as its truth is a matter of taste; None for none.
    """

    name: str
    family: str
    data: bytes
    names: tuple[str, ...] | None
    records: tuple[tuple[str, ...], ...]
    damaged: int | None = None


def source() -> list[list[str]]:
    """The clean table: days, times, numbers, codes, money, short and long texts, links, and a
    column that is mostly empty. Some texts hold delimiters, quotes and line breaks."""
    chance = random.Random(84)
    rows = []
    for number in range(ROWS):
        noun, adjective = chance.choice(_NOUNS), chance.choice(_ADJECTIVES)
        kind = f"{adjective} {noun}".capitalize()
        if number % 4 == 1:
            kind += f", {chance.choice(_ADJECTIVES)}"
        if number % 9 == 3:
            kind += f' {chance.randrange(8, 60)}"'
        text = f"This {noun} is {adjective}; it's made to last"
        if number % 3 == 0:
            text += f", and {chance.choice(_ADJECTIVES)} too"
        if number % 11 == 5:
            text += ".\nSecond line of it"
        if number % 13 == 7:
            text += ', which we call "the best"'
        rows.append(
            [
                f"{13 + number % 15:02d}/{1 + number // 15:02d}/2023",
                f"{number % 24:02d}:{15 * (number % 4):02d}",
                str(chance.randrange(0, 40)),
                f"{chance.choice('ABCD')}{chance.choice('XYZ')}-{chance.randrange(1000, 9999)}",
                f"${chance.randrange(100, 9999) / 100:.2f}",
                kind,
                text + ".",
                f"https://shop.example/{noun}/{number}.html",
                "" if number % 7 else "sold out",
            ]
        )
    return rows


def written(
    rows: list[list[str]],
    delimiter: str = ",",
    quotechar: str = '"',
    escape: str = "",
    ending: str = "\n",
    quote_all: bool = False,
) -> list[str]:
    """Each row as text with its ending; only what needs quotes has them, links always."""
    lines = []
    for row in rows:
        cells = []
        for cell in row:
            needs = any(sign in cell for sign in (delimiter.strip() or delimiter, quotechar, "\n"))
            if quote_all or needs or cell.startswith("http"):
                inner = cell
                if escape == "none":
                    pass
                elif escape:
                    inner = inner.replace(escape, escape * 2)
                    inner = inner.replace(quotechar, escape + quotechar)
                else:
                    inner = inner.replace(quotechar, quotechar * 2)
                cells.append(f"{quotechar}{inner}{quotechar}")
            else:
                cells.append(cell)
        lines.append(delimiter.join(cells) + ending)
    return lines


def variants() -> Iterator[Variant]:
    """Every polluted file."""
    rows = source()
    yield from _whole_file(rows)
    yield from _one_row(rows)


def _make(
    name: str,
    family: str,
    text: str | bytes,
    records: list[list[str]],
    names: tuple[str, ...] | None = COLUMNS,
    damaged: int | None = None,
    encoding: str = "utf-8",
) -> Variant:
    data = text if isinstance(text, bytes) else text.encode(encoding)
    return Variant(name, family, data, names, tuple(map(tuple, records)), damaged)


def _whole_file(rows: list[list[str]]) -> Iterator[Variant]:
    head = [list(COLUMNS)]
    clean = "".join(written(head + rows))
    yield _make("clean", "clean", clean, rows)
    yield _make("quote-all", "clean", "".join(written(head + rows, quote_all=True)), rows)
    for delimiter in (";", "\t", "|", "||", ", ", "^", "~", "::", "\x01", " ", ":"):
        text = "".join(written(head + rows, delimiter))
        yield _make(f"delimiter {delimiter!r}", "delimiter", text, rows)
    spaced = "".join(written(head + rows, " ", quote_all=True))
    yield _make("delimiter ' ', all quoted", "delimiter", spaced, rows)
    for quote in ("'", "`", "~"):
        text = "".join(written(head + rows, quotechar=quote))
        yield _make(f"quote {quote!r}", "quote", text, rows)
        text = "".join(written(head + rows, ";", quotechar=quote, quote_all=True))
        yield _make(f"quote {quote!r}, all, semicolon", "quote", text, rows)
    for escape in ("\\", "none"):
        for delimiter in (",", ";"):
            text = "".join(written(head + rows, delimiter, escape=escape))
            yield _make(f"escape {escape!r} {delimiter!r}", "escape", text, rows)
    for ending in ("\r\n", "\r"):
        text = "".join(written(head + rows, ending=ending))
        yield _make(f"ending {ending!r}", "ending", text, rows)
    yield _make("no final newline", "ending", clean.rstrip("\n"), rows)
    yield _make("two final newlines", "ending", clean + "\n", rows)
    accents = [[cell.replace("a", "ä").replace("red", "röd") for cell in row] for row in rows]
    euros = [[cell.replace("$", "€") for cell in row] for row in accents]
    accented, euro = "".join(written(head + accents)), "".join(written(head + euros))
    for encoding, text, truth in (
        ("utf-8", euro, euros), ("utf-8-sig", euro, euros), ("utf-16", euro, euros),
        ("utf-16-le", euro, euros), ("utf-16-be", euro, euros), ("utf-32", euro, euros),
        ("latin-1", accented, accents), ("cp1252", euro, euros),
    ):  # fmt: skip
        yield _make(f"encoding {encoding}", "encoding", text, truth, encoding=encoding)
    cyrillic = [
        [cell.replace("lamp", "лампа").replace("tent", "палатка") for cell in row] for row in rows
    ]
    for encoding in ("cp1251", "koi8-r"):
        text = "".join(written(head + cyrillic))
        yield _make(f"encoding {encoding}", "encoding", text, cyrillic, encoding=encoding)
    yield _make("no header", "header", "".join(written(rows)), rows, names=None)
    for count in (2, 3):
        names = tuple(" ".join([name] * count) for name in COLUMNS)
        text = "".join(written(head * count + rows))
        yield _make(f"{count} header rows", "header", text, rows, names=names)
    groups = ["When", "", "Sale", "", "", "What", "", "", ""]
    names = tuple(
        f"{group} {name}"
        for group, name in zip(["When"] * 2 + ["Sale"] * 3 + ["What"] * 4, COLUMNS, strict=True)
    )
    text = "".join(written([groups, *head, *rows]))
    yield _make("header of groups", "header", text, rows, names=names)
    yield _make("header only", "header", "".join(written(head)), [])
    yield _make("one row", "header", "".join(written(head + rows[:1])), rows[:1])
    empty = "," * (len(COLUMNS) - 1) + "\n"
    for name, lines in (
        ("title", "Stock report\n"),
        ("title and blank", "Stock report\n\n"),
        ("title, delimited", f"Stock report{empty}"),
        ("titles, delimited, and blank", f"Stock report{empty}Made in 2023{empty}{empty}"),
        ("comments", "# made by the shop, 2023-05-01\n# all rights reserved\n"),
        ("fields", "Title,Stock report\nDate,2023-05-01\n\n"),
        ("blank lines", "\n\n"),
    ):
        yield _make(f"preamble {name}", "preamble", lines + clean, rows)
    for name, lines in (
        ("note", "Source: the shop\n"),
        ("blank and note", "\nSource: the shop\n"),
        ("notes, delimited", f"{empty}Source: the shop{empty}Made in 2023{empty}"),
        ("blank lines", "\n\n\n"),
        ("comment", "# 84 rows, checked\n"),
    ):
        yield _make(f"footer {name}", "footer", clean + lines, rows)
    for name, extra in (
        ("narrow", [["City", "People"], ["Ulm", "120000"], ["Bonn", "330000"], ["Kiel", "240000"]]),
        ("wide", [[*COLUMNS, "More"], *([*row, "1"] for row in rows[:5])]),
        ("same", [[f"{name} 2" for name in COLUMNS], *rows[:5]]),
        ("repeated", [list(COLUMNS), *rows[:5]]),
    ):
        for gap in ("\n", "\n\n", ""):
            if gap == "" and name == "narrow":
                continue
            text = clean + gap + "".join(written(extra))
            yield _make(f"table {name} {gap!r}", "tables", text, rows)
    yield _make("nothing", "empty", b"", [], names=())
    decimal = [[row[2], row[4].replace("$", "").replace(".", ","), row[5]] for row in rows]
    text = "".join(written([["Units", "Price", "Kind"], *decimal], ";"))
    yield _make("decimal commas", "delimiter", text, decimal, names=("Units", "Price", "Kind"))


def _one_row(rows: list[list[str]]) -> Iterator[Variant]:
    """One damage at each row, and where it matters at each column; 0 is the header."""
    table = [list(COLUMNS), *rows]
    lines = written(table)
    width = len(COLUMNS)

    def changed(index: int, line: str) -> str:
        return "".join([*lines[:index], line, *lines[index + 1 :]])

    for index, row in enumerate(table):
        header = index == 0
        damaged = None if header else index - 1
        for delimiter in (" ", ";", "\t"):
            text = changed(index, written([row], delimiter)[0])
            family = f"row delimiter {delimiter!r}"
            yield _make(f"{family} at {index}", family, text, rows, damaged=damaged)
        for name, line in (
            ("quote '", written([row], quotechar="'")[0]),
            ("escape", written([[cell + '"' for cell in row]], escape="\\")[0]),
            ("ending", lines[index].rstrip("\n") + "\r\n"),
            ("ending cr", lines[index].rstrip("\n") + "\r"),
            ("spaces", lines[index].replace(",", " , ")),
            ("five cells", written([row[:5]])[0]),
            ("one cell", written([row[:1]])[0]),
        ):
            if header and name in ("five cells", "one cell", "escape", "spaces"):
                continue
            if name == "ending cr" and index == len(table) - 1:
                continue
            family = f"row {name}"
            hurt = None if name.startswith("ending") or header else damaged
            yield _make(f"{family} at {index}", family, changed(index, line), rows, damaged=hurt)
        for column in range(width):
            cells = list(row)
            cells[column] = cells[column] + "\0"
            if not header:
                text = changed(index, written([cells])[0])
                if column % 3 == 0:
                    yield _make(f"NUL {index} {column}", "cell NUL", text, rows, damaged=damaged)
            pieces = written([row])[0].rstrip("\n")
            fields = next(csv.reader(io.StringIO(pieces)))
            encoded = [written([[field]])[0].rstrip("\n") for field in fields]
            before, behind = encoded[:column], encoded[column + 1 :]
            merged = [*before[:-1], before[-1] + encoded[column], *behind] if column else None
            for name, joined in (
                ("more", [*before, "", encoded[column], *behind]),
                ("less", merged),
                ("quote", [*before, _stray(encoded[column]), *behind]),
            ):
                if joined is None:
                    continue
                text = changed(index, ",".join(joined) + "\n")
                names: tuple[str, ...] | None = COLUMNS
                if header and name == "more":
                    names = (*COLUMNS[:column], f"column_{column + 1}", *COLUMNS[column:])
                elif header and name == "less":
                    names = tuple(next(csv.reader(io.StringIO(",".join(joined)))))
                elif header:
                    names = (*COLUMNS[:column], '"' + COLUMNS[column], *COLUMNS[column + 1 :])
                truth = rows
                if header and name == "more":
                    truth = [[*cells, ""] for cells in rows]
                elif header and name == "less":
                    continue  # whether the table is narrower then is a matter of taste
                family = f"cell {name}"
                yield _make(f"{family} {index} {column}", family, text, truth, names, damaged)


def _stray(cell: str) -> str:
    """The cell with a quote before its text that nobody closes."""
    return '""' + cell[1:] if cell.startswith('"') else '"' + cell
