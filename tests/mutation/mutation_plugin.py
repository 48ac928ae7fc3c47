"""The part of the tool that runs inside pytest: chooses and orders tests, and reports each one.

``run.py`` says by environment variables what is wanted; without them nothing is done.
"""

from __future__ import annotations

import importlib.util
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

# A JSON object: "tests", the ids in the order in which they are to be run, and "known", all ids
# that were recorded: another one is new, and is run first. Without it all tests are run.
ORDER = os.environ.get("MUTATION_ORDER")
# Where reports go, one JSON object a line: which test begins, what became of it.
REPORTS = os.environ.get("MUTATION_REPORTS")
# Where it is noted which temporary folders the tests have made, a path a line: those of servers lie
# in memory, and nobody removes them where a test hangs.
FOLDERS = os.environ.get("MUTATION_FOLDERS")


def pytest_configure(config: pytest.Config) -> None:
    """The package must be the copy's, not the installed one."""
    if REPORTS is None:
        return
    found = importlib.util.find_spec("taskwidgets")
    root = config.rootpath.resolve()
    if found is None or not Path(found.origin or "/").resolve().is_relative_to(root):
        raise pytest.UsageError(f"taskwidgets is not imported from {root}, but {found}")
    if FOLDERS is not None:
        note_folders(Path(FOLDERS))


def note_folders(list_of_folders: Path) -> None:
    """Have tempfile note each folder that it makes."""
    make = tempfile.mkdtemp

    def mkdtemp(*arguments: Any, **named: Any) -> Any:
        folder = make(*arguments, **named)
        with list_of_folders.open("a", encoding="utf-8") as file:
            file.write(f"{folder}\n")
        return folder

    tempfile.mkdtemp = mkdtemp  # type: ignore[assignment]


@pytest.hookimpl(trylast=True)  # pytest itself sorts tests by their fixtures before
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if ORDER is None:
        return
    wanted = json.loads(Path(ORDER).read_text(encoding="utf-8"))
    rank = {test: number for number, test in enumerate(wanted["tests"], start=1)}
    known = set(wanted["known"])
    rank |= {item.nodeid: 0 for item in items if item.nodeid not in known}
    left_out = [item for item in items if item.nodeid not in rank]
    config.hook.pytest_deselected(items=left_out)
    items[:] = sorted(
        (item for item in items if item.nodeid in rank), key=lambda item: rank[item.nodeid]
    )


def _report(**facts: object) -> None:
    assert REPORTS is not None
    with open(REPORTS, "a", encoding="utf-8") as file:  # noqa: PTH123 - one write, often
        file.write(json.dumps(facts) + "\n")


def pytest_runtest_logstart(nodeid: str) -> None:
    if REPORTS is not None and "PYTEST_XDIST_WORKER" not in os.environ:
        _report(test=nodeid, what="begins")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if REPORTS is not None and "PYTEST_XDIST_WORKER" not in os.environ:
        _report(
            test=report.nodeid,
            what=report.outcome,
            when=report.when,
            seconds=report.duration,
        )


def pytest_runtest_logfinish(nodeid: str) -> None:
    if REPORTS is not None and "PYTEST_XDIST_WORKER" not in os.environ:
        _report(test=nodeid, what="ends")
