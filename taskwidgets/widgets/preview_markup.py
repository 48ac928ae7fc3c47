"""A preview's HTML. Everything in it comes from a file, so everything is escaped here.

The styles are in the elements, as a saved notebook has no style sheet of ours; the colours are
JupyterLab's own variables with a fallback, so that light and dark themes both read well.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Protocol

from taskwidgets.previews import Preview, decision_words, heading_words, table_words

__all__ = ["preview_html", "rows_html"]

_LONGEST = 80  # characters of a cell; the whole of it is its tooltip
_MOST_COLUMNS = 100  # more would make the page slow

_FONT = (
    "color: var(--jp-ui-font-color1, inherit); font-family: var(--jp-ui-font-family, sans-serif); "
    "font-size: var(--jp-ui-font-size1, 13px)"
)
_QUIET = "color: var(--jp-ui-font-color2, #757575)"
_LINE = "1px solid var(--jp-border-color2, #bdbdbd)"
_CELL = (
    "text-align: left; vertical-align: top; padding: 3px 10px 3px 0; white-space: pre-wrap; "
    "max-width: 24em; overflow-wrap: anywhere"
)


class Rows(Protocol):
    """Columns with their types, and rows below them; None for NULL."""

    @property
    def columns(self) -> tuple[str, ...]: ...
    @property
    def types(self) -> Mapping[str, str]: ...
    @property
    def rows(self) -> list[tuple[str | None, ...]]: ...


def rows_html(shown: Rows) -> str:
    """The rows alone, under their columns' names and types."""
    return f'<div class="taskwidgets" style="{_FONT}">{_rows(shown)}</div>'


def preview_html(shown: Preview) -> str:
    """The decisions, and under them the first rows under their names and types."""
    decisions = "".join(
        f'<span style="margin-right: 18px; display: inline-block">'
        f'<span style="{_QUIET}">{escape(label)}</span> {escape(text)}</span>'
        for label, text in decision_words(shown)
    )
    return (
        f'<div class="taskwidgets taskwidgets-preview" style="{_FONT}">'
        f'<div style="font-weight: 600; overflow-wrap: anywhere">{escape(heading_words(shown))}'
        f'</div><div style="margin: 4px 0 8px; overflow-wrap: anywhere">{decisions}</div>'
        f"{_preamble(shown)}{_rows(shown)}{_tables(shown)}</div>"
    )


def _rows(shown: Rows) -> str:
    columns = shown.columns[:_MOST_COLUMNS]
    if not columns:
        return f'<div style="{_QUIET}">nothing is in it</div>'
    head = "".join(
        f'<th scope="col" style="{_CELL}; border-bottom: {_LINE}">{escape(column)}'
        f'<div style="{_QUIET}; font-weight: 400">{escape(shown.types.get(column, ""))}</div></th>'
        for column in columns
    )
    body = "".join(
        "<tr>" + "".join(map(_cell, row[:_MOST_COLUMNS])) + "</tr>" for row in shown.rows
    )
    more = len(shown.columns) - len(columns)
    note = f'<div style="{_QUIET}">and {more:,} more columns</div>' if more else ""
    return (
        '<div style="overflow-x: auto"><table style="table-layout: auto; margin-left: 0; '
        f'border-collapse: collapse; font-size: 12px"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>{note}"
    )


def _cell(cell: str | None) -> str:
    if cell is None:
        return f'<td style="{_CELL}; {_QUIET}; font-style: italic">NULL</td>'
    if len(cell) <= _LONGEST:
        return f'<td style="{_CELL}">{escape(cell)}</td>'
    return f'<td style="{_CELL}" title="{escape(cell[:2000])}">{escape(cell[: _LONGEST - 1])}…</td>'


def _preamble(shown: Preview) -> str:
    lines = [line for line in shown.preamble if line.strip()]
    if not lines:
        return ""
    text = "\n".join(line[:200] for line in lines[:20])
    return (
        '<details style="margin-bottom: 8px"><summary>left out above the table</summary>'
        f'<pre style="{_QUIET}; white-space: pre-wrap; margin: 4px 0">{escape(text)}</pre>'
        "</details>"
    )


def _tables(shown: Preview) -> str:
    if not shown.tables:
        return ""
    items = "".join(f"<li>{escape(table_words(table))}</li>" for table in shown.tables)
    return f'<div style="margin-top: 8px">Also in the file, not loaded:<ul>{items}</ul></div>'
