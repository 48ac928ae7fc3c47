"""The rejects of a job in its panel: looked at page by page, mended in place, replayed.

Stock widgets, one text area a record. Both grids that offer themselves were looked at, in
JupyterLab 4.6: ipydatagrid 1.4 draws on a canvas, so that the accessibility tree has nothing of
it and Tab finds no way in, edits no line break, and wants three extensions of 2 MB in the front
end's environment, which need not be the kernel's; itables 2.9 cannot edit.

Nothing is read or sent before somebody asks. A page is read in a thread, and its widgets are made
one record at a time, so that the loop is never held. A record's widgets never become another's:
what was typed while the page turned still means the record that it was typed into.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import ipywidgets as widgets

from taskwidgets.errors import TaskwidgetsError
from taskwidgets.runtime.job import Job
from taskwidgets.runtime.states import State
from taskwidgets.runtime.threads import start_thread
from taskwidgets.runtime.words import count
from taskwidgets.widgets import markup
from taskwidgets.widgets.traits import enable, free_route, set_value, show

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["LONGEST", "PAGE", "Rejects", "as_in_file"]

PAGE = 20  # records at a time; more is work for job.rejects() and pandas
LONGEST = 20_000  # characters of a record that can be edited here
MOST_NAMED = 5  # of those that are still refused, with their reasons


@dataclass(frozen=True)
class Found:
    """A record that was not loaded, as the database has it."""

    id: int
    line: int
    column: str | None
    message: str
    raw: str

    @property
    def is_cut(self) -> bool:
        return len(self.raw) > LONGEST


@dataclass
class Page:
    """Some of the records, and their widgets as far as they are made."""

    offset: int
    total: int
    records: list[Found]
    rows: list[Row] = field(default_factory=list)


class Looks:
    """Layout and styles that all records share, on every page: no messages, nothing left behind."""

    def __init__(self) -> None:
        self.layout = widgets.Layout()
        self.reason = self._style(widgets.HTML(layout=self.layout))
        self.raw = self._style(widgets.Textarea(layout=self.layout))

    @staticmethod
    def _style(widget: widgets.DOMWidget) -> widgets.Widget:
        """The style that a widget of its kind has by default."""
        widget.close()
        return widget.style


class Row:
    """One record: where and why, and its text."""

    def __init__(
        self,
        found: Found,
        text: str,
        looks: Looks,
        typed: Callable[[Found, str], None],
    ) -> None:
        self.found = found
        self._typed = typed
        self.reason = widgets.HTML(
            markup.reject(found.line, found.column, found.message, cut=found.is_cut),
            layout=looks.layout,
            style=looks.reason,
        )
        self.raw = widgets.Textarea(
            value=text[:LONGEST],
            description=f"Line {found.line:,}",
            rows=min(6, 1 + text.count("\n") + len(text) // 50),
            disabled=found.is_cut,
            layout=looks.layout,
            style=looks.raw,
        )
        self.raw.observe(self._on_value, names="value")
        free_route(self.raw)

    def close(self) -> None:
        """Take its widgets off the page for good."""
        self.raw.unobserve_all()
        self.raw.close()
        self.reason.close()

    def _on_value(self, change: dict[str, str]) -> None:
        self._typed(self.found, change["new"])


class Rejects:
    """The line below a job's panel that tells of rejects, and what it opens; ``root`` is shown."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._lock = threading.RLock()
        self._page: Page | None = None
        self._edited: dict[int, str] = {}  # by reject: what somebody has made of its text
        self._busy = False  # a thread reads or replays
        self._is_open = False
        self._state: State | None = None
        self._said = ""

        self._line = widgets.HTML()
        self._toggle = self._button("Show rejects", self._on_toggle)
        self._outcome = widgets.HTML(layout={"display": "none"})
        self._place = widgets.HTML()
        self._older = self._button("Previous", lambda _: self._turn(-PAGE))
        self._newer = self._button("Next", lambda _: self._turn(PAGE))
        self._replay = self._button("Replay 0 mended", self._on_replay)
        self._looks: Looks | None = None
        self._grid = widgets.Box()
        self._grid.add_class("taskwidgets-rejects")
        head = widgets.HBox([self._line, self._toggle])
        head.add_class("taskwidgets-buttons")
        foot = widgets.HBox([self._replay, self._older, self._newer, self._place])
        foot.add_class("taskwidgets-buttons")
        self._body = widgets.VBox([self._grid, foot], layout={"display": "none"})
        self.root = widgets.VBox([head, self._body, self._outcome])
        self.root.add_class("taskwidgets-kept")
        for button in (self._toggle, self._older, self._newer, self._replay):
            free_route(button)

    @staticmethod
    def _button(text: str, handler: Callable[[widgets.Button], None]) -> widgets.Button:
        button = widgets.Button(description=text)
        button.on_click(handler)
        return button

    # ------------------------------------------------------------------ what is shown

    def refresh(self) -> None:
        """Bring it up to the job's present; an unchanged value sends nothing."""
        with self._lock:
            job = self._job
            rested, self._state = self._state, job.state
            resting = is_resting(job.state)
            if not resting and self._is_open:
                self._close()
            if resting and rested is not job.state and self._is_open:
                self._read(0)  # another state may have other rejects
            set_value(self._line, markup.kept(kept(job)))
            show(self.root, resting and (kept(job) > 0 or self._is_open))
            self._write()

    def _write(self) -> None:
        page, busy = self._page, self._busy
        describe(self._toggle, "Hide rejects" if self._is_open else "Show rejects")
        show(self._body, self._is_open and page is not None)
        set_value(self._outcome, markup.outcome(self._said) if self._said else "")
        show(self._outcome, bool(self._said))
        words = f"Replay {len(self._edited):,} mended"
        done = self._job.state is State.COMPLETED
        describe(self._replay, words if done else f"{words} (once the job is completed)")
        enable(self._replay, done and not busy and bool(self._edited))
        if page is not None:
            stop = page.offset + len(page.records)
            set_value(self._place, markup.place(page.offset + 1, stop, page.total))
            enable(self._older, not busy and page.offset > 0)
            enable(self._newer, not busy and stop < page.total)

    def _close(self) -> None:
        """Take the records off the page; what was typed is kept."""
        self._is_open = False
        page, self._page = self._page, None
        self._grid.children = ()
        for row in page.rows if page is not None else ():
            row.close()

    # ------------------------------------------------------------------ what is read

    def _read(self, offset: int) -> None:
        self._busy = True
        self._run(self._fetch, offset, name="rejects")

    def _run(self, function: Callable[..., None], *args: object, name: str) -> None:
        start_thread(
            self._job.loop.run_here, self._guarded, function, *args,
            name=f"job {self._job.id} {name}",
        )  # fmt: skip

    def _guarded(self, function: Callable[..., None], *args: object) -> None:
        """In a thread: what goes wrong is shown; nobody else would hear it."""
        try:
            function(*args)
        except Exception as error:  # noqa: BLE001 - see above
            name = "" if isinstance(error, TaskwidgetsError) else f"{type(error).__name__}: "
            with self._lock:
                self._said, self._busy = f"{name}{error}", False
            self._job.loop.call(self.refresh)

    def _fetch(self, offset: int) -> None:
        frame, total = self._job.waiting_rejects(PAGE, offset, longest=LONGEST)
        if frame.empty and total and offset:  # the last page is gone: others have replayed it
            offset = (total - 1) // PAGE * PAGE
            frame, total = self._job.waiting_rejects(PAGE, offset, longest=LONGEST)
        self._job.loop.call(self._begin, Page(offset, total, found_in(frame)))

    def _begin(self, page: Page) -> None:
        """On the loop: this page comes in place of the one that is shown."""
        with self._lock:
            if not self._is_open:
                self._busy = False
                self.refresh()
                return
            before, self._page = self._page, page
            self._grid.children = ()
        for row in before.rows if before is not None else ():
            row.close()
        self._job.loop.call(self._add_row, page)

    def _add_row(self, page: Page) -> None:
        """On the loop: one record more; the page is shown when it is whole."""
        with self._lock:
            if page is not self._page:
                for row in page.rows:
                    row.close()
                return
            if len(page.rows) < len(page.records):
                found = page.records[len(page.rows)]
                text = self._edited.get(found.id, found.raw)
                self._looks = self._looks or Looks()
                page.rows.append(Row(found, text, self._looks, self._on_typed))
                self._job.loop.call(self._add_row, page)
                return
            self._grid.children = tuple(
                widget for row in page.rows for widget in (row.reason, row.raw)
            )
            self._busy = False
            self.refresh()

    # ------------------------------------------------------------------ what is done

    def _on_toggle(self, _: widgets.Button) -> None:
        with self._lock:
            if self._is_open:
                self._close()
                self._said = ""
            else:
                self._is_open = True
                self._read(0)
            self.refresh()

    def _turn(self, by: int) -> None:
        with self._lock:
            if self._page is not None and not self._busy:
                self._read(max(0, self._page.offset + by))
                self._write()

    def _on_typed(self, found: Found, text: str) -> None:
        with self._lock:
            mended = as_in_file(text, found.raw)
            if mended.rstrip("\r\n") == found.raw.rstrip("\r\n"):
                self._edited.pop(found.id, None)
            else:
                self._edited[found.id] = mended
            self._write()

    def _on_replay(self, _: widgets.Button) -> None:
        with self._lock:
            if self._busy or not self._edited:
                return
            self._busy, self._said = True, "replaying…"
            import pandas as pd  # it is loaded: the rejects are a table

            mended = pd.DataFrame(list(self._edited.items()), columns=["id", "raw"])
            self._write()
            self._run(self._load, mended, name="replay")

    def _load(self, mended: pd.DataFrame) -> None:
        """In a thread: load them, and tell which are still refused."""
        self._job.replay(mended)
        ids = [int(number) for number in mended["id"]]
        left, refused = self._job.waiting_rejects(MOST_NAMED, ids=ids, longest=0)
        with self._lock:
            for number, raw in zip(ids, mended["raw"], strict=True):
                if self._edited.get(number) == raw:  # else somebody went on typing
                    del self._edited[number]
            self._said = outcome_words(len(ids) - refused, refused, found_in(left))
            offset = self._page.offset if self._page is not None else 0
        self._fetch(offset)


