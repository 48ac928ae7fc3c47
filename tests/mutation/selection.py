"""Which tests run the code that a mutant changes, and in which order they are tried."""

from __future__ import annotations

import ast
import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from coverage import CoverageData
from mutants import Mutant, position_of

__all__ = ["Chosen", "Recording", "file_of", "without_group"]

# xdist adds the group to a test's id: "tests/store/test_claims.py::test_a@store/test_claims".
GROUP = re.compile(r"@[\w./-]+$")
# Seconds; within each step tests stay together by file, so that servers are not started anew.
STEPS = (0.5, 1.5, 5.0)
UNKNOWN_SECONDS = 0.05  # for a test that was not recorded


def without_group(test: str) -> str:
    """The test's id as pytest has it without xdist."""
    return GROUP.sub("", test)


def file_of(test: str) -> str:
    """The test's file."""
    return test.partition("::")[0]


@dataclass(frozen=True)
class Chosen:
    """The tests for one mutant: in order, and the files that are to be collected for it.

    Tests of these files that were not recorded are new, and are tried first.
    """

    tests: list[str]
    files: list[str]


class Recording:
    """What a recorded run of the tests tells: which lines each test ran, how long it took."""

    def __init__(self, root: Path, data: Path | None) -> None:
        self._root = root
        self._data: CoverageData | None = None
        self.seconds: dict[str, float] = {}
        self.failed: set[str] = set()  # on the unchanged package
        self._versions: dict[str, str] = {}
        if data is not None:
            self._data = CoverageData(basename=str(data))
            self._data.read()
            facts = json.loads(facts_path(data).read_text(encoding="utf-8"))
            self.seconds = facts["seconds"]
            self.failed = set(facts["failed"])
            self._versions = facts["versions"]

    def choose(self, mutant: Mutant) -> Chosen:
        """The tests that may notice this fault."""
        near = self._files_under([*mutant.area.first, *mutant.area.children])
        if self._data is None:
            files = self._files_under(mutant.tests or mutant.area.first)
            return Chosen([], files)
        if mutant.is_compiled:
            files = self._files_under(mutant.tests)
            tests = {test for test in self.seconds if file_of(test) in files}
        else:
            tests = self._tests_of(mutant)
            if not tests:  # no line of it is run in a process of the tests themselves
                children = self._files_under(mutant.area.children)
                tests = {test for test in self.seconds if file_of(test) in children}
            files = self._files_under([*mutant.area.first, *mutant.tests])
            tests |= {test for test in self.seconds if file_of(test) in mutant.tests}
        tests -= self.failed
        order = sorted(tests, key=lambda test: self._rank(test, near))
        collected = dict.fromkeys([*files, *map(file_of, order)])
        return Chosen(order, [file for file in collected if (self._root / file).exists()])

    def is_stale(self, file: str) -> bool:
        """Whether the file is another than when the tests were recorded."""
        known = self._versions.get(file)  # of C nothing is recorded
        return known is not None and known != version(self._root / file)

    def _tests_of(self, mutant: Mutant) -> set[str]:
        lines = {mutant.file: self._everything(mutant.file)}
        if not self.is_stale(mutant.file):
            lines = lines_of(self._root, mutant)
        return {
            without_group(context.rpartition("|")[0])
            for file, numbers in lines.items()
            for number, contexts in self._contexts(file).items()
            if number in numbers
            for context in contexts
            if context
        }

    def _everything(self, file: str) -> set[int]:
        return set(self._contexts(file))

    @cache  # noqa: B019 - there is one recording, for as long as the program runs
    def _contexts(self, file: str) -> dict[int, list[str]]:
        assert self._data is not None
        return self._data.contexts_by_lineno(file)

    def _rank(self, test: str, near: list[str]) -> tuple[bool, int, int, str, float]:
        """An area's own tests come before all others; in both groups, the fast ones first."""
        seconds, file = self.seconds.get(test, UNKNOWN_SECONDS), file_of(test)
        place = near.index(file) if file in near else len(near)
        step = sum(seconds > limit for limit in STEPS)
        return file not in near, step, place, file, seconds

    def _files_under(self, paths: Iterable[str]) -> list[str]:
        """The test files that these files and folders are."""
        found: dict[str, None] = {}
        for path in paths:
            whole = self._root / path
            files = sorted(whole.rglob("test_*.py")) if whole.is_dir() else [whole]
            found.update((file.relative_to(self._root).as_posix(), None) for file in files)
        return list(found)


