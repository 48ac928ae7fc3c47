"""What all tests share; the fixtures are in the files ``fix_*.py``, one topic each."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # importlib mode leaves it out

pytest_plugins = [
    "fix_servers",
    "fix_databases",
    "fix_files",
    "fix_scripts",
    "fix_exports",
    "fix_folders",
    "fix_poolers",
    "fix_proxy",
    "fix_spools",
    "fix_jupyter",
    "fix_clusters",
    "fix_settled",
    "fix_virtual_clock",
]


@pytest.hookimpl(tryfirst=True)  # xdist looks at the marks in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A file's tests stay together on one worker, as they share servers."""
    for item in items:
        item.add_marker(pytest.mark.xdist_group(f"{item.path.parent.name}/{item.path.stem}"))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A skipped test is a failure: what it would have shown is not known."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and reporter.stats.get("skipped") and session.exitstatus == 0:
        reporter.write_line("FAILED: tests were skipped", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
