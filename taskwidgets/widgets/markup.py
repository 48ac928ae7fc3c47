"""The panel's HTML and CSS. Everything that comes from outside is escaped here, nowhere else.

Colours are JupyterLab's own variables, with a fallback for front ends that have none, so that
light and dark themes both read well. No state is told by colour alone.
"""

from __future__ import annotations

from datetime import datetime
from html import escape
from typing import Protocol

from taskwidgets.cluster import Facts
from taskwidgets.runtime.progress import Progress
from taskwidgets.runtime.receipt import Receipt
from taskwidgets.runtime.states import State
from taskwidgets.runtime.words import amount, bytes_text, count, duration, percentage, speed

__all__ = [
    "MARK_LISTS",
    "STYLE",
    "at_work",
    "bar",
    "dashboard_link",
    "facts",
    "fault",
    "heading",
    "kept",
    "outcome",
    "place",
    "reject",
    "static_html",
    "status",
]

LONGEST_NOTE = 500  # characters
# A bar of unknown length begins to move after so many seconds, as each picture costs the page, and
# most jobs know their length by then. In CYCLE it is where it began (taskwidgets-slide, there and
# back): what is written anew on each renewal has to go on where the last one was.
STILL, CYCLE = 1.0, 3.2

ICONS = {
    State.PENDING: "ring",
    State.RUNNING: "play",
    State.PAUSING: "pause",
    State.PAUSED: "pause",
    State.INTERRUPTED: "warning",
    State.COMPLETED: "check",
    State.FAILED: "cross",
    State.TERMINATING: "stop",
    State.TERMINATED: "stop",
}
"""Beside the state's word, never instead of it. Drawn by the style sheet: characters such as U+23F8
are blank boxes in many fonts, or come as coloured emoji."""

# In a list that has the focus, arrows and letters choose; JupyterLab would take them for commands
# of the notebook (x cuts the cell), were the list not marked. No trait of a widget can do that.
MARK_LISTS = (
    "this.closest('.taskwidgets-form, .taskwidgets-dashboard')"
    "?.addEventListener('focusin', event => "
    "event.target.matches('select') && "
    "event.target.setAttribute('data-lm-suppress-shortcuts', 'true'))"
)

