"""One job in the dashboard's list, and below the list the one that is opened."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import ipywidgets as widgets

from taskwidgets.errors import TaskwidgetsError
from taskwidgets.runtime.job import Job
from taskwidgets.runtime.states import RESUMABLE, State
from taskwidgets.runtime.store import JobRecord
from taskwidgets.runtime.threads import LoopHandle, start_thread
from taskwidgets.widgets import dashboard_markup, markup
from taskwidgets.widgets.panel import Panel
from taskwidgets.widgets.traits import free_route, set_value

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["EVENTS", "Detail", "Looks", "Row"]

CAUSE = "button in the dashboard"
EVENTS = 50  # of an opened job, the newest ones
HEARD = 15.0  # seconds that "pausing…" stands when no change of state follows


class Looks:
    """Layouts and styles that all rows share: two messages less for each button of each row."""

    def __init__(self) -> None:
        self.shown = widgets.Layout()
        self.hidden = widgets.Layout(display="none")
        self.button = widgets.ButtonStyle()


class Row:
    """The widgets of one job in the list, for as long as it is there.

    A row never becomes another job's: a click that was under way when the list moved still means
    the job that was clicked.
    """

    def __init__(
        self,
        job_id: int,
        looks: Looks,
        loop: LoopHandle,
        find: Callable[[int], Job],
        opened: Callable[[int], None],
        done: Callable[[], None],
    ) -> None:
        self._id = job_id
        self._looks = looks
        self._loop = loop
        self._find = find
        self._done = done
        self._lock = threading.RLock()
        self._record: JobRecord | None = None
        self._job: Job | None = None
        self._mine = False
        self._opened = False
        self._asked = ""  # the word of acknowledgement until the state follows
        self._asked_in: State | None = None
        self._asked_at = 0.0
        self._refused = ""

        self._line = widgets.HTML(layout=looks.shown)
        self._pause = self._button(
            "Pause", lambda _: self._do("pausing…", lambda job: job.pause(CAUSE))
        )
        self._resume = self._button(
            "Resume", lambda _: self._do("resuming…", lambda job: job.resume(CAUSE))
        )
        self._terminate = self._button("Terminate", lambda _: self._ask(True))
        self._open = self._button("Open", lambda _: opened(job_id))
        buttons = widgets.HBox(
            [self._pause, self._resume, self._terminate, self._open], layout=looks.shown
        )
        buttons.add_class("taskwidgets-buttons")
        main = widgets.HBox([self._line, buttons], layout=looks.shown)
        main.add_class("taskwidgets-row-main")
        self._question: widgets.HBox | None = None  # made when it is asked first
        self.root = widgets.VBox([main], layout=looks.shown)
        self.root.add_class("taskwidgets-row")

    def close(self) -> None:
        """Take its widgets off the page for good."""
        for widget in (self._line, self._pause, self._resume, self._terminate, self._open):
            widget.close()
        for box in (*self.root.children, self.root):
            for child in getattr(box, "children", ()):
                child.close()
            box.close()

    def _button(self, text: str, handler: Callable[[widgets.Button], None]) -> widgets.Button:
        button = widgets.Button(
            description=text,
            tooltip=f"{text} job {self._id}",
            layout=self._looks.shown,
            style=self._looks.button,
        )
        button.on_click(handler)
        free_route(button)
        return button

    def show(self, record: JobRecord, *, mine: bool, opened: bool) -> None:
        """Bring the row up to what the database says."""
        with self._lock:
            self._record, self._mine, self._opened = record, mine, opened
            self.refresh()

    def refresh(self) -> None:
        """Write what has changed; an unchanged value sends nothing."""
        with self._lock:
            record = self._record
            if record is None:
                return
            state = record.state
            if self._asked and (
                state is not self._asked_in or time.monotonic() - self._asked_at > HEARD
            ):
                self._asked = ""
            error = str((record.error or {}).get("message") or "")
            if not error and self._job is not None and self._job.error:
                error = self._job.error  # of this kernel's attempt, which the database never saw
            error = "; ".join(part for part in (error, self._refused) if part)
            line = dashboard_markup.line(record, self._asked or str(state), error, mine=self._mine)
            if self._line.value != line:
                self._line.value = line
            over = state in (State.COMPLETED, State.TERMINATED, State.TERMINATING)
            self._offer(self._pause, state is State.RUNNING)
            self._offer(self._resume, state in RESUMABLE)
            self._offer(self._terminate, not over)
            name = "Close" if self._opened else "Open"
            if self._open.description != name:
                self._open.description = name
                self._open.tooltip = f"{name} job {self._id}"
                free_route(self._open)
            if over:
                self._ask(False)

    def _offer(self, button: widgets.Button, offered: bool) -> None:
        layout = self._looks.shown if offered else self._looks.hidden
        disabled = bool(self._asked) and button is not self._terminate
        if button.layout is not layout or button.disabled is not disabled:
            button.layout = layout
            button.disabled = disabled
            free_route(button)

    def _ask(self, asking: bool) -> None:
        """Show or hide the question below the row."""
        with self._lock:
            if asking and self._question is None:
                text = widgets.HTML(
                    '<div class="taskwidgets" role="alert">Terminate job '
                    f"{self._id} and undo what it has done?</div>"
                )
                yes = self._button("Yes, terminate", lambda _: self._on_yes())
                no = self._button("No, keep it", lambda _: self._ask(False))
                self._question = widgets.HBox([text, yes, no])
                self._question.add_class("taskwidgets-buttons")
            main = self.root.children[0]
            children = (main, self._question) if asking else (main,)
            if self.root.children != children:
                self.root.children = children

    def _on_yes(self) -> None:
        self._ask(False)
        self._do("terminating…", lambda job: job.terminate(CAUSE))

    def _do(self, word: str, action: Callable[[Job], object]) -> None:
        """Say at once that a click was heard; what it asks for may wait for the database."""
        with self._lock:
            if self._asked == word or self._record is None:  # the second half of a double click
                return
            self._asked, self._asked_in = word, self._record.state
            self._asked_at, self._refused = time.monotonic(), ""
            self.refresh()
        start_thread(self._loop.run_here, self._act, action, name=f"click on job {self._id}")

    def _act(self, action: Callable[[Job], object]) -> None:
        try:
            job = self._find(self._id)
            self._job = job
            action(job)
        except Exception as error:  # noqa: BLE001 - a handler has nobody who would hear it
            name = "" if isinstance(error, TaskwidgetsError) else f"{type(error).__name__}: "
            with self._lock:
                self._refused, self._asked = f"{name}{error}", ""
        self._loop.call(self.refresh)
        self._done()


class Detail:
    """An opened job: its owner, its panel, its events, its receipt."""

    def __init__(self, loop: LoopHandle, changed: Callable[[], None]) -> None:
        self._loop = loop
        self._changed = changed  # told when the job's state is another: the list has it anew
        self._state: State | None = None
        self._heading = widgets.HTML()
        self._owner = widgets.HTML()
        self._receipt = widgets.HTML()
        self._events = widgets.HTML()
        self._fault = widgets.HTML()
        self._panels: dict[Job, Panel] = {}
        self._shown: Job | None = None
        self.root = widgets.VBox([], layout={"display": "none"})
        self.root.add_class("taskwidgets-detail")

    def open(self, job: Job) -> None:
        """Show the panel of this job."""
        panel = self._panels.get(job)
        if panel is None:
            panel = self._panels[job] = Panel(job)
            job.watch(lambda: self._loop.call(self._refresh, job))
        self._shown, self._state = job, job.state
        panel.refresh()
        self._fault.value = ""
        self.root.children = (
            self._heading, self._owner, panel.root, self._receipt, self._events,
        )  # fmt: skip
        set_value(self._heading, dashboard_markup.title(f"Job {job.id}"))
        self.root.layout.display = None

    def refuse(self, text: str) -> None:
        """Say why a job cannot be opened."""
        self._shown = None
        self._fault.value = markup.fault(text)
        self.root.children = (self._fault,)
        self.root.layout.display = None

    def close(self) -> None:
        self._shown = None
        self.root.layout.display = "none"
        self.root.children = ()

    def show(self, record: JobRecord, events: pd.DataFrame, *, mine: bool) -> None:
        """Bring the cards up to what the database says."""
        if self._shown is None or self._shown.id != record.id:
            return
        set_value(self._owner, dashboard_markup.owner_card(record, mine=mine))
        set_value(self._receipt, dashboard_markup.receipt_card(record.receipt))
        set_value(self._events, dashboard_markup.event_table(events, EVENTS))

    def _refresh(self, job: Job) -> None:
        if job is not self._shown:
            return
        self._panels[job].refresh()
        if job.state is not self._state:
            self._state = job.state
            self._changed()