def facts_path(data: Path) -> Path:
    """Where it stands what the coverage data file does not say."""
    return data.with_name(f"{data.name}.json")


def version(path: Path) -> str:
    """A hash of the file's text."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


# ---------------------------------------------------------------------- from a text to lines


def lines_of(root: Path, mutant: Mutant) -> dict[str, set[int]]:
    """The lines, by file, of which one is run where the mutant's change takes effect.

    Of a statement in a function: its own. Of what is run at import (a constant, a function's
    header): those that use it.
    """
    text = (root / mutant.file).read_text(encoding="utf-8")
    first, last = _changed_lines(mutant, text)
    tree = ast.parse(text)
    function = _innermost_function(tree, first, last)
    if function is not None:
        if last < function.body[0].lineno:  # its header
            lines = set(range(function.body[0].lineno, _end(function) + 1))
        else:
            lines = set(_statement_lines(function, first, last))
        return {mutant.file: lines}
    names = _assigned_names(tree, first, last)
    return _uses(root, mutant.file, names)


def _changed_lines(mutant: Mutant, text: str) -> tuple[int, int]:
    """The first and the last line of the file that the change is in."""
    old, new = mutant.old, mutant.new
    before = _common(old, new)
    behind = min(_common(old[::-1], new[::-1]), min(len(old), len(new)) - before)
    changed = old[before : len(old) - behind]
    if changed.strip():  # blanks at its ends belong to lines before and behind it
        before += len(changed) - len(changed.lstrip())
        changed = changed.strip()
    start = position_of(mutant, text) + before
    first = text.count("\n", 0, start) + 1
    return first, first + changed.count("\n")


def _common(one: str, other: str) -> int:
    """How many characters both begin with."""
    number = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        number += 1
    return number


Function = ast.FunctionDef | ast.AsyncFunctionDef


def _end(node: ast.stmt) -> int:
    return node.end_lineno or node.lineno


def _innermost_function(tree: ast.AST, first: int, last: int) -> Function | None:
    found = None
    for node in ast.walk(tree):  # outer ones come first
        if isinstance(node, Function) and node.lineno <= first and last <= _end(node):
            found = node
    return found


def _statement_lines(function: Function, first: int, last: int) -> Iterator[int]:
    """The lines of the function's statements that lie in the change."""
    for node in ast.walk(function):
        if not isinstance(node, ast.stmt) or node is function:
            continue
        body = getattr(node, "body", None)
        stop = body[0].lineno - 1 if body else _end(node)  # of a compound one, only its head
        stop = max(stop, node.lineno)
        if node.lineno <= last and first <= stop:
            yield from range(node.lineno, stop + 1)


def _assigned_names(tree: ast.Module, first: int, last: int) -> set[str]:
    """What is bound at import by the statements in the change."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.lineno <= last:
            if _end(node) < first:
                continue
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {
                target.id
                for whole in targets
                for target in ast.walk(whole)
                if isinstance(target, ast.Name)
            }
    return names


def _uses(root: Path, file: str, names: set[str]) -> dict[str, set[int]]:
    """The lines in functions of the package that name one of these, of the module ``file``."""
    module = Path(file).stem
    found: dict[str, set[int]] = {}
    for path in sorted((root / "taskwidgets").rglob("*.py")):
        name = path.relative_to(root).as_posix()
        text = path.read_text(encoding="utf-8")
        if not any(one in text for one in names) or (name != file and module not in text):
            continue
        for function in ast.walk(ast.parse(text)):
            if not isinstance(function, Function):
                continue
            for node in ast.walk(function):
                used = node.id if isinstance(node, ast.Name) else getattr(node, "attr", None)
                if used in names:
                    line = node.lineno  # type: ignore[attr-defined]
                    found.setdefault(name, set()).update(_statement_lines(function, line, line))
    return found