STYLE = """
<style>
.taskwidgets-panel {
  border: 1px solid var(--jp-border-color1, #bdbdbd); border-radius: 6px;
  padding: 10px 14px; max-width: 760px; box-sizing: border-box; overflow: hidden;
  container-type: inline-size;
}
.taskwidgets-panel .widget-html, .taskwidgets-panel .jupyter-widget-html,
.taskwidgets-panel .widget-html-content { width: 100%; line-height: 1.45; margin: 0; height: auto; }
.taskwidgets {
  color: var(--jp-ui-font-color1, inherit); font-family: var(--jp-ui-font-family, sans-serif);
  font-size: var(--jp-ui-font-size1, 13px);
}
.taskwidgets-heading { display: flex; flex-wrap: wrap; gap: 2px 10px; align-items: baseline; }
.taskwidgets-name { font-weight: 600; overflow-wrap: anywhere; }
.taskwidgets-quiet { color: var(--jp-ui-font-color2, #616161); overflow-wrap: anywhere; }
.taskwidgets-state { margin-left: auto; font-weight: 600; white-space: nowrap; }
.taskwidgets-state-completed { color: var(--jp-success-color0, #1b5e20); }
.taskwidgets-state-failed, .taskwidgets-state-interrupted {
  color: var(--jp-error-color0, #b71c1c);
}
[data-jp-theme-light="false"] .taskwidgets-state-completed {
  color: var(--jp-success-color2, #81c784);
}
[data-jp-theme-light="false"] .taskwidgets-state-failed,
[data-jp-theme-light="false"] .taskwidgets-state-interrupted {
  color: var(--jp-error-color2, #e57373);
}
.taskwidgets-track {
  height: 12px; border-radius: 6px; margin: 8px 0 6px; overflow: hidden;
  background: var(--jp-layout-color2, #eeeeee); outline: 1px solid var(--jp-border-color1, #9e9e9e);
}
.taskwidgets-fill {
  height: 100%; border-radius: 6px; background: var(--jp-brand-color1, #1976d2);
  transition: width 0.15s linear;
}
.taskwidgets-fill-paused { background: var(--jp-warn-color1, #f57c00); }
.taskwidgets-fill-failed { background: var(--jp-error-color1, #d32f2f); }
.taskwidgets-fill-completed { background: var(--jp-success-color1, #388e3c); }
.taskwidgets-fill-unknown { width: 30%; }
/* By transform, for which nothing has to be laid out anew. */
.taskwidgets-fill-moving { animation: taskwidgets-slide 1.6s ease-in-out infinite alternate; }
@keyframes taskwidgets-slide { to { transform: translateX(233%); } }
@media (prefers-reduced-motion: reduce) {
  .taskwidgets-fill { transition: none; } .taskwidgets-fill-moving { animation: none; }
}
.taskwidgets-facts { display: flex; flex-wrap: wrap; gap: 2px 18px; margin: 0; padding: 0; }
.taskwidgets-facts > span { white-space: nowrap; font-variant-numeric: tabular-nums; }
.taskwidgets-facts .taskwidgets-wide { white-space: normal; overflow-wrap: anywhere; }
.taskwidgets-link a { color: var(--jp-content-link-color, #0b57d0); text-decoration: underline; }
.taskwidgets-fault {
  margin: 8px 0 0; padding: 8px 10px; white-space: pre-wrap; overflow-wrap: anywhere;
  border-left: 4px solid var(--jp-error-color1, #d32f2f);
  background: var(--jp-layout-color2, #eeeeee); color: var(--jp-ui-font-color1, inherit);
  max-height: 16em; overflow-y: auto;
}
.taskwidgets-kept { overflow: visible; }
.taskwidgets-kept .taskwidgets-buttons { margin: 8px 0 0; align-items: center; }
.taskwidgets-kept .taskwidgets-buttons > * { margin: 2px 6px 2px 0; }
.taskwidgets-kept .taskwidgets-buttons .taskwidgets { margin: 0; }
.taskwidgets-panel .taskwidgets-kept .taskwidgets-buttons .widget-html { width: auto; }
.taskwidgets-rejects {
  display: grid; grid-template-columns: minmax(0, 2fr) minmax(0, 3fr); gap: 10px 12px;
  margin: 8px 0 0; align-items: start; overflow: visible;
}
.taskwidgets-rejects > * { margin: 0; width: auto; min-width: 0; }
.taskwidgets-rejects .taskwidgets-reason { overflow-wrap: anywhere; }
.taskwidgets-rejects .widget-textarea { height: auto; }
.taskwidgets-rejects .widget-textarea textarea {
  font-family: var(--jp-code-font-family, monospace); resize: vertical; margin: 0; width: 100%;
  overflow-wrap: anywhere; box-sizing: border-box;
}
/* Not an outline: the widgets' own style sheet takes it off text areas, with !important. */
.taskwidgets-rejects .widget-textarea textarea:focus {
  box-shadow: inset 0 0 0 2px var(--jp-brand-color1, #1976d2);
}
/* The label is the text area's name; to the eye, the line stands beside it already. */
.taskwidgets-rejects .widget-label {
  position: absolute; width: auto; clip-path: inset(50%); pointer-events: none;
}
.taskwidgets-outcome { white-space: pre-wrap; overflow-wrap: anywhere; margin-top: 8px; }
@container (max-width: 520px) {
  .taskwidgets-rejects { grid-template-columns: minmax(0, 1fr); gap: 4px; }
  .taskwidgets-rejects > .widget-textarea { margin-bottom: 8px; }
}
.taskwidgets-facts > span:first-child:not(.taskwidgets-wide) {
  color: var(--jp-ui-font-color1, inherit); font-weight: 600;
}
.taskwidgets-buttons { margin: 8px -2px 0; flex-flow: row wrap; overflow: visible; }
.taskwidgets-buttons .taskwidgets { margin: 0 2px 2px; }
.taskwidgets-buttons .jupyter-button { width: auto; min-width: 92px; }
[class*="taskwidgets-icon-"]::before {
  content: ""; display: inline-block; width: 10px; height: 10px; box-sizing: border-box;
  margin-right: 7px; background: currentcolor;
}
.taskwidgets-icon-pause::before {
  background: none; border: solid currentcolor; border-width: 0 3px;
}
.taskwidgets-icon-play::before { clip-path: polygon(5% 0, 100% 50%, 5% 100%); }
.taskwidgets-icon-ring::before {
  background: none; border: 2px solid currentcolor; border-radius: 50%;
}
.taskwidgets-icon-check::before {
  background: none; border: solid currentcolor; border-width: 0 2px 2px 0; width: 6px;
  height: 11px; transform: rotate(45deg) translateY(-1px); margin-right: 9px;
}
.taskwidgets-icon-cross::before {
  clip-path: polygon(20% 0, 0 20%, 30% 50%, 0 80%, 20% 100%, 50% 70%, 80% 100%, 100% 80%, 70% 50%,
    100% 20%, 80% 0, 50% 30%);
}
.taskwidgets-icon-warning::before { clip-path: polygon(50% 0, 100% 100%, 0 100%); }
.taskwidgets-buttons .jupyter-button:disabled { opacity: 0.45; }
.taskwidgets-buttons .jupyter-button:focus-visible {
  outline: 2px solid var(--jp-brand-color1, #1976d2); outline-offset: 1px;
}
</style>
"""


