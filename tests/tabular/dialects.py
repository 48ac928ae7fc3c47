"""Tables of strings, and every way of writing them that a program might have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import strategies as st

__all__ = ["Made", "Row", "alike", "made"]

Row = list[str | None]

# Letters beyond ASCII that each encoding has; all have the marks of delimited text.
ENCODINGS = {
    "utf-8": "éß日😀", "utf-8-sig": "éß日", "utf-16": "éß日😀", "utf-16-le": "é日", "utf-32": "é😀",
    "latin-1": "éß", "cp1252": "é€“", "koi8-r": "йЖ", "shift_jis": "日表ソ", "gb18030": "日é",
}  # fmt: skip
NEWLINES = ("\n", "\r\n", "\r")


@dataclass(frozen=True)
class Made:
    """A file, the options that say how it is written, and what stands in it."""

    content: bytes
    options: dict[str, object]
    names: tuple[str, ...]
    rows: list[Row]


@st.composite
def made(draw: st.DrawFn) -> Made:
    """Any table of strings and NULLs, written in any dialect."""
    encoding = draw(st.sampled_from(sorted(ENCODINGS)))
    delimiter = draw(st.sampled_from([",", ";", "\t", "|", "^", "||", ", ", "::"]))
    quote = draw(st.sampled_from(['"', "'", "`"]))
    escape = draw(st.sampled_from(["", "\\"]))
    newline = draw(st.sampled_from(NEWLINES))
    columns = draw(st.integers(1, 4))
    cells = st.text(st.sampled_from("ab1% ,;|:\t\"'`\\\n\r-" + ENCODINGS[encoding]), max_size=6)
    # A line of one column with nothing in it is a blank line, and not a NULL.
    nullable = cells if columns == 1 else cells | st.none()
    row = st.lists(nullable, min_size=columns, max_size=columns)
    rows = draw(st.lists(row, min_size=1, max_size=8))
    everything = columns == 1 or draw(st.booleans())
    marks = (*delimiter, quote, escape or quote, *NEWLINES)

    def field(value: str | None) -> str:
        if value is None:
            return ""
        edges = value.strip() != value
        if not everything and value and not edges and not any(mark in value for mark in marks):
            return value
        inner = value.replace(escape, escape * 2) if escape else value
        return quote + inner.replace(quote, (escape or quote) + quote) + quote

    names = tuple(f"c{number}{draw(cells).strip()}" for number in range(columns))
    header = draw(st.booleans())
    lines = [
        delimiter.join(map(field, values)) for values in ([list(names)] if header else []) + rows
    ]
    text = newline.join(lines) + draw(st.sampled_from([newline, ""]))
    options: dict[str, object] = {
        "delimiter": delimiter, "quotechar": quote, "escapechar": escape, "encoding": encoding,
        "header": header, "line_terminator": newline, "skip_rows": 0, "footer_rows": 0,
        "skip_initial_space": False,
    }  # fmt: skip
    numbered = tuple(f"column_{number}" for number in range(1, columns + 1))
    return Made(text.encode(encoding), options, names if header else numbered, rows)


def alike(names: Sequence[str]) -> list[str]:
    """Names to be compared: of a line break in one, detection does not keep which kind it is."""
    return [name.replace("\r\n", "\n").replace("\r", "\n") for name in names]
