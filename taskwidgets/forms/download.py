"""The form for a download: a table or a query, what of it, and the file."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Connection

from taskwidgets.errors import OptionError, TaskwidgetsError
from taskwidgets.forms.call import call_line
from taskwidgets.runtime.job import Job
from taskwidgets.runtime.viewer import viewer
from taskwidgets.runtime.words import bytes_text, count
from taskwidgets.store.translate import is_cancelled
from taskwidgets.transfers.relations import (
    PATIENCE,
    FirstRows,
    Listed,
    count_rows,
    first_rows,
    list_relations,
    quoted,
)
from taskwidgets.transfers.sources import find_relation, is_query
from taskwidgets.workspace import Workspace

__all__ = ["FORMATS", "DownloadForm", "relation_words"]

FORMATS = {"CSV": "", "CSV, packed with gzip": ".gz", "CSV, packed with zstd": ".zst"}
"""What a file may be, and what its name then ends with."""
COUNTED_BYTES = 64_000_000  # of a table whose rows are counted for the list; a blink
MOST_COUNTED = 20  # tables


class DownloadForm:
    """What ``tw.download()`` with no arguments gives: in a notebook, a form to fill in.

    In code: ``choose(source)`` or ``query``, ``columns`` (None: all), ``where`` (an expression as
    behind WHERE), ``path``, ``if_exists``, ``workers``, ``max_rate``; then ``start()``. ``code()``
    is the call that does the same, and ``job`` the Job once it was started.
    """

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.table: Listed | None = None
        self.query = ""
        self.columns: tuple[str, ...] | None = None
        self.where = ""
        self.path = ""
        self.if_exists: Literal["fail", "replace"] = "fail"
        self.workers: int | None = None
        self.max_rate: float | None = None
        self.job: Job | None = None
        self._driver: Any = None  # of the connection that looks for first rows
        self._lock = threading.Lock()

    # ------------------------------------------------------------------ filling it in

    def relations(self) -> list[Listed]:
        """The tables and views that may be read; blocks."""
        with self._begin() as connection:
            return list_relations(connection)

    def counted(self, relations: list[Listed]) -> dict[Listed, int]:
        """Exact rows of small tables of which the server has no estimate; blocks.

        A few of them only: what takes longer keeps no list waiting.
        """
        found = {}
        unknown = [one for one in relations if one.rows is None and one.bytes is not None]
        for one in unknown[:MOST_COUNTED]:
            if (one.bytes or 0) <= COUNTED_BYTES:
                try:
                    with self._begin() as connection:
                        found[one] = count_rows(connection, one.name)
                except TaskwidgetsError:  # dropped meanwhile, or of another's rights
                    continue
        return found

    def choose(self, table: Listed | str) -> None:
        """Take a table or view of ``relations()``, or by its name as ``tw.download`` takes it."""
        if isinstance(table, str):
            with self._begin() as connection:
                name = find_relation(connection, table).name
                found = [one for one in list_relations(connection) if one.name == name]
            if not found:
                raise OptionError(f"{table!r} is not among the tables that the form lists")
            table = found[0]
        self.table, self.query = table, ""
        self.columns, self.where = None, ""
        self.path = f"{_file_stem(table.name.table)}.csv"

    def ask(self, query: str) -> None:
        """Take a query in place of a table."""
        if query != self.query:
            self.columns = None
        self.table, self.query = None, query
        self.path = self.path or "query.csv"

    def look(self, limit: int = 8, *, whole: bool = False) -> FirstRows:
        """The first rows of what would be written; blocks. ``whole``: with all its columns.

        In a transaction that only reads, of 20 s at most; ``cancel()`` ends it from another
        thread.
        """
        source = self._select(columns=None if whole else self.columns)
        try:
            with self._begin() as connection:
                try:
                    return first_rows(connection, source, limit, self._began)
                finally:  # before it is another's
                    self._began(None)
        except TaskwidgetsError as error:
            if is_cancelled(error):
                raise OptionError(
                    f"the look at the first rows was ended: it was cancelled, or took {PATIENCE} s."
                    " The download itself may take as long as it needs"
                ) from None
            raise

    def cancel(self) -> None:
        """End a look that is under way; nothing otherwise. From any thread; blocks a moment."""
        self.canceller()()

    def canceller(self) -> Callable[[], None]:
        """What ends the look that is under way now, and no later one; from any thread."""
        driver = self._driver

        def cancel() -> None:
            with self._lock:
                if driver is not None and driver is self._driver:
                    driver.cancel()

        return cancel

    def _began(self, driver: Any) -> None:
        with self._lock:
            self._driver = driver

    @contextmanager
    def _begin(self) -> Iterator[Connection]:
        with self.workspace.database.begin() as connection:
            yield connection

    # ------------------------------------------------------------------ what it means

    def source(self) -> str:
        """What is passed to ``tw.download``: the table's name, or a query."""
        if self.table is not None and self.columns is None and not self.where.strip():
            return self.table.source
        return self._select(columns=self.columns)

    def _select(self, columns: tuple[str, ...] | None) -> str:
        """A query for what was chosen, identifiers quoted."""
        where = self.where.strip()
        if self.table is not None:
            origin = f"{quoted(self.table.name.schema or '')}.{quoted(self.table.name.table)}"
        elif is_query(self.query):
            if columns is None and not where:
                return self.query
            # On lines of its own: the query may end in a comment.
            origin = f"(\n{self.query.strip().removesuffix(';')}\n) AS source"
        else:
            raise OptionError(
                "write a query: SELECT, WITH, VALUES or TABLE"
                if self.query.strip()
                else "choose a table, or write a query"
            )
        if columns is not None and not columns:
            raise OptionError("choose one column at least")
        kept = "*" if columns is None else ", ".join(map(quoted, columns))
        return f"SELECT {kept} FROM {origin}" + (f" WHERE (\n{where}\n)" if where else "")

    @property
    def format(self) -> str:
        """One of ``FORMATS``, by the ending of the path."""
        ending = Path(self.path).suffix.lower()
        return next((name for name, one in FORMATS.items() if one and one == ending), "CSV")

    def pack(self, name: str) -> None:
        """Have the path end as a format of ``FORMATS`` wants it."""
        path = self.path
        for ending in filter(None, FORMATS.values()):
            path = path.removesuffix(ending)
        self.path = path + FORMATS[name]

    def options(self) -> dict[str, Any]:
        """What is passed besides source and path: only what is not its default."""
        given = {
            "if_exists": None if self.if_exists == "fail" else self.if_exists,
            "workers": self.workers,
            "max_rate": self.max_rate,
        }
        return {name: value for name, value in given.items() if value is not None}

    def code(self) -> str:
        """The call that does the same; "..." stands for what is not filled in yet."""
        try:
            source: object = self.source()
        except OptionError:
            source = ...
        line = call_line("download", [source, self.path or ...], self.options())
        return line.replace("Ellipsis", "...") if source is ... or not self.path else line

    def start(self) -> Job:
        """Begin the download, as the call in ``code()`` would; blocks a moment.

        Raises OptionError for what is not filled in, and all that ``tw.download`` raises.
        """
        source = self.source()
        if not self.path.strip():
            raise OptionError("give the file a name first")
        self.job = self.workspace.download(source, self.path, **self.options())
        return self.job

    def __repr__(self) -> str:
        if self.job is not None:
            return repr(self.job)
        return f"a download form, which a notebook shows; in code: {self.code()}"

    def _ipython_display_(self) -> None:
        shown = viewer()
        if shown is None or not shown.show_form(self):
            print(repr(self))  # noqa: T201 - the plain representation, where there is no front end


def relation_words(relation: Listed, counted: int | None = None) -> str:
    """ "table, about 336,776 rows, 31.2 MB"."""
    rows = counted if counted is not None else relation.rows
    parts = [relation.kind]
    if rows is not None:
        about = "" if counted is not None else "about "
        parts.append(f"{about}{count(rows)} row{'' if rows == 1 else 's'}")
    if relation.bytes is not None:
        parts.append(bytes_text(relation.bytes))
    return ", ".join(parts)


def _file_stem(table: str) -> str:
    return re.sub(r"[^\w.-]+", "_", table).strip("._")[:100] or "table"
