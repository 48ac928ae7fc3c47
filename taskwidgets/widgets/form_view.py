"""A form in a notebook: what both have, from the first look to the panel of the job.

A handler may run on any thread (see ``panel``); so it writes nothing, but has the kernel's loop
gather what stands in the inputs. Only Start acknowledges at once. Whatever waits for a disk or the
database is done in threads.
"""

from __future__ import annotations

import contextvars
import uuid
import weakref
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import ipywidgets as widgets

from taskwidgets.forms import DownloadForm, UploadForm
from taskwidgets.runtime.job import Job
from taskwidgets.runtime.threads import LoopHandle
from taskwidgets.widgets import form_markup, markup
from taskwidgets.widgets.newest import Newest
from taskwidgets.widgets.traits import free_route, set_value
from taskwidgets.widgets.traits import show as place

__all__ = ["DEFAULT", "FormView", "box", "chosen", "dropdown", "fields", "show"]

DEFAULT = object()  # a choice that leaves it to the form; None means no choice to ipywidgets
WORKERS = (1, 2, 3, 4, 6, 8)
Options = Sequence[tuple[str, Any]]


class Shown(Protocol):
    """What becomes of a form: the panel of its job."""

    root: widgets.VBox


class Form(Protocol):
    """What the view needs of either form."""

    job: Job | None
    workers: int | None
    max_rate: float | None

    def code(self) -> str: ...
    def start(self) -> Job: ...


_views: weakref.WeakKeyDictionary[object, FormView] = weakref.WeakKeyDictionary()


def show(form: UploadForm | DownloadForm, follow: Callable[[Job, str], Shown]) -> None:
    """Display a form in the current cell, and beside it a line for where no widget lives.

    ``follow`` gives the panel of the job that it begins, and keeps that line true.
    """
    from IPython.display import display

    view = _views.get(form)
    if view is None:
        if isinstance(form, UploadForm):
            from taskwidgets.widgets.upload_view import UploadView

            view = UploadView(form, follow)
        else:
            from taskwidgets.widgets.download_view import DownloadView

            view = DownloadView(form, follow)
        _views[form] = view
        view.begin()
    bundle = view.root._repr_mimebundle_()
    data: dict[str, Any] = dict(bundle[0] if isinstance(bundle, tuple) else bundle)
    data["text/plain"] = repr(form)
    display(data, raw=True)  # type: ignore[no-untyped-call]
    view.publish()


