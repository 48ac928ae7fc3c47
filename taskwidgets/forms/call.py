"""The line of code that does what a form does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["call_line", "written_path"]

WIDEST = 88  # characters; a longer call is written with one argument a line


def call_line(function: str, positional: Sequence[object], options: Mapping[str, object]) -> str:
    """``tw.upload("x.csv", "x", if_exists="append")``: Python that can be evaluated."""
    parts = [_literal(value) for value in positional]
    parts += [f"{name}={_literal(value)}" for name, value in options.items()]
    line = f"tw.{function}({', '.join(parts)})"
    if len(line) <= WIDEST:
        return line
    return "\n".join([f"tw.{function}(", *(f"    {part}," for part in parts), ")"])


def written_path(path: Path) -> str:
    """A path as one would write it here: relative where it lies below the current folder."""
    try:
        relative = str(path.relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)
    # A tilde in front would be taken for a home folder.
    return str(path) if relative.startswith("~") else relative


def _literal(value: object) -> str:
    """Python's own notation, with double quotes where that needs no more signs."""
    if isinstance(value, dict):
        pairs = (f"{_literal(name)}: {_literal(one)}" for name, one in value.items())
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    text = repr(value)
    if isinstance(value, str) and text[0] == "'" and '"' not in text and "\\'" not in text:
        return f'"{text[1:-1]}"'
    return text