def way(source: str, target: str) -> str:
    """From where to where; a user's own job has no target."""
    return f"{source} → {target}" if target else source


def heading(job_id: int, name: str, source: str, target: str, state: State, word: str) -> str:
    """Number, name, and the state as icon and word."""
    return (
        '<div class="taskwidgets taskwidgets-heading">'
        f'<span class="taskwidgets-name" title="{escape(way(source, target))}">'
        f"{escape(name)}</span>"
        f'<span class="taskwidgets-quiet">job {job_id}</span>'
        f'<span class="taskwidgets-state taskwidgets-state-{state}">'
        f'<span class="taskwidgets-icon-{ICONS[state]}"></span>{escape(word)}</span></div>'
    )


def bar(name: str, state: State, progress: Progress, word: str) -> str:
    """The progress bar; to a screen reader a progressbar with a value and a text."""
    look = {
        State.PAUSED: "paused",
        State.PAUSING: "paused",
        State.FAILED: "failed",
        State.INTERRUPTED: "failed",
        State.COMPLETED: "completed",
    }.get(state, "going")
    fraction = progress.fraction
    if state is State.COMPLETED:
        fraction = 1.0
    elif state is State.TERMINATED:
        fraction = 0.0  # nothing of it is left
    said = f"{word}, {amount(progress)}"
    label = f'role="progressbar" aria-label="Progress of {escape(name)}"'
    if fraction is None:
        moving = ""
        if progress.elapsed >= STILL:
            since = (progress.elapsed - STILL) % CYCLE
            moving = f' taskwidgets-fill-moving" style="animation-delay: -{since:.1f}s'
        return (
            f'<div class="taskwidgets taskwidgets-track" {label} aria-valuetext="{escape(said)}">'
            f'<div class="taskwidgets-fill taskwidgets-fill-{look} '
            f'taskwidgets-fill-unknown{moving}"></div></div>'
        )
    whole = int(fraction * 100)
    return (
        f'<div class="taskwidgets taskwidgets-track" {label} aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{whole}" aria-valuetext="{whole} %, {escape(said)}">'
        f'<div class="taskwidgets-fill taskwidgets-fill-{look}" '
        f'style="width: {fraction * 100:.1f}%"></div></div>'
    )


class Shown(Protocol):
    """What the line of numbers tells of a job."""

    kind: str
    target: str
    remark: str

    @property
    def state(self) -> State: ...
    @property
    def progress(self) -> Progress: ...
    @property
    def checkpoint_at(self) -> datetime | None: ...
    @property
    def receipt(self) -> Receipt | None: ...


def facts(job: Shown, link: str | None) -> str:
    """The line of numbers below the bar; ``link`` leads to the finished file."""
    state, progress, receipt = job.state, job.progress, job.receipt
    checkpoint_at, anchor = job.checkpoint_at, ""
    if state is State.COMPLETED and receipt is not None and not receipt.sha256:
        parts, wide = [amount(progress), duration(receipt.seconds)], [*receipt.notes]
    elif state is State.COMPLETED and receipt is not None:
        pace = receipt.bytes / receipt.seconds if receipt.seconds > 0 else 0
        parts = [
            f"{count(receipt.rows_loaded)} rows",
            f"{count(receipt.rows_rejected)} rejected" if receipt.rows_rejected else "",
            bytes_text(receipt.bytes),
            duration(receipt.seconds) + (f" ({bytes_text(pace)}/s)" if pace else ""),
            f"sha256 {receipt.sha256[:12]}…",
        ]
        place = "in the file" if job.kind == "download" else "in the table"
        wide = [f"{place} {job.target}", *receipt.notes]
        if receipt.rows_rejected:
            wide.append("job.rejects() shows what was not loaded, job.replay() loads it mended")
        if link is not None:
            anchor = f'<a href="{escape(link)}" download>Download the file</a>'
    elif state is State.TERMINATED:
        parts = []
        wide = ["cleaned up: the target is as it was before" if job.target else "terminated"]
    else:
        parts = [
            percentage(progress),
            amount(progress),
            f"{count(progress.rejected)} rejected" if progress.rejected else "",
            speed(progress),
            f"{duration(progress.eta)} left" if progress.eta is not None else "",
            f"{duration(progress.elapsed)} worked",
            f"checkpoint {checkpoint_at:%H:%M:%S} UTC" if checkpoint_at else "no checkpoint yet",
        ]
        wide = []
        if state is State.PAUSED:
            wide.append("Everything done so far is committed; the kernel may be restarted.")
    if job.remark:
        wide.append(job.remark)
    spans = [f"<span>{escape(part)}</span>" for part in parts if part]
    spans += [f'<span class="taskwidgets-wide">{escape(_short(part))}</span>' for part in wide]
    if anchor:
        spans.append(f'<span class="taskwidgets-link">{anchor}</span>')
    return f'<div class="taskwidgets taskwidgets-facts taskwidgets-quiet">{"".join(spans)}</div>'


