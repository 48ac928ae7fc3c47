"""What a panel makes of clicks, without a page."""

from __future__ import annotations

import pytest
from fix_servers import wait_until

from taskwidgets.runtime.progress import Progress
from taskwidgets.runtime.states import State
from taskwidgets.widgets import markup
from taskwidgets.widgets.panel import Panel


@pytest.fixture
def job(workspace, many_rows):
    """A slow upload that runs."""
    job = workspace.upload(many_rows(20_000), "t", max_rate=2e5)
    wait_until(lambda: job.progress.rows > 0)
    yield job
    if job.state not in ("completed", "terminated"):
        job.terminate()
        job.join(None)


def word(panel: Panel) -> str:
    """The state as the panel says it aloud."""
    return panel._status.value.partition(": ")[2].partition("<")[0]


def test_a_click_that_is_late_changes_nothing(job):
    """Of a double click, the second half may come when the job is at rest: it stays as it is."""
    panel = Panel(job)
    panel.refresh()
    assert word(panel) == "running"
    panel._pause.click()
    wait_until(lambda: job.state == "paused")
    job.join(None)
    panel.refresh()
    panel._pause.click()
    panel.refresh()
    assert word(panel) == "paused"
    assert panel._pause.disabled
    assert not panel._resume.disabled

    panel._resume.click()
    wait_until(lambda: job.state == "running")
    panel.refresh()
    panel._resume.click()
    panel.refresh()
    assert word(panel) == "running"
    assert not panel._pause.disabled

    panel._terminate.click()
    yes = panel._dialog.children[1]
    yes.click()
    wait_until(lambda: job.state == "terminated")
    yes.click()
    panel.refresh()
    assert word(panel) == "terminated"
    assert panel._fault.value == ""


def test_a_bar_of_unknown_length_goes_on_where_it_was():
    """At rest for a second; then each renewal of the panel shows where the last one would be."""

    def bar(elapsed: float) -> str:
        return markup.bar("a job", State.RUNNING, Progress(elapsed=elapsed), "running")

    assert "taskwidgets-fill-unknown" in bar(0.9)
    assert "moving" not in bar(0.9)
    for elapsed, since in [(1.0, "0.0"), (1.5, "0.5"), (4.0, "3.0"), (4.5, "0.3")]:
        assert f'fill-moving" style="animation-delay: -{since}s"' in bar(elapsed)
