"""The form of ``tw.upload()``: a file, how it is read, where it goes."""

from __future__ import annotations

from collections.abc import Callable

import ipywidgets as widgets

from taskwidgets.forms import DownloadForm, UploadForm
from taskwidgets.runtime.job import Job
from taskwidgets.widgets import form_markup
from taskwidgets.widgets.file_part import FilePart
from taskwidgets.widgets.form_view import FormView, Shown, box, dropdown, fields
from taskwidgets.widgets.newest import Newest
from taskwidgets.widgets.reading_part import ReadingPart
from taskwidgets.widgets.traits import set_value, show

__all__ = ["UploadView"]

IF_EXISTS = [
    ("stop with an error", "fail"),
    ("replace it, once all rows are in", "replace"),
    ("append to it", "append"),
]
ON_ERROR = [
    ("stop at the first one", "stop"),
    ("keep them as rejects, load the rest", "reject"),
]


class UploadView(FormView):
    """The widgets of one upload form."""

    title = "Load a file into a table"
    verb = "upload"
    example = 'tw.upload("file.csv", "table")'

    def __init__(self, form: UploadForm, follow: Callable[[Job, str], Shown]) -> None:
        super().__init__(form, follow)
        self._form = form
        self._known: frozenset[str] = frozenset()
        self._tables: Newest[list[str]] = Newest(
            self.loop, "list tables", self._show_tables, lambda _error: None
        )
        self._file = FilePart(form, self.loop, self._on_file)
        self._reading = ReadingPart(form, self.loop, self.show_code)
        self._table = widgets.Combobox(description="Table", placeholder="table or schema.table")
        self._table.add_class("taskwidgets-wide-field")
        self._if_exists = dropdown("If the table exists", IF_EXISTS)
        self._on_error = dropdown("Rows that do not fit", ON_ERROR)
        self._exists = widgets.HTML()
        self._target = box(
            widgets.HTML(form_markup.part("3. Where it goes")),
            fields(self._table, self._if_exists, self._on_error),
            self._exists,
        )
        self.watch(*self._reading.inputs, self._table, self._if_exists, self._on_error)
        self.lay_out(self._file.root, self._reading.root, self._target)
        self.show_code()

    def begin(self) -> None:
        """List the folder and the tables, in threads."""
        self._file.begin()
        self._tables.ask(self._list_tables)

    def _list_tables(self) -> list[str]:
        listed = DownloadForm(self._form.workspace).relations()
        return [one.source for one in listed if one.kind in ("table", "partitioned table")]

    def _show_tables(self, tables: list[str]) -> None:
        self._known = frozenset(tables)
        self._table.options = tuple(tables)

    def _on_file(self) -> None:
        self._table.value = self._form.table
        self._reading.begin()
        show(self._target, True)
        self._say_whether_it_exists()
        self.show_code()

    def gather(self) -> None:
        """Take over what stands in the inputs."""
        if self._form.source is None:
            return
        self._form.table = self._table.value
        self._form.if_exists = self._if_exists.value
        self._form.on_error = self._on_error.value
        self._say_whether_it_exists()
        self._reading.gather()

    def _say_whether_it_exists(self) -> None:
        words = ""
        if self._form.table in self._known:
            words = "There is a table of this name. " + {
                "fail": "Choose what is to become of it, or another name.",
                "replace": "It stays as it is until all rows are in, and is replaced then.",
                "append": "The rows are added to it once all are in.",
            }.get(self._form.if_exists, "")
        set_value(self._exists, form_markup.line(words))
