"""The dashboard in a notebook: a live list of all jobs, with a filter, a search and buttons.

One thread reads the database, once a second while a job in the list is active, else every five;
it ends when no cell shows the list any more. What it read is written into the widgets on the
kernel's loop, and only what has changed.
"""

from __future__ import annotations

import contextvars
import logging
import threading
import time
import uuid
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from taskwidgets.dashboard import Dashboard, Query, as_of, text_table
from taskwidgets.errors import JobNotFound, TaskwidgetsError
from taskwidgets.runtime.job import Job
from taskwidgets.runtime.states import OWNED, State
from taskwidgets.runtime.store import JobRecord
from taskwidgets.runtime.threads import LoopHandle, start_thread
from taskwidgets.widgets import dashboard_markup, markup
from taskwidgets.widgets.dashboard_row import EVENTS, Detail, Looks, Row
from taskwidgets.widgets.traits import enable, free_route, set_value

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["DashboardView", "show"]

log = logging.getLogger("taskwidgets")

PAGE = 25  # jobs that are shown at once
KEPT = 100  # rows whose widgets are kept when their jobs have left the page
LIVELY, QUIET = 1.0, 5.0  # seconds between two looks, with an active job in the list and without
TYPING = 0.2  # seconds in which the letters of a search are gathered
RESERVE = 10  # a look that takes long is not taken again before so many times its duration


@dataclass(frozen=True)
class Look:
    """What the database said."""

    query: Query
    offset: int
    records: list[JobRecord]
    more: bool  # whether there are older ones
    error: str = ""
    opened: JobRecord | None = None
    events: pd.DataFrame | None = None


def show(dashboard: Dashboard) -> None:
    """Display the list in the current cell, and beside it the table that stays true."""
    from IPython.display import display

    view = DashboardView(dashboard)
    view.begin()
    bundle = view.root._repr_mimebundle_()
    data: dict[str, Any] = dict(bundle[0] if isinstance(bundle, tuple) else bundle)
    data["text/plain"] = "tw.jobs()"
    display(data, raw=True)  # type: ignore[no-untyped-call]
    view.publish()


