"""The dashboard's HTML and CSS; what comes from outside is escaped here, as in ``markup``."""

from __future__ import annotations

from collections.abc import Hashable, Sequence, Set
from datetime import datetime
from html import escape
from typing import TYPE_CHECKING, Any

from taskwidgets.dashboard import HEADINGS, done_words, owner_words, row_words
from taskwidgets.runtime.receipt import Receipt
from taskwidgets.runtime.states import FINAL, State
from taskwidgets.runtime.store import JobRecord
from taskwidgets.runtime.words import amount, bytes_text, count, duration
from taskwidgets.widgets import markup

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["STYLE", "event_table", "line", "note", "owner_card", "receipt_card", "still", "title"]

STILL = ("job", "name", "state", "done", "rows", "owner")  # more do not fit a narrow window
LONG = {"name", "owner"}  # columns of the still table that may be broken anywhere
LONGEST_ERROR = 200  # characters in a row; the opened job shows it in full

STYLE = (
    markup.STYLE
    + f"""
<style onload="{markup.MARK_LISTS}">
"""
    + """
.taskwidgets-dashboard {
  border: 1px solid var(--jp-border-color1, #bdbdbd); border-radius: 6px; padding: 10px 14px;
  max-width: 1000px; box-sizing: border-box; overflow: hidden;
}
.taskwidgets-dashboard .widget-html, .taskwidgets-dashboard .widget-html-content {
  width: 100%; line-height: 1.45; margin: 0; height: auto;
}
.taskwidgets-dashboard-title { font-weight: 600; font-size: var(--jp-ui-font-size2, 15px); }
.taskwidgets-dashboard-tools { flex-flow: row wrap; overflow: visible; margin: 4px -2px; }
.taskwidgets-dashboard-tools .widget-label { width: auto; min-width: 0; margin-right: 6px; }
.taskwidgets-dashboard-tools > .widget-inline-hbox { width: auto; max-width: 100%; }
.taskwidgets-dashboard-tools .widget-text { flex: 1 1 240px; max-width: 380px; }
.taskwidgets-dashboard-tools .widget-dropdown { margin-right: 16px; }
.taskwidgets-dashboard-list { max-height: 460px; overflow-x: hidden; overflow-y: auto; }
.taskwidgets-row {
  flex: 0 0 auto; overflow: visible; padding: 7px 2px 5px;
  border-top: 1px solid var(--jp-border-color2, #e0e0e0);
}
.taskwidgets-row-main {
  flex-flow: row wrap; overflow: visible; align-items: center; gap: 3px 12px;
}
.taskwidgets-row-main > .widget-html { flex: 1 1 400px; width: auto; min-width: 0; }
/* As wide as the most buttons of a row, so that the states stand one below the other. */
.taskwidgets-row-main > .taskwidgets-buttons { flex: 0 1 240px; margin: 0; }
.taskwidgets-row .taskwidgets-buttons .jupyter-button { min-width: 60px; padding: 0 9px; }
.taskwidgets-number { color: var(--jp-ui-font-color2, #616161); white-space: nowrap; }
.taskwidgets-second { display: flex; flex-wrap: wrap; align-items: center; gap: 0 14px; }
.taskwidgets-second .taskwidgets-track { flex: 0 0 120px; height: 8px; margin: 4px 0; }
.taskwidgets-second > span { font-variant-numeric: tabular-nums; }
.taskwidgets-card { margin: 8px 0 0; }
.taskwidgets-card-name { font-weight: 600; }
.taskwidgets-detail { margin-top: 10px; overflow: visible; }
.taskwidgets-detail .taskwidgets-panel { margin: 4px 0; }
.taskwidgets-scroll { max-height: 260px; overflow: auto; }
.taskwidgets-table { border-collapse: collapse; font-size: 12px; line-height: 1.4; }
.taskwidgets-table th, .taskwidgets-table td {
  text-align: left; vertical-align: top;
  color: var(--jp-ui-font-color1, inherit);
}
.taskwidgets-dashboard .jupyter-button:focus-visible,
.taskwidgets-dashboard input:focus-visible, .taskwidgets-dashboard select:focus-visible {
  outline: 2px solid var(--jp-brand-color1, #1976d2); outline-offset: 1px;
}
</style>
"""
)


def title(text: str) -> str:
    """The dashboard's heading."""
    return (
        '<div class="taskwidgets taskwidgets-dashboard-title" role="heading" aria-level="3">'
        f"{escape(text)}</div>"
    )


def note(text: str) -> str:
    """A quiet line: which jobs are shown, or that there are none."""
    return f'<div class="taskwidgets taskwidgets-quiet">{escape(text)}</div>'


