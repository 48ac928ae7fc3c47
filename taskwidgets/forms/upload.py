"""The form for an upload: a file, how it is read, and where it goes."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from taskwidgets.errors import OptionError, SourceError
from taskwidgets.forms.call import call_line, written_path
from taskwidgets.forms.folders import Folders
from taskwidgets.forms.reading import needed
from taskwidgets.previews import Preview, preview
from taskwidgets.runtime.job import Job
from taskwidgets.runtime.viewer import viewer
from taskwidgets.transfers.names import LONGEST_NAME
from taskwidgets.workspace import Workspace

__all__ = ["READING", "UploadForm", "UploadLook"]

READING = ("delimiter", "quotechar", "encoding", "header", "null_values", "decimal")
"""What a form can be told of how the file is written; ``None`` is: as detected."""
PACKED = frozenset({".gz", ".zst", ".bz2", ".xz", ".zip"})


@dataclass(frozen=True)
class UploadLook:
    """The file as it would be read, and what an upload must be told to read it so."""

    asked: tuple[object, ...]  # what it was made for
    preview: Preview
    needed: dict[str, object]


class UploadForm:
    """What ``tw.upload()`` with no arguments gives: in a notebook, a form to fill in.

    In code: ``choose(path)``, ``change(delimiter=";")``, ``types[column] = "text"``, ``table``,
    ``if_exists``, ``on_error``, ``workers``, ``max_rate``; then ``start()``. ``code()`` is the call
    that does the same, and ``job`` the Job once it was started.
    """

    def __init__(self, workspace: Workspace, root: Path | None = None) -> None:
        self.workspace = workspace
        self.folders = Folders(root or Path.cwd())
        self.source: Path | None = None
        self.reading: dict[str, Any] = {}
        self.types: dict[str, str] = {}
        self.table = ""
        self.if_exists: Literal["fail", "replace", "append"] = "fail"
        self.on_error: Literal["stop", "reject"] = "stop"
        self.workers: int | None = None
        self.max_rate: float | None = None
        self.job: Job | None = None
        self._look: UploadLook | None = None
        self._lock = threading.Lock()

    def browse_below(self, root: Path) -> None:
        """From now on, files are chosen below another folder."""
        self.folders = Folders(root)

    # ------------------------------------------------------------------ filling it in

    def choose(self, path: str | Path) -> None:
        """Take a file below the root; what was said of another one is forgotten."""
        chosen = self.folders.inside(path)
        try:
            str(chosen).encode()
        except UnicodeEncodeError:
            raise SourceError(
                f"the name of {str(chosen)!r} is not UTF-8; rename the file"
            ) from None
        self.source = chosen
        self.reading, self.types, self._look = {}, {}, None
        self.table = proposed_table(self.source)

    def change(self, **reading: object) -> None:
        """Say how the file is written, by the names in ``READING``; None: as it is detected."""
        unknown = sorted(set(reading) - set(READING))
        if unknown:
            raise OptionError(f"a form asks for {', '.join(READING)}, not for {unknown[0]}")
        changed = {**self.reading, **reading}
        self.reading = {name: value for name, value in changed.items() if value is not None}

    def look(self, rows: int = 8) -> UploadLook:
        """Find out how the file is written, under what was changed; blocks, under 2 s.

        Raises SourceError or OptionError as ``tw.preview`` does.
        """
        source, asked = self._chosen(), self._asked
        shown = preview(source, rows, **self.reading)
        look = UploadLook(
            asked,
            shown,
            needed(source, self.reading, shown, keeps_rejects=self.on_error == "reject"),
        )
        with self._lock:
            if asked == self._asked:
                self._look = look
        return look

    @property
    def _asked(self) -> tuple[object, ...]:
        return self.source, tuple(sorted(map(repr, self.reading.items()))), self.on_error

    def _chosen(self) -> Path:
        if self.source is None:
            raise OptionError("choose a file first")
        return self.source

    # ------------------------------------------------------------------ what it means

    def options(self) -> dict[str, Any]:
        """What is passed to ``tw.upload`` besides file and table: only what is not its default.

        Of how the file is written this is what was changed, and what the last look found out that
        an upload, which takes a plain file at its word, would read otherwise.
        """
        look = self._look
        found = look.needed if look is not None and look.asked == self._asked else {}
        columns = look.preview.columns if look is not None else tuple(self.types)
        types = {name: kind for name, kind in self.types.items() if name in columns}
        given = {
            "if_exists": None if self.if_exists == "fail" else self.if_exists,
            "on_error": None if self.on_error == "stop" else self.on_error,
            "types": types or None,
            **found,
            **self.reading,
            "workers": self.workers,
            "max_rate": self.max_rate,
        }
        return {name: value for name, value in given.items() if value is not None}

    def code(self) -> str:
        """The call that does the same; "..." stands for what is not filled in yet."""
        source = ... if self.source is None else written_path(self.source)
        line = call_line("upload", [source, self.table or ...], self.options())
        return line.replace("Ellipsis", "...") if source is ... or not self.table else line

    def start(self) -> Job:
        """Begin the upload, as the call in ``code()`` would; blocks a moment.

        Raises OptionError for what is not filled in, and all that ``tw.upload`` raises.
        """
        source = self._chosen()
        if not self.table.strip():
            raise OptionError("give the table a name first")
        if self._look is None or self._look.asked != self._asked:
            self.look()
        self.job = self.workspace.upload(written_path(source), self.table, **self.options())
        return self.job

    def __repr__(self) -> str:
        if self.job is not None:
            return repr(self.job)
        return f"an upload form, which a notebook shows; in code: {self.code()}"

    def _ipython_display_(self) -> None:
        shown = viewer()
        if shown is None or not shown.show_form(self):
            print(repr(self))  # noqa: T201 - the plain representation, where there is no front end


def proposed_table(path: Path) -> str:
    """A table's name made of a file's: lower case, what is neither letter nor digit as _."""
    name = path.name
    while Path(name).suffix.lower() in PACKED:
        name = Path(name).stem
    name = re.sub(r"\W+", "_", Path(name).stem.lower()).strip("_") or "data"
    if name[0].isdigit():
        name = f"t_{name}"
    return name.encode()[:LONGEST_NAME].decode(errors="ignore")