def at_work(cluster: Facts) -> str:
    """The line of numbers on the cluster whose workers do the work: each one's rate, too."""
    workers = "1 worker" if cluster.workers == 1 else f"{count(cluster.workers)} workers"
    parts = [workers if cluster.workers else "no worker", f"{count(cluster.in_flight)} in flight"]
    if cluster.rates:
        slowest, fastest = bytes_text(min(cluster.rates)), bytes_text(max(cluster.rates))
        rates = fastest if slowest == fastest else f"{slowest} to {fastest}"
        parts.append(f"{rates}/s per worker")
    spans = "".join(f"<span>{escape(part)}</span>" for part in parts)
    return (
        '<div class="taskwidgets taskwidgets-facts taskwidgets-quiet" role="group" '
        f'aria-label="Dask cluster"><span class="taskwidgets-wide">Dask cluster:</span>{spans}'
        "</div>"
    )


def dashboard_link(address: str) -> str:
    """A link to Dask's own dashboard; "" for what is no address of a page."""
    if not address.startswith(("http://", "https://", "/")):
        return ""
    return (
        '<div class="taskwidgets taskwidgets-link"><a href="' + escape(address) + '" '
        'target="_blank" rel="noopener noreferrer">Dask\'s dashboard</a></div>'
    )


def _short(note: str) -> str:
    """A note that fits in a panel, such as that of a hundred columns that were renamed."""
    if len(note) <= LONGEST_NOTE:
        return note
    return f"{note[:LONGEST_NOTE]}… (job.receipt.notes has all of it)"


def kept(number: int) -> str:
    """How many rows were not loaded."""
    rows = "1 row was" if number == 1 else f"{count(number)} rows were"
    text = f"{rows} kept as rejects" if number else "No rejects are left"
    return f'<div class="taskwidgets">{escape(text)}</div>'


def reject(line: int, column: str | None, message: str, *, cut: bool) -> str:
    """Where a record stands and why it was not loaded; ``cut``: it is too long to be edited."""
    where = f"line {line:,}" + (f", column {column}" if column else "")
    note = "<div>Too long to be edited here: job.rejects() has all of it.</div>" if cut else ""
    return (
        f'<div class="taskwidgets"><div class="taskwidgets-quiet">{escape(where)}</div>'
        f'<div class="taskwidgets-reason">{escape(message)}</div>{note}</div>'
    )


def place(first: int, last: int, total: int) -> str:
    """Which of the rejects are shown."""
    text = f"{first:,} to {last:,} of {total:,}" if last >= first else ""
    return f'<div class="taskwidgets taskwidgets-quiet">{escape(text)}</div>'


def outcome(text: str) -> str:
    """What came of a replay; said aloud too."""
    return f'<div class="taskwidgets taskwidgets-outcome" role="status">{escape(text)}</div>'


def fault(error: str) -> str:
    """The error in full."""
    return f'<div class="taskwidgets taskwidgets-fault" role="alert">{escape(error)}</div>'


def status(text: str) -> str:
    """Said aloud by a screen reader when it changes; shown to nobody's eyes."""
    return (
        '<div role="status" aria-live="polite" style="position:absolute;width:1px;height:1px;'
        f'overflow:hidden;clip-path:inset(50%)">{escape(text)}</div>'
    )


def static_html(line: str) -> str:
    """The line that stays in a saved notebook."""
    return (
        '<div style="color: var(--jp-ui-font-color2, #616161); font-size: 12px; '
        'padding-top: 4px; max-width: 760px; overflow-wrap: anywhere; white-space: pre-line">'
        f"{escape(line)}</div>"
    )
