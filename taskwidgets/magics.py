"""``%load_ext taskwidgets``: %upload, %download, %%download, %jobs and %job, in a notebook's cells.

They do what the functions of the same names do, on the current workspace, and give back the Job or
the list of jobs, which a cell shows. Their options are those of the command line.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_cell_magic, line_magic, magics_class
from IPython.core.magic_arguments import argument, magic_arguments

from taskwidgets import current
from taskwidgets.dashboard import Dashboard
from taskwidgets.errors import OptionError, TaskwidgetsError
from taskwidgets.options import DOWNLOAD, UPLOAD, Option, arguments
from taskwidgets.runtime.job import Job
from taskwidgets.runtime.states import State
from taskwidgets.table_names import TableNames

__all__ = ["TaskwidgetsMagics", "load"]

Made = TypeVar("Made")
# A word, with what is quoted in it: a."b c" is one.
WORD = re.compile(r"""(?:[^\s"']|"(?:[^"]|"")*"|'[^']*'|["'])+""")


def load(ipython: Any) -> None:
    """Register the magics, and what completes their names."""
    ipython.register_magics(TaskwidgetsMagics)
    completer = Completer()
    for name in ("upload", "download", "jobs", "job"):
        ipython.set_hook("complete_command", completer, str_key=f"%{name}")
    ipython.set_hook("complete_command", completer, str_key="%%download")


def takes(options: Sequence[Option]) -> Callable[[Any], Any]:
    """Give a magic these options; their help becomes part of its docstring."""

    def decorate(magic: Any) -> Any:
        for option in reversed(options):  # decorators apply from the bottom up
            text = option.help.replace("%", "%%")
            if option.read is None:
                magic = argument(option.flag, action="store_true", help=text)(magic)
            else:
                action = "append" if option.many else "store"
                magic = argument(option.flag, metavar=option.metavar, action=action, help=text)(
                    magic
                )
        return magic

    return decorate


@magics_class
class TaskwidgetsMagics(Magics):
    """The magics of one shell."""

    @magic_arguments()
    @argument("source", metavar="FILE", help="The file; in quotes if its name has blanks.")
    @argument("table", metavar="TABLE", help="table, schema.table, or quoted as in SQL.")
    @takes(UPLOAD)
    @line_magic
    def upload(self, line: str) -> Job:
        """Load a file into a table; shows the job's panel.

        The same line again resumes the job, or finds it done, as tw.upload() does.
        `{name}` stands for the value of a Python variable.
        """
        given = _parsed(self.upload, line)
        chosen: Any = _chosen(UPLOAD, given)
        source, table = _unquoted(given["source"]), _name(given["table"])
        return _shortly(lambda: current.upload(source, table, **chosen))

    @magic_arguments()
    @argument(
        "names",
        metavar="[TABLE] FILE",
        nargs="+",
        help="What to export, and the file; "
        ".gz and .zst are compressed. Of %%%%download, only the file.",
    )
    @takes(DOWNLOAD)
    @line_cell_magic
    def download(self, line: str, cell: str | None = None) -> Job:
        """Export a table into a file: %download TABLE FILE; or a query, which is the cell's text:

        %%download FILE
        SELECT ...

        The text goes to the database as it is; `{name}` stands for the value of a Python variable
        in the first line only.
        """
        given = _parsed(self.download, line)
        chosen: Any = _chosen(DOWNLOAD, given)
        names = given["names"]
        if cell is None:
            if len(names) != 2:
                raise UsageError("%download TABLE FILE; a query goes into a cell: %%download FILE")
            source = _name(names[0])
        else:
            if len(names) != 1:
                raise UsageError("%%download FILE, and the query in the lines below")
            source = cell
            if not cell.strip():
                raise UsageError("%%download: the query is missing in the lines below")
        path = _unquoted(names[-1])
        return _shortly(lambda: current.download(source, path, **chosen))

    @magic_arguments()
    @argument("states", metavar="STATE", nargs="*", help="Only these: running, failed ...")
    @argument("--search", metavar="TEXT", default="", help="A text in name, source or target.")
    @argument("--limit", metavar="N", type=int, default=100, help="So many at most, the newest.")
    @line_magic
    def jobs(self, line: str) -> Dashboard:
        """Show all jobs of the database, whoever runs them."""
        given = _parsed(self.jobs, line)
        return _shortly(
            lambda: current.jobs(
                given["states"] or None, search=_unquoted(given["search"]), limit=given["limit"]
            )
        )

    @magic_arguments()
    @argument("job_id", metavar="ID", type=int, help="The job's number.")
    @line_magic
    def job(self, line: str) -> Job:
        """Show one job's panel, wherever the job runs; nothing is started."""
        given = _parsed(self.job, line)
        return _shortly(lambda: current.jobs().open(given["job_id"]))


# ---------------------------------------------------------------------- reading a line


def _parsed(magic: Any, line: str) -> dict[str, Any]:
    """What was written, by name; UsageError, which a cell shows without a traceback."""
    given = magic.parser.parse_intermixed_args(WORD.findall(line))
    return dict(vars(given))


def _chosen(options: Sequence[Option], given: dict[str, Any]) -> dict[str, object]:
    texts = {
        name: [_unquoted(one) for one in value] if isinstance(value, list) else _unquoted(value)
        for name, value in given.items()
    }
    try:
        return arguments(options, texts)
    except OptionError as error:
        raise UsageError(str(error)) from None


def _unquoted(value: Any) -> Any:
    """A word without the quotes of its quoted parts."""
    if not isinstance(value, str):
        return value
    return re.sub(
        r"""'([^']*)'|"((?:[^"]|"")*)\"""", lambda found: found[1] or found[2] or "", value
    )


def _name(word: str) -> str:
    """A table's name: double quotes are SQL's own; single ones around it all are not."""
    return word[1:-1] if len(word) > 1 and word[0] == word[-1] == "'" else word


def _shortly(action: Callable[[], Made]) -> Made:
    """Do it; an error of the package's own is shown by its text, as wrong usage is."""
    try:
        return action()
    except OptionError as error:
        raise UsageError(str(error)) from None
    except TaskwidgetsError as error:
        told = f"{type(error).__name__}: {error}"
        # What IPython asks an exception for, in place of its traceback.
        error._render_traceback_ = lambda: [told]  # type: ignore[attr-defined]
        raise


# ---------------------------------------------------------------------- completion


class Completer:
    """Completes files, tables, options and their values in the lines of the magics."""

    def __init__(self) -> None:
        self._tables = TableNames()

    def __call__(self, shell: Any, event: SimpleNamespace) -> list[str]:
        before = event.text_until_cursor
        words = WORD.findall(before)
        magic = words[0].lstrip("%")
        if before[-1:].isspace():
            words.append("")
        text, earlier = words[-1], words[1:-1]
        options = {"upload": UPLOAD, "download": DOWNLOAD}.get(magic, ())
        flags = {option.flag: option for option in options}
        if earlier and earlier[-1] in flags and flags[earlier[-1]].read is not None:
            return list(flags[earlier[-1]].choices)
        if text.startswith("-"):
            return [f"{flag} " for flag in flags]
        if magic == "jobs":
            return [str(state) for state in State]
        place = _place(earlier, flags)
        if magic == "upload":
            return _files(text) if place == 0 else self._tables() if place == 1 else []
        if magic == "download" and not words[0].startswith("%%"):
            return self._tables() if place == 0 else _files(text) if place == 1 else []
        return _files(text) if magic == "download" and place == 0 else []


def _place(words: Sequence[str], flags: dict[str, Option]) -> int:
    """How many of the words are no options and no options' values."""
    place, is_value = 0, False
    for word in words:
        if is_value:
            is_value = False
        elif word.startswith("--"):
            is_value = word in flags and flags[word].read is not None
        else:
            place += 1
    return place


def _files(text: str) -> list[str]:
    """Files and folders that begin with the text; those whose names need quotes are left out."""
    home = str(Path.home())
    wanted = text.replace("~", home, 1) if text.startswith("~/") else text
    found = glob.glob(f"{glob.escape(wanted)}*")  # noqa: PTH207 - a Path would lose the ./ in front
    names = [f"{name}/" if Path(name).is_dir() else name for name in found]
    if wanted != text:
        names = [f"~{name.removeprefix(home)}" for name in names]
    return sorted(name for name in names if WORD.fullmatch(name) and not set(name) & set("\"'{}$"))