class FormView:
    """The widgets of one form; ``root`` is what a cell displays, the panel of its job at last."""

    title = ""
    verb = ""
    example = ""  # of the call in code

    def __init__(self, form: Form, follow: Callable[[Job, str], Shown]) -> None:
        self._any_form = form
        self._follow = follow
        self.loop = LoopHandle()
        self._context = contextvars.copy_context()
        self._display_id = f"taskwidgets-{uuid.uuid4().hex}"
        self._starting: Newest[Job] = Newest(
            self.loop, "start of a form", self._become, self._refuse
        )
        self._is_starting = False

        self.workers = dropdown(
            "Connections",
            [("one for each core", DEFAULT), *((str(n), n) for n in WORKERS)],
        )
        self.rate = widgets.Text(description="Most MB per second", placeholder="as fast as it goes")
        self._advanced = box(fields(self.workers, self.rate))
        self._toggle = widgets.Button(description="Show advanced options")
        self._toggle.on_click(lambda _: self.loop.call(self._turn))
        self._start = widgets.Button(description=f"Start the {self.verb}", button_style="primary")
        self._start.on_click(self._on_start)
        self._buttons = widgets.HBox([self._start, self._toggle])
        self._buttons.add_class("taskwidgets-buttons")
        self._buttons.add_class("taskwidgets-primary")
        self._fault = widgets.HTML()
        self._code = widgets.HTML()
        for widget in (self._start, self._toggle):
            free_route(widget)
        self._style = widgets.HTML(form_markup.STYLE)
        self.root = widgets.VBox([])
        self.root.add_class("taskwidgets-form")
        self.watch(self.workers, self.rate)

    def lay_out(self, *parts: widgets.DOMWidget) -> None:
        """Put the parts of the form above its advanced options and its button."""
        self.root.children = (
            self._style,
            widgets.HTML(form_markup.title(self.title)),
            *parts,
            self._advanced,
            self._buttons,
            self._fault,
            self._code,
        )

    def begin(self) -> None:
        """Take the first looks."""
        raise NotImplementedError

    def gather(self) -> None:
        """Take over what stands in the inputs, on the loop; OptionError is not raised here."""
        raise NotImplementedError

    def watch(self, *inputs: widgets.DOMWidget) -> None:
        """Have the form gather whenever one of these is changed."""
        for one in inputs:
            one.observe(lambda _: self.loop.call(self._gather), "value")
            free_route(one)

    def _gather(self) -> None:
        if self._any_form.job is not None or self.root.comm is None:
            return
        self._any_form.workers = chosen(self.workers)
        self._any_form.max_rate = self._rate()
        self.gather()
        self.show_code()

    def _rate(self) -> float | None:
        try:
            megabytes = float(self.rate.value.strip().replace(",", ".") or "nan")
        except ValueError:
            return None
        return megabytes * 1e6 if megabytes > 0 else None

    def show_code(self) -> None:
        """Bring the line of code up to the form."""
        set_value(self._code, form_markup.code_line(self._any_form.code()))

    def _turn(self) -> None:
        opened = self._advanced.layout.display == "none"
        place(self._advanced, opened)
        self._toggle.description = f"{'Hide' if opened else 'Show'} advanced options"
        free_route(self._toggle)

    # ------------------------------------------------------------------ the start

    def _on_start(self, _: widgets.Button) -> None:
        if self._is_starting or self._any_form.job is not None:  # a double click
            return
        self._is_starting = True
        self._start.description = "Starting…"
        self.loop.call(self._begin_start)

    def _begin_start(self) -> None:
        self._gather()
        rate = self.rate.value.strip()
        if rate and self._any_form.max_rate is None:
            self._refuse(f"“{rate}” is no number of megabytes per second")
            return
        self._starting.ask(self._any_form.start)

    def _refuse(self, error: str) -> None:
        self._is_starting = False
        self._start.description = f"Start the {self.verb}"
        free_route(self._start)
        # Emptied first: the same error once more is news as well, to whoever hears it.
        self._fault.value = ""
        self._fault.value = markup.fault(error)

    def _become(self, job: Job) -> None:
        """Be the panel of the job from now on, above the line of code."""
        panel = self._context.copy().run(self._follow, job, self._display_id)
        self.show_code()
        self.root.add_class("taskwidgets-begun")
        self.root.children = (self._style, panel.root, self._code)
        self.begun()

    def begun(self) -> None:
        """Told when the form has become the panel."""

    def publish(self) -> None:
        """Beside the widget: what is true where there is none."""
        from IPython.display import publish_display_data

        text = (
            "A form lives as long as its kernel: after a restart, run this cell again. "
            f"In code: {self.example}"
        )
        publish_display_data(  # type: ignore[no-untyped-call]
            {"text/html": form_markup.still(text), "text/plain": text},
            transient={"display_id": self._display_id},
        )


def dropdown(description: str, options: Options) -> widgets.Dropdown:
    """A labelled choice; the first option is the chosen one."""
    return widgets.Dropdown(description=description, options=list(options), value=options[0][1])


def chosen(choice: widgets.Dropdown) -> Any:
    """What was chosen; None where that is left to the form."""
    return None if choice.value is DEFAULT else choice.value


def fields(*inputs: widgets.DOMWidget) -> widgets.HBox:
    """Inputs in a row, as long as there is room."""
    row = widgets.HBox(list(inputs))
    row.add_class("taskwidgets-fields")
    return row


def box(*children: widgets.DOMWidget) -> widgets.VBox:
    """A part of the form that is not shown yet."""
    return widgets.VBox(list(children), layout={"display": "none"})
