"""Paths in requests and answers: relative to the server's root, and never out of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from taskwidgets.http.fields import BadField

__all__ = ["Files", "OutsideRoot"]


class OutsideRoot(Exception):
    """A recorded job's file lies where this server may not go."""


@dataclass(frozen=True)
class Files:
    """The files that one server may touch: below ``root``, hidden ones only where it allows them.

    Links are followed first and judged by where they lead.
    """

    root: Path
    allow_hidden: bool = False

    @property
    def _true_root(self) -> Path:
        return self.root.resolve()

    def locate(self, given: str, field: str) -> Path:
        """The absolute path, free of links, that a request means; BadField when it may not."""
        parts = PurePosixPath(given).parts
        if "\0" in given or given.startswith("/") or ".." in parts:
            raise BadField(
                f"{field} must be a path relative to the server's root, without '..'", field
            )
        root = self._true_root
        try:
            path = (root / given).resolve()
        except (OSError, RuntimeError, ValueError) as error:  # a ring of links, too long a name
            raise BadField(f"{field} is no path that can be followed: {error}", field) from None
        if path == root:
            raise BadField(f"{field} names no file", field)
        if not path.is_relative_to(root):
            raise BadField(f"{field} leads out of the server's root", field)
        if not self.allow_hidden and (_is_hidden(parts) or _is_hidden(path.relative_to(root))):
            raise BadField(f"{field} is a hidden file, which this server keeps to itself", field)
        return path

    def check(self, recorded: str) -> None:
        """OutsideRoot unless a recorded job's file, an absolute path, still lies below the root."""
        relative = self.relative(recorded)
        try:
            if relative is None:
                raise BadField("not below the root")
            self.locate(relative, "path")
        except BadField:
            raise OutsideRoot("the job's file lies where this server may not go") from None

    def relative(self, recorded: str) -> str | None:
        """An absolute path as answers have it; None for one that is not below the root."""
        path = Path(recorded)
        for root in (self.root, self._true_root):
            if path.is_relative_to(root):
                return path.relative_to(root).as_posix()
        return None

    def scrubbed(self, text: str) -> str:
        """A text in which paths below the root are relative to it."""
        for root in {str(self.root), str(self._true_root)} - {"/"}:
            text = re.sub(rf"{re.escape(root)}/(?=[^\s/])", "", text)
            text = re.sub(rf"{re.escape(root)}(?![\w.~-])", "the server's root", text)
        return text


def _is_hidden(parts: tuple[str, ...] | Path) -> bool:
    names = parts.parts if isinstance(parts, Path) else parts
    return any(name.startswith(".") and name != "." for name in names)