def line(record: JobRecord, word: str, error: str, *, mine: bool) -> str:
    """One job of the list: number, name, state; below them the bar, the rows, and who runs it."""
    state, spec = record.state, record.spec
    parts = [done_words(record)]
    if state is not State.TERMINATED:
        parts.append(amount(record.progress))
    if state not in FINAL:
        parts.append("this kernel" if mine else owner_words(record))
    facts = "".join(f"<span>{escape(part)}</span>" for part in parts if part)
    if len(error) > LONGEST_ERROR:
        error = f"{error[:LONGEST_ERROR]}…"
    return (
        '<div class="taskwidgets taskwidgets-heading">'
        f'<span class="taskwidgets-number">#{record.id}</span>'
        f'<span class="taskwidgets-name" title="{escape(markup.way(spec.source, spec.target))}">'
        f"{escape(spec.name)}</span>"
        f'<span class="taskwidgets-state taskwidgets-state-{state}">'
        f'<span class="taskwidgets-icon-{markup.ICONS[state]}"></span>{escape(word)}</span></div>'
        '<div class="taskwidgets taskwidgets-second taskwidgets-quiet">'
        + markup.bar(f"job {record.id}, {spec.name}", state, record.progress, word)
        + facts
        + "</div>"
        + (f'<div class="taskwidgets taskwidgets-quiet">{escape(error)}</div>' if error else "")
    )


def _card(name: str, parts: Sequence[str]) -> str:
    spans = "".join(f'<span class="taskwidgets-wide">{escape(part)}</span>' for part in parts)
    return (
        f'<div class="taskwidgets taskwidgets-card"><div class="taskwidgets-card-name">{name}</div>'
        f'<div class="taskwidgets-facts taskwidgets-quiet">{spans}</div></div>'
    )


def owner_card(record: JobRecord, *, mine: bool) -> str:
    """Which process runs the job or ran it last, since when, and its last sign of life."""
    owner = record.owner
    if owner is None:
        return _card("Owner", ["no process has begun it yet"])
    gone = record.state in (State.INTERRUPTED, State.PAUSED, State.FAILED, *FINAL)
    parts = [
        f"host {owner.host}",
        f"process {owner.pid}" + (" (this kernel)" if mine else ""),
        *([f"notebook {owner.notebook}"] if owner.notebook else []),
        *([f"kernel {owner.kernel}"] if owner.kernel else []),
        f"since {_moment(owner.since)}",
        f"last sign of life {_moment(owner.seen)}",
    ]
    return _card("Last owner" if gone else "Owner", parts)


def receipt_card(receipt: Receipt | None) -> str:
    """What a completed job did; "" for another."""
    if receipt is None:
        return ""
    if not receipt.sha256:  # a user's own job
        done = f"{count(receipt.rows_loaded)} done"
        return _card("Receipt", [done, duration(receipt.seconds), receipt.source, *receipt.notes])
    parts = [
        f"{count(receipt.rows_read)} rows read",
        f"{count(receipt.rows_loaded)} loaded",
        f"{count(receipt.rows_rejected)} rejected",
        bytes_text(receipt.bytes),
        duration(receipt.seconds),
        f"sha256 {receipt.sha256}",
        f"{receipt.source} → {receipt.target}",
        *receipt.notes,
    ]
    return _card("Receipt", parts)


def event_table(events: pd.DataFrame, most: int) -> str:
    """A job's last events, the newest first."""
    rows = [_event_row(event) for event in events.to_dict("records")]
    name = "Events" if len(rows) < most else f"Newest {most} events"
    # With a tabindex, so that the keyboard can scroll it.
    return (
        f'<div class="taskwidgets taskwidgets-card"><div class="taskwidgets-card-name">{name}</div>'
        f'<div class="taskwidgets-scroll" tabindex="0" role="region" aria-label="{name}">'
        + _table(("at", "what", "cause", "by"), rows, {"cause", "by"})
        + "</div></div>"
    )


def _event_row(event: dict[Hashable, Any]) -> tuple[str, ...]:
    what = str(event["kind"])
    if what == "transition":
        start = event["from_state"]  # pandas has NaN where there is none
        what = f"{start if isinstance(start, str) else 'new'} → {event['to_state']}"
    return _moment(event["at"]), what, str(event["cause"]), str(event["owner"])


def still(first: str, records: Sequence[JobRecord]) -> str:
    """The table that stays in a saved notebook, under a line that says when it was true."""
    colour = "color: var(--jp-ui-font-color2, #616161)"
    places = [HEADINGS.index(heading) for heading in STILL]
    rows = [[words[place] for place in places] for words in map(row_words, records)]
    return (
        f'<details style="{colour}; font-size: 12px; padding-top: 4px; max-width: 1000px">'
        f'<summary style="overflow-wrap: anywhere">{escape(first)}</summary>'
        + (_table(STILL, rows, LONG) if records else "")
        + "</details>"
    )


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]], long: Set[str]) -> str:
    """A table whose columns ``long`` may be broken anywhere, the others between words.

    The styles are in the elements: JupyterLab has its own for the tables of an output, and where a
    saved notebook is shown there is no style sheet of ours.
    """
    left = "text-align: left; vertical-align: top; padding: 2px 8px 2px 0"
    styles = [
        f"{left}; overflow-wrap: anywhere; min-width: 3em" if heading in long else left
        for heading in headings
    ]
    head = "".join(
        f'<th scope="col" style="{style}">{escape(heading)}</th>'
        for heading, style in zip(headings, styles, strict=True)
    )
    body = "".join(
        "<tr>"
        + "".join(
            f'<td style="{style}">{escape(cell)}</td>'
            for cell, style in zip(row, styles, strict=True)
        )
        + "</tr>"
        for row in rows
    )
    return (
        '<table class="taskwidgets-table" style="table-layout: auto; margin-left: 0">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )


def _moment(at: datetime | None) -> str:
    return "unknown" if at is None else f"{at:%Y-%m-%d %H:%M:%S} UTC"
