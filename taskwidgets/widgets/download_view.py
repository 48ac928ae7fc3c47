"""The form of ``tw.download()``: a table or a query, what of it, and the file."""

from __future__ import annotations

from collections.abc import Callable

import ipywidgets as widgets

from taskwidgets.forms import DownloadForm
from taskwidgets.forms.download import FORMATS, relation_words
from taskwidgets.runtime.job import Job
from taskwidgets.runtime.threads import start_thread
from taskwidgets.transfers.relations import FirstRows, Listed
from taskwidgets.widgets import form_markup, markup
from taskwidgets.widgets.entry_list import EntryList, Item
from taskwidgets.widgets.form_view import FormView, Shown, box, dropdown, fields
from taskwidgets.widgets.newest import Newest
from taskwidgets.widgets.preview_markup import rows_html
from taskwidgets.widgets.traits import enable, free_route, set_value, show

__all__ = ["DownloadView"]

IF_EXISTS = [("stop with an error", "fail"), ("replace it, once the new one is whole", "replace")]
MOST_ROWS = 8  # columns that the choice shows at once


class DownloadView(FormView):
    """The widgets of one download form."""

    title = "Export a table or a query into a file"
    verb = "download"
    example = 'tw.download("table", "file.csv")'

    def __init__(self, form: DownloadForm, follow: Callable[[Job, str], Shown]) -> None:
        super().__init__(form, follow)
        self._form = form
        self._relations: list[Listed] = []
        self._counted: dict[Listed, int] = {}
        self._is_query = False
        self._all: tuple[str, ...] = ()  # the source's columns
        self._path = ""  # the path that the form has, as it was written into the input last
        self._listing: Newest[list[Listed]] = Newest(
            self.loop, "list tables", self._show_list, self._refuse_list
        )
        self._counting: Newest[dict[Listed, int]] = Newest(
            self.loop, "count rows", self._show_counts, self._refuse_list
        )
        self._looking: Newest[tuple[FirstRows, tuple[str, ...]]] = Newest(
            self.loop, "look at rows", self._show_rows, self._refuse_rows
        )
        self._kind = dropdown("Export", [("a table or view", "table"), ("a query", "query")])
        self._list: EntryList[Listed] = EntryList(self.loop, "Filter", self._on_table)
        self._list_fault = widgets.HTML()
        self._words = widgets.HTML()
        self._tables = widgets.VBox([self._list.filter, self._list.root, self._words])
        self._query = widgets.Textarea(
            description="Query", placeholder="SELECT ... FROM ...", rows=5
        )
        self._query.add_class("taskwidgets-wide-field")
        self._queries = box(fields(self._query))

        self._columns = widgets.SelectMultiple(description="Columns to keep")
        self._hint = widgets.HTML(
            form_markup.note("Hold Ctrl or Shift to keep several columns, not just one.")
        )
        self._where = widgets.Text(description="Filter rows: WHERE", placeholder="all rows")
        self._where.add_class("taskwidgets-wide-field")
        self._where.on_msg(self._on_where_message)
        self._first = self._button("Show first rows", self._look)
        self._cancel = self._button("Cancel", self._on_cancel)
        self._cancel.disabled = True
        buttons = widgets.HBox([self._first, self._cancel])
        buttons.add_class("taskwidgets-buttons")
        self._status = widgets.HTML()
        self._rows_fault = widgets.HTML()
        self._rows = widgets.HTML()
        self._what = box(
            widgets.HTML(form_markup.part("2. What of it")),
            fields(self._columns, self._where),
            self._hint,
            buttons,
            self._status,
            self._rows_fault,
            self._rows,
        )

        self._file = widgets.Text(description="File", placeholder="name.csv")
        self._file.add_class("taskwidgets-wide-field")
        self._format = dropdown("Format", [(name, name) for name in FORMATS])
        self._if_exists = dropdown("If the file exists", IF_EXISTS)
        self._target = box(
            widgets.HTML(form_markup.part("3. Where it goes")),
            fields(self._file, self._format, self._if_exists),
        )
        for widget in (self._columns, self._where):
            free_route(widget)
        self.watch(self._kind, self._query, self._columns, self._where, self._file, self._if_exists)
        self._format.observe(lambda _: self.loop.call(self._on_format), "value")
        self.lay_out(
            widgets.HTML(form_markup.part("1. Choose a source")),
            fields(self._kind),
            self._tables,
            self._queries,
            self._list_fault,
            self._what,
            self._target,
        )
        self.show_code()

    def _button(self, text: str, action: Callable[[], None]) -> widgets.Button:
        button = widgets.Button(description=text)
        button.on_click(lambda _: self.loop.call(action))
        free_route(button)
        return button

    def begin(self) -> None:
        """List the tables, in a thread; then count those of which nobody knows the rows."""
        self._listing.ask(self._form.relations)

    # ------------------------------------------------------------------ the source

    def _show_list(self, relations: list[Listed]) -> None:
        self._relations = relations
        self._show_items(afresh=True)
        self._counting.ask(lambda: self._form.counted(relations))

    def _show_counts(self, counted: dict[Listed, int]) -> None:
        self._counted = counted
        self._show_items(afresh=False)

    def _show_items(self, *, afresh: bool) -> None:
        items = [
            Item(one, one.source, relation_words(one, self._counted.get(one)))
            for one in self._relations
        ]
        note = "" if items else "there are no tables yet: tw.upload() makes one"
        self._list.show(items, note, afresh=afresh)

    def _refuse_list(self, error: str) -> None:
        self._list_fault.value = markup.fault(error)

    def _on_table(self, relation: Listed) -> None:
        if self._form.job is not None:
            return
        self._form.choose(relation)
        set_value(self._words, form_markup.line(f"Chosen: {form_markup.name(relation.source)}"))
        self._where.value = ""
        self._renew_columns(())
        self._write_path()
        show(self._what, True)
        show(self._target, True)
        self.show_code()
        self._look()

    def _renew_columns(self, columns: tuple[str, ...]) -> None:
        """Offer these columns, all of them chosen; none: they are not known yet."""
        self._all = columns
        self._columns.options = [
            (form_markup.name(one), place) for place, one in enumerate(columns)
        ]
        self._columns.rows = max(1, min(MOST_ROWS, len(columns)))
        self._columns.value = tuple(range(len(columns)))
        show(self._columns, bool(columns))
        show(self._hint, len(columns) > 1)

    # ------------------------------------------------------------------ gathering

    def gather(self) -> None:
        """Take over what stands in the inputs."""
        is_query = self._kind.value == "query"
        if self._is_query is not is_query:
            self._is_query = is_query
            self._begin_anew()
        if is_query and self._query.value != self._form.query:
            self._form.ask(self._query.value)
            self._renew_columns(())
            self._write_path()
            show(self._what, bool(self._form.query.strip()))
            show(self._target, bool(self._form.query.strip()))
        kept = self._columns.value
        whole = len(kept) == len(self._all)
        self._form.columns = None if whole else tuple(self._all[place] for place in kept)
        self._form.where = self._where.value
        self._form.if_exists = self._if_exists.value
        if self._file.value != self._path:
            self._path = self._form.path = self._file.value
            self._format.value = self._form.format

    def _begin_anew(self) -> None:
        """Another kind of source: nothing that was said of the last one holds for it."""
        show(self._tables, not self._is_query)
        show(self._queries, self._is_query)
        self._form.table, self._form.query, self._form.path = None, "", ""
        self._where.value = ""
        self._renew_columns(())
        self._looking.forget()
        for one in (self._words, self._status, self._rows_fault, self._rows):
            set_value(one, "")
        self._write_path()
        show(self._what, False)
        show(self._target, False)

    def _write_path(self) -> None:
        if self._form.path and self._format.value != self._form.format:
            self._form.pack(self._format.value)
        self._path = self._form.path
        if self._file.value != self._path:
            self._file.value = self._path

    def _on_format(self) -> None:
        if self._form.path and self._format.value != self._form.format:
            self._form.pack(self._format.value)
            self._write_path()
            self.show_code()

    # ------------------------------------------------------------------ the first rows

    def _on_where_message(self, _widget: object, content: dict[str, object], _: object) -> None:
        if content.get("event") == "submit":  # what a text field sends when Enter is pressed
            self.loop.call(self._look)

    def _look(self) -> None:
        self._gather()
        start_thread(self._form.canceller(), name="cancel a look")  # an older one is not waited for
        needs_columns = not self._all

        def look() -> tuple[FirstRows, tuple[str, ...]]:
            rows = self._form.look()
            return rows, rows.columns if needs_columns else ()

        set_value(self._status, form_markup.line("looking at the first rows…"))
        set_value(self._rows_fault, "")
        enable(self._cancel, True)
        self._looking.ask(look)

    def _on_cancel(self) -> None:
        start_thread(self._form.canceller(), name="cancel a look")

    def _show_rows(self, looked: tuple[FirstRows, tuple[str, ...]]) -> None:
        rows, columns = looked
        enable(self._cancel, False)
        if columns and not self._all:
            self._renew_columns(columns)
        many = len(rows.rows)
        words = "no row is like this" if not many else f"the first {many:,} rows"
        set_value(self._status, form_markup.line("1 row" if many == 1 else words))
        set_value(self._rows, form_markup.scrolled("First rows", rows_html(rows)))

    def _refuse_rows(self, error: str) -> None:
        enable(self._cancel, False)
        set_value(self._status, "")
        set_value(self._rows, "")
        self._rows_fault.value = ""
        self._rows_fault.value = markup.fault(error)

    def begun(self) -> None:
        """A look that is under way is of no use any more."""
        self._looking.forget()
        start_thread(self._form.canceller(), name="cancel a look")
