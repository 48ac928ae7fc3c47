"""What all tests share; the fixtures are in the files ``fix_*.py``, one topic each."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # importlib mode leaves it out

pytest_plugins = [
    "fix_seed",
    "fix_tiers",
    "fix_servers",
    "fix_databases",
    "fix_files",
    "fix_scripts",
    "fix_exports",
    "fix_folders",
    "fix_poolers",
    "fix_proxy",
    "fix_tls",
    "fix_spools",
    "fix_jupyter",
    "fix_clusters",
    "fix_roles",
    "fix_settled",
    "fix_virtual_clock",
]


def pytest_configure() -> None:
    """Processes that tests start can be interrupted, also in a run by ``nohup make test &``.

    A shell without job control starts a background command with SIGINT ignored, and nohup has
    SIGHUP ignored; processes inherit that. A handler is not inherited: exec() restores the default.
    This one does nothing, so the run itself still ignores both signals.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda _number, _frame: None)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A skipped test is a failure: what it would have shown is not known."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and reporter.stats.get("skipped") and session.exitstatus == 0:
        reporter.write_line("FAILED: tests were skipped", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