class DashboardView:
    """The widgets of one displayed dashboard; ``root`` is what the cell displays."""

    def __init__(self, dashboard: Dashboard) -> None:
        self._dashboard = dashboard
        self._loop = LoopHandle()
        self._lock = threading.RLock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._query, self._offset = dashboard.query, 0
        self._opened: int | None = None
        self._latest: Look | None = None  # read, and not yet written into the widgets
        self._seen = False  # whether a page has told that it shows us
        self._looks = Looks()
        self._rows: dict[int, Row] = {}
        self._current: list[JobRecord] = []
        self._display_id = f"taskwidgets-{uuid.uuid4().hex}"
        self._context = contextvars.copy_context()
        self._published: object = None

        self._choices = {"all": None, **{str(one): frozenset([one]) for one in State}}
        given = self._query.states
        chosen = "all" if given is None else " or ".join(sorted(given)) or "none"
        self._choices.setdefault(chosen, given)  # several states at once, as the call named them
        self._filter = widgets.Dropdown(
            options=list(self._choices), value=chosen, description="State"
        )
        self._search = widgets.Text(
            value=self._query.search,
            description="Search",
            placeholder="name, source or target",
        )
        self._filter.observe(self._on_query, "value")
        self._search.observe(self._on_query, "value")
        self._note = widgets.HTML()
        self._fault = widgets.HTML(layout=self._looks.hidden)
        self._status = widgets.HTML()
        self._newer = self._button("Newer", "Show newer jobs", -PAGE)
        self._older = self._button("Older", "Show older jobs", PAGE)
        self._pages = widgets.HBox([self._newer, self._older], layout=self._looks.hidden)
        self._pages.add_class("taskwidgets-buttons")
        tools = widgets.HBox([self._filter, self._search])
        tools.add_class("taskwidgets-dashboard-tools")
        self._list = widgets.VBox([])
        self._list.add_class("taskwidgets-dashboard-list")
        self._detail = Detail(self._loop, self._wake.set)
        self.root = widgets.VBox(
            [
                widgets.HTML(dashboard_markup.STYLE),
                widgets.HTML(dashboard_markup.title("Jobs")),
                tools,
                self._note,
                self._fault,
                self._list,
                self._pages,
                self._detail.root,
                self._status,
            ],
        )
        self.root._view_count = 0  # not None: the page counts the cells that show it
        self.root.add_class("taskwidgets-dashboard")
        self.root.observe(self._on_view_count, "_view_count")
        for widget in (self._filter, self._search):
            free_route(widget)

    def _button(self, text: str, tooltip: str, step: int) -> widgets.Button:
        button = widgets.Button(description=text, tooltip=tooltip, disabled=True)
        button.on_click(lambda _: self._turn(step))
        free_route(button)
        return button

    # ------------------------------------------------------------------ looking

    def begin(self) -> None:
        """Take the first look at once, so that the cell's output has something to show."""
        self._write(self._look())
        self._ensure_thread()

    def _look(self) -> Look:
        with self._lock:
            query, offset, opened = self._query, self._offset, self._opened
        source = self._dashboard.source
        try:
            records = source.newest(
                states=query.states, search=query.search, limit=PAGE + 1, offset=offset
            )
            look = Look(query, offset, records[:PAGE], len(records) > PAGE)
            if opened is not None:
                look = replace(
                    look,
                    opened=source.record(opened),
                    events=source.newest_events(opened, EVENTS),
                )
            return look
        except JobNotFound:  # it was pruned while it was open
            with self._lock:
                self._opened = None
            return look
        except TaskwidgetsError as error:
            return Look(query, offset, [], False, str(error))

    def _is_shown(self) -> bool:
        """Whether a page may still show the list. One that never told counts as showing it."""
        if self.root.comm is None or self._loop.closed:
            return False
        return not self._seen or bool(self.root._view_count)

    def _ensure_thread(self) -> None:
        with self._lock:
            if self._thread is None and self._is_shown():
                self._thread = start_thread(self._poll, name="dashboard")

    def _poll(self) -> None:
        while True:
            began = time.monotonic()
            try:
                look = self._look()
            except Exception as fault:  # shown, and tried again: nobody else would hear it
                log.exception("the dashboard could not look")
                look = Look(
                    self._query, self._offset, [], False, f"{type(fault).__name__}: {fault}"
                )
            took = time.monotonic() - began
            self._hand_over(look)
            lively = any(record.state in OWNED for record in look.records)
            if self._wake.wait(max(LIVELY if lively else QUIET, RESERVE * took)):
                self._wake.clear()
                time.sleep(TYPING)
            with self._lock:
                if not self._is_shown():
                    self._thread = None
                    return

    def _hand_over(self, look: Look) -> None:
        """Have the loop write it; while a busy cell holds the loop, only the last look is kept."""
        with self._lock:
            waiting = self._latest is not None
            self._latest = look
        if not waiting:
            self._loop.call(self._write_latest)

    def _write_latest(self) -> None:
        with self._lock:
            look, self._latest = self._latest, None
        if look is None or self.root.comm is None:
            return
        try:
            self._write(look)
            self.publish()
        except Exception:
            log.exception("the dashboard could not be brought up to date")

    # ------------------------------------------------------------------ writing

    def _write(self, look: Look) -> None:
        with self._lock:
            if (look.query, look.offset) != (self._query, self._offset):
                return  # something else has been asked for meanwhile, and is on its way
            set_value(self._fault, markup.fault(look.error) if look.error else "")
            self._fault.layout = self._looks.shown if look.error else self._looks.hidden
            if look.error:
                return  # what is shown stays: it was true a moment ago
            self._current = look.records
            for record in look.records:
                self._row(record.id).show(
                    record,
                    mine=self._dashboard.source.is_mine(record),
                    opened=record.id == self._opened,
                )
            children = tuple(self._rows[record.id].root for record in look.records)
            if self._list.children != children:
                self._list.children = children
            self._forget()
            enable(self._newer, look.offset > 0)
            enable(self._older, look.more)
            pages = self._looks.shown if look.offset or look.more else self._looks.hidden
            if self._pages.layout is not pages:
                self._pages.layout = pages
            text = self._words(look)
            set_value(self._note, dashboard_markup.note(text))
            set_value(self._status, markup.status(text))
            if look.opened is not None and look.opened.id == self._opened:
                assert look.events is not None
                mine = self._dashboard.source.is_mine(look.opened)
                self._detail.show(look.opened, look.events, mine=mine)

    @staticmethod
    def _words(look: Look) -> str:
        if look.records:
            first, last = look.offset + 1, look.offset + len(look.records)
            if not look.more and not look.offset:
                return "1 job" if last == 1 else f"{last} jobs, the newest first"
            return f"jobs {first} to {last}, the newest first"
        if look.query.states is not None or look.query.search:
            return "no job is like this"
        return "no jobs yet: tw.upload() and tw.download() make some"

    def _row(self, job_id: int) -> Row:
        row = self._rows.pop(job_id, None)
        if row is None:
            row = Row(
                job_id, self._looks, self._loop, self._dashboard.open, self._toggle, self._wake.set
            )
        self._rows[job_id] = row  # the one shown last stands last
        return row

    def _forget(self) -> None:
        """Close the rows that have left the page longest ago."""
        for job_id in list(self._rows)[: max(0, len(self._rows) - KEPT)]:
            self._rows.pop(job_id).close()

    def publish(self) -> None:
        """Renew the still table when a job in it has come into another state, or went."""
        shown = tuple((record.id, record.state) for record in self._current)
        if shown != self._published:
            self._context.run(self._publish, update=self._published is not None)
            self._published = shown

    def _publish(self, *, update: bool) -> None:
        from IPython.display import publish_display_data

        now, records = datetime.now(UTC), self._current
        publish_display_data(  # type: ignore[no-untyped-call]
            {
                "text/html": dashboard_markup.still(as_of(records, now, self._query), records),
                "text/plain": text_table(records, now, self._query),
            },
            transient={"display_id": self._display_id},
            update=update,
        )

    # ------------------------------------------------------------------ what is asked of it

    def _on_view_count(self, change: dict[str, Any]) -> None:
        if change["new"]:
            self._seen = True
            self._ensure_thread()
        self._wake.set()

    def _on_query(self, _: object) -> None:
        with self._lock:
            query = Query(self._choices[self._filter.value], self._search.value.strip())
            if query == self._query:
                return
            self._query, self._offset = query, 0
        self._wake.set()

    def _turn(self, step: int) -> None:
        with self._lock:
            self._offset = max(0, self._offset + step)
        self._wake.set()

    def _toggle(self, job_id: int) -> None:
        """Open the job below the list, or close it when it is the one that is open."""
        with self._lock:
            closing = self._opened == job_id
            self._opened = None if closing else job_id
        if closing:
            self._detail.close()
            self._wake.set()
        else:
            start_thread(self._loop.run_here, self._find, job_id, name=f"open job {job_id}")

    def _find(self, job_id: int) -> None:
        try:
            job = self._dashboard.open(job_id)
        except Exception as error:  # noqa: BLE001 - a handler has nobody who would hear it
            self._loop.call(self._detail.refuse, str(error))
        else:
            self._loop.call(self._show_detail, job)
        self._wake.set()

    def _show_detail(self, job: Job) -> None:
        with self._lock:
            if self._opened == job.id:
                self._detail.open(job)
