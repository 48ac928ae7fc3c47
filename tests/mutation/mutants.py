"""The mutants of ``mutants.toml``: read, checked, and applied to a copy of the package."""

from __future__ import annotations

import tomllib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Area", "Mutant", "MutantError", "load", "position_of"]

LIST = Path(__file__).with_name("mutants.toml")


class MutantError(Exception):
    """A mutant that cannot be applied: the list does not fit the code."""


@dataclass(frozen=True)
class Area:
    """A part of the package.

    ``first``: test files and folders of which tests are tried before others. ``children``: those
    that run the code in child processes, where coverage is not measured; they are added for lines
    that no measured test runs.
    """

    name: str
    title: str
    first: tuple[str, ...]
    children: tuple[str, ...]


@dataclass(frozen=True)
class Mutant:
    """One fault: ``old`` becomes ``new`` in ``file``, and ``harm`` is what it does to a user.

    ``old`` occurs once in the file, or once in ``context``, which occurs once in the file.
    ``tests``: test files for code of which coverage does not tell who runs it: C, and constants
    such as statements, that a module has when it is imported.
    """

    id: str
    area: Area
    file: str
    old: str
    new: str
    harm: str
    context: str
    tests: tuple[str, ...]

    @property
    def is_compiled(self) -> bool:
        """Whether the file is C, which has to be compiled."""
        return self.file.endswith((".c", ".h"))

    def apply(self, text: str) -> str:
        """The file's text with the fault in it."""
        start = position_of(self, text)
        return text[:start] + self.new + text[start + len(self.old) :]


def position_of(mutant: Mutant, text: str) -> int:
    """The offset of ``old`` in the file's text; MutantError unless it is unique."""
    offset, scope = 0, text
    if mutant.context:
        if text.count(mutant.context) != 1:
            raise MutantError(
                f"{mutant.id}: the context occurs {text.count(mutant.context)} times in "
                f"{mutant.file}, and must occur once"
            )
        offset, scope = text.index(mutant.context), mutant.context
    if scope.count(mutant.old) != 1:
        raise MutantError(
            f"{mutant.id}: the text to replace occurs {scope.count(mutant.old)} times in "
            f"{mutant.file}, and must occur once"
        )
    return offset + scope.index(mutant.old)


def load(root: Path, path: Path = LIST) -> list[Mutant]:
    """All mutants; MutantError where one does not fit the code under ``root``."""
    stored: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    areas = {
        name: Area(name, area["title"], tuple(area["first"]), tuple(area.get("children", ())))
        for name, area in stored["areas"].items()
    }
    compiled: dict[str, list[str]] = stored["compiled"]
    found = [
        Mutant(
            id=entry["id"],
            area=areas[entry["area"]],
            file=entry["file"],
            old=entry["old"],
            new=entry["new"],
            harm=entry["harm"],
            context=entry.get("context", ""),
            tests=tuple(entry.get("tests") or compiled.get(entry["file"], ())),
        )
        for entry in stored["mutants"]
    ]
    doubled = [name for name, number in Counter(one.id for one in found).items() if number > 1]
    if doubled:
        raise MutantError(f"more than one mutant is called {', '.join(doubled)}")
    wrong = []
    for mutant in found:
        try:
            check(mutant, root)
        except (MutantError, OSError, SyntaxError) as error:
            wrong.append(str(error))
    if wrong:
        raise MutantError("\n".join(wrong))
    return found


def check(mutant: Mutant, root: Path) -> None:
    """MutantError, OSError or SyntaxError where it does not fit the code under ``root``."""
    if mutant.old == mutant.new:
        raise MutantError(f"{mutant.id}: nothing is changed")
    if mutant.is_compiled and not mutant.tests:
        raise MutantError(f"{mutant.id}: [compiled] names no tests for {mutant.file}")
    mutated = mutant.apply((root / mutant.file).read_text(encoding="utf-8"))
    if not mutant.is_compiled:
        compile(mutated, mutant.file, "exec")