def is_resting(state: State) -> bool:
    """Whether what was rejected so far stands, until somebody goes on with the job."""
    return state in (State.PAUSED, State.FAILED, State.INTERRUPTED, State.COMPLETED)


def kept(job: Job) -> int:
    """How many rows the job has kept as rejects."""
    return job.progress.rejected if job.receipt is None else job.receipt.rows_rejected


def as_in_file(text: str, raw: str) -> str:
    """What was typed, its line ends as the record had them: a text area makes all of them LF."""
    for end in ("\r\n", "\r"):
        if end in raw and "\n" not in raw.replace(end, ""):
            return text.replace("\r\n", "\n").replace("\r", "\n").replace("\n", end)
    return text


def outcome_words(loaded: int, refused: int, named: list[Found]) -> str:
    """What came of a replay."""
    words = [f"{count(loaded)} mended {'row' if loaded == 1 else 'rows'} loaded"]
    if refused:
        words[0] += f", {count(refused)} still refused:"
    words += [f"line {one.line:,}: {one.message}" for one in named]
    return "\n".join([*words, "..."] if refused > len(named) else words)


def found_in(frame: pd.DataFrame) -> list[Found]:
    """The rows of a frame of rejects."""
    return [
        Found(
            id=int(row["id"]),
            line=int(row["line"]),
            column=row["column"] if isinstance(row["column"], str) else None,
            message=str(row["message"]),
            raw=str(row["raw"]),
        )
        for row in frame.to_dict("records")
    ]


def describe(button: widgets.Button, text: str) -> None:
    """Set what stands on a button; an unchanged text sends nothing."""
    if button.description != text:
        button.description = text
        free_route(button)
