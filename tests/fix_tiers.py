"""Which tests are run, in which order, for how long; and what each of them took.

Tests marked ``slow`` are left to ``make test-all``, and of the variants of a test that is marked
``sample(n)`` all but n. There are too many of them to run all at each
commit: ``--slice=TEXT --stop-after=SECONDS`` runs some, in an order that the text decides.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

CHUNK = 20  # tests of one file that stay together in a slice, as they share servers
REASON = re.compile(r"\bSlow: ")  # in a docstring: why a test takes more than some seconds


def slow(*values: Any) -> Any:
    """Values of a parametrised test that are left to ``make test-all``."""
    return pytest.param(*values, marks=pytest.mark.slow)


def some(values: list[Any], chosen: Callable[[Any], bool]) -> list[Any]:
    """Values of a parametrised test, those that are not chosen left to ``make test-all``."""
    return [
        value if chosen(value) else slow(*(value if isinstance(value, tuple) else (value,)))
        for value in values
    ]


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("taskwidgets")
    group.addoption("--slice", metavar="TEXT", help="run the tests in an order of this text's own")
    group.addoption(
        "--stop-after",
        type=float,
        metavar="SECONDS",
        help="begin no test later than this after the first one; what is left is counted",
    )
    group.addoption("--timings", type=Path, metavar="FILE", help="a JSON line for each test")


def sample(variants: list[pytest.Function], number: int) -> list[pytest.Function]:
    """So many of a test's variants, chosen so that they have many values of its parameters."""
    left, chosen = list(variants), []
    seen: set[tuple[str, int]] = set()
    while left and len(chosen) < number:
        best = max(left, key=lambda one: len(one.callspec.indices.items() - seen))
        if not best.callspec.indices.items() - seen:  # each value is there: the next round
            seen = set(chosen[-1].callspec.indices.items())
            best = max(left, key=lambda one: len(one.callspec.indices.items() - seen))
        left.remove(best)
        chosen.append(best)
        seen |= best.callspec.indices.items()
    return chosen


def mark_samples(items: list[pytest.Item]) -> None:
    """Mark as slow what is not in the sample of its test's variants."""
    variants: dict[tuple[Path, str], list[pytest.Function]] = {}
    for item in items:
        if item.get_closest_marker("sample") and not item.get_closest_marker("slow"):
            assert isinstance(item, pytest.Function)
            variants.setdefault((item.path, item.originalname), []).append(item)
    for one in variants.values():
        marker = one[0].get_closest_marker("sample")
        assert marker is not None
        chosen = sample(one, *marker.args)
        for item in one:
            if item not in chosen:
                item.add_marker(pytest.mark.slow)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    mark_samples(items)
    for item in items:
        if item.get_closest_marker("browser"):  # a page may be late; nothing else is run again
            item.add_marker(pytest.mark.flaky(reruns=1))
    if (text := config.option.slice) is None:
        return
    places: dict[Path, int] = {}
    keys: dict[pytest.Item, tuple[str, int]] = {}
    for item in items:
        place = places[item.path] = places.get(item.path, -1) + 1
        chunk = f"{text} {item.path.relative_to(config.rootpath)} {place // CHUNK}"
        keys[item] = (hashlib.sha256(chunk.encode()).hexdigest(), place)
    items.sort(key=keys.__getitem__)


class Clock:
    """Lets tests begin as long as there is time; what is left is only counted."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.begun: float | None = None
        self.left = 0

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> bool | None:
        self.begun = self.begun or time.monotonic()
        if time.monotonic() - self.begun < self.seconds:
            return None
        self.left += 1
        return True  # handled: nothing is run, nothing reported

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        output = getattr(session.config, "workeroutput", None)
        if output is not None:
            output["left"] = self.left

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Called on xdist's controller when a worker has ended."""
        self.left += getattr(node, "workeroutput", {}).get("left", 0)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.left:
            terminalreporter.write_line(f"{self.left} tests were left out: the time was over")


class Timings:
    """Writes what each test took; xdist's controller has the reports of all workers."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tests: dict[str, dict[str, Any]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        test = self.tests.setdefault(
            report.nodeid,
            {"test": report.nodeid, "outcome": "passed", "seconds": 0.0, "call": 0.0, "reruns": 0},
        )
        test["seconds"] += report.duration
        if report.when == "call":  # without the servers that its fixtures start for all tests
            test["call"] = report.duration
        test["reason"] = dict(report.user_properties).get("reason", False)
        if report.outcome == "rerun":
            test["reruns"] += 1
        elif hasattr(report, "wasxfail"):
            test["outcome"] = "xfailed" if report.skipped else "failed"
        elif report.outcome != "passed":
            test["outcome"] = report.outcome

    def pytest_sessionfinish(self) -> None:
        lines = [json.dumps(test) for test in self.tests.values()]
        self.path.write_text("\n".join([*lines, ""]), encoding="utf-8")


def pytest_configure(config: pytest.Config) -> None:
    if config.option.stop_after is not None:
        config.pluginmanager.register(Clock(config.option.stop_after))
    if config.option.timings is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Timings(config.option.timings))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    """Note whether the test's docstring says why it takes long."""
    text = getattr(getattr(item, "obj", None), "__doc__", None) or ""
    item.user_properties.append(("reason", REASON.search(text) is not None))
    return (yield)
