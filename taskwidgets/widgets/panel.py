"""A job's panel: name, state, bar, numbers, error, and the buttons Pause, Resume and Terminate.

A click may arrive on any thread: on the kernel's main one after a busy cell, or on a subshell's at
once. So the handlers only call the job's methods, which set a flag for its workers, and show the
acknowledgement with the traits that the click itself may write. All else is written by
``refresh``, on the job's loop, and only what has changed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import ipywidgets as widgets

from taskwidgets.cluster import Cluster
from taskwidgets.errors import TaskwidgetsError
from taskwidgets.runtime.job import Job
from taskwidgets.runtime.states import State
from taskwidgets.widgets import markup
from taskwidgets.widgets.rejects import Rejects, is_resting, kept
from taskwidgets.widgets.server_link import download_link
from taskwidgets.widgets.traits import enable, free_route, set_value, show

__all__ = ["Panel"]

CAUSE = "button in the panel"
TERMINATING = "terminating…"


class Panel:
    """The widgets of one job; ``root`` is what a cell displays."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._lock = threading.RLock()
        self._asked: str | None = None  # the word of acknowledgement until the state follows
        self._asked_in: State | None = None
        self._refused = ""
        self._confirming = False
        self._rejects: Rejects | None = None  # made when there are some first
        self._dialog: widgets.HBox | None = None
        self._dashboard: widgets.HTML | None = None  # the link to that of a cluster

        # What is made costs the page: widgets share what they may, and the question is made when it
        # is asked first. The bar and the numbers change together, so they are one widget.
        self._layout, self._button_style = widgets.Layout(), widgets.ButtonStyle()
        self._plain: widgets.Widget | None = None
        self._heading = self._html()
        self._progress = self._html()
        self._fault = self._html(layout={"display": "none"})
        self._status = self._html()
        self._pause = self._button("Pause", "pause", self._on_pause)
        self._resume = self._button("Resume", "play", self._on_resume)
        self._terminate = self._button("Terminate", "stop", self._on_terminate)
        self._buttons = widgets.HBox(
            [self._pause, self._resume, self._terminate], layout=self._layout
        )
        self._buttons.add_class("taskwidgets-buttons")
        self.root = widgets.VBox(
            [
                self._html(markup.STYLE),
                self._heading,
                self._progress,
                self._fault,
                self._buttons,
                self._status,
            ],
            layout=self._layout,
        )
        self.root.add_class("taskwidgets-panel")

    def _html(self, value: str = "", **options: object) -> widgets.HTML:
        options = {"layout": self._layout, **options}
        if self._plain is not None:
            options["style"] = self._plain
        made = widgets.HTML(value, **options)
        self._plain = made.style
        return made

    def _button(
        self, text: str, icon: str, handler: Callable[[widgets.Button], None], kind: str = ""
    ) -> widgets.Button:
        button = widgets.Button(
            description=text, button_style=kind, layout=self._layout, style=self._button_style
        )
        if icon:
            # Drawn by the style sheet: an icon font's character would be a part of the button's
            # name, which a screen reader reads out, and is a blank box where the font is missing.
            button.add_class(f"taskwidgets-icon-{icon}")
        button.on_click(handler)
        free_route(button)
        return button

    # ------------------------------------------------------------------ what is shown

    def refresh(self) -> None:
        """Bring every widget up to the job's present; an unchanged value sends nothing."""
        with self._lock:
            job, state = self._job, self._job.state
            progress = job.progress
            if self._asked is not None and (state is not self._asked_in or job.error):
                self._asked, self._asked_in = None, None
            word = self._asked or str(state)
            busy = self._asked is not None
            set_value(
                self._heading,
                markup.heading(job.id, job.name, job.source, job.target, state, word),
            )
            set_value(
                self._progress,
                markup.bar(job.name, state, progress, word)
                + markup.facts(job, self._link())
                + self._tell_cluster(),
            )
            error = "\n".join(part for part in (job.error, self._refused) if part)
            set_value(self._fault, markup.fault(error) if error else "")
            show(self._fault, bool(error))
            # "pausing…" (heard) and "pausing" (recorded) are one piece of news.
            set_value(self._status, markup.status(f"{job.name}: {word.rstrip('…')}"))
            enable(self._pause, not busy and self._may_pause(state))
            enable(self._resume, not busy and self._may_resume(state))
            enable(self._terminate, self._may_terminate(state) and self._asked != TERMINATING)
            if not self._may_terminate(state):
                self._confirming = False
            # The buttons stay: hiding the one that was pressed would lose the keyboard's place.
            if self._dialog is not None:
                show(self._dialog, self._confirming)
            self._tell_rejects()

    def _tell_cluster(self) -> str:
        """The line on the cluster whose workers do the job's work just now; "" without one."""
        job = self._job
        cluster = job.cluster
        is_at_work = job.runs_here and job.state in (State.RUNNING, State.PAUSING)
        facts = cluster.facts() if isinstance(cluster, Cluster) and is_at_work else None
        if self._dashboard is not None:
            show(self._dashboard, facts is not None)
        if facts is None:
            return ""
        link = markup.dashboard_link(facts.dashboard)
        # Beside the numbers, not among them: what is written anew each time cannot keep the focus.
        if self._dashboard is None and link:
            self._dashboard = self._html(link, layout=widgets.Layout())
            self._insert(self._dashboard, self._progress)
        elif self._dashboard is not None:
            set_value(self._dashboard, link)
        return markup.at_work(facts)

    def _tell_rejects(self) -> None:
        if self._rejects is None:
            if not is_resting(self._job.state) or not kept(self._job):
                return
            self._rejects = Rejects(self._job)
            self.root.children = (*self.root.children, self._rejects.root)
        self._rejects.refresh()

    def _link(self) -> str | None:
        """Where the browser finds what a finished download has written."""
        if self._job.kind != "download" or self._job.state is not State.COMPLETED:
            return None
        if self._job.target.endswith("/"):
            return None  # a folder, which a browser does not save
        return download_link(Path(self._job.target))

    def _may_pause(self, state: State) -> bool:
        return state is State.RUNNING

    def _may_resume(self, state: State) -> bool:
        return state in (State.PAUSED, State.FAILED, State.INTERRUPTED) or (
            state is State.PENDING and self._job.error is not None
        )

    def _may_terminate(self, state: State) -> bool:
        return state not in (State.COMPLETED, State.TERMINATED, State.TERMINATING)

    # ------------------------------------------------------------------ what is clicked

    def _on_pause(self, _: widgets.Button) -> None:
        self._do("pausing…", self._may_pause, lambda: self._job.pause(CAUSE))

    def _on_resume(self, _: widgets.Button) -> None:
        self._do("resuming…", self._may_resume, lambda: self._job.resume(CAUSE))

    def _on_terminate(self, _: widgets.Button) -> None:
        self._confirm(True)

    def _on_no(self, _: widgets.Button) -> None:
        self._confirm(False)

    def _on_yes(self, _: widgets.Button) -> None:
        self._confirm(False)
        self._do(TERMINATING, self._may_terminate, lambda: self._job.terminate(CAUSE))

    def _confirm(self, confirming: bool) -> None:
        with self._lock:
            if confirming and self._dialog is None:
                self._dialog = self._make_dialog()
                self._insert(self._dialog, self._status)
            self._confirming = confirming
            self.refresh()

    def _make_dialog(self) -> widgets.HBox:
        question = self._html(
            '<div class="taskwidgets" role="alert">Terminate this job and undo what it has done?'
            "</div>"
        )
        yes = self._button("Yes, terminate", "stop", self._on_yes, "danger")
        no = self._button("No, keep it", "", self._on_no)
        dialog = widgets.HBox([question, yes, no])
        dialog.add_class("taskwidgets-buttons")
        return dialog

    def _insert(self, widget: widgets.Widget, behind: widgets.Widget) -> None:
        """Have it in the panel behind another. The page makes anew what stands behind it."""
        place = self.root.children.index(behind) + 1
        children = self.root.children
        self.root.children = (*children[:place], widget, *children[place:])

    def _do(self, word: str, may: Callable[[State], bool], action: Callable[[], None]) -> None:
        """Run a button's action, say at once that it was heard, and show what it refused.

        A click that comes when the job is where it was to bring it is the second half of a double
        click, on its way when the first half was carried out already.
        """
        with self._lock:
            state = self._job.state
            if self._asked == word or not may(state):
                self.refresh()
                return
            self._refused = ""
            try:
                action()
            except TaskwidgetsError as error:
                self._refused = str(error)
            except Exception as error:  # noqa: BLE001 - a handler has nobody who would hear it
                self._refused = f"{type(error).__name__}: {error}"
            else:
                if self._job.state is state:
                    self._asked, self._asked_in = word, state
            self.refresh()
