"""How much the panel sends to the page."""

from __future__ import annotations

import re
import time
from collections import Counter

import pytest

from .conftest import LabOpen, LabRows

pytestmark = pytest.mark.browser

COMM_ID = re.compile(rb'"comm_id":\s*"([0-9a-f]+)"')


@pytest.mark.slow
def test_a_running_panel_sends_few_updates(lab_open: LabOpen, lab_rows: LabRows) -> None:
    """No widget is updated over ten times a second, and only the one that changes is at all."""
    lab_rows("many.csv", rows=400_000)
    notebook = lab_open(
        "import taskwidgets as tw\njob = tw.upload('many.csv', 'traffic', max_rate=4e6)\njob"
    )
    panel = notebook.run_panel()
    panel.wait_percent(10)
    lab = notebook.lab
    lab.frames.clear()
    begun, first = time.monotonic(), panel.percent
    lab.page.wait_for_timeout(2500)
    assert panel.state == "running"
    assert panel.percent > first
    seconds = time.monotonic() - begun
    updates = [
        data
        for at, data in lab.frames
        if at >= begun and b'"comm_msg"' in data and re.search(rb'"method":\s*"update"', data)
    ]
    widgets = Counter(match[1] for data in updates if (match := COMM_ID.search(data)))
    rates = {name.decode()[:6]: round(number / seconds, 1) for name, number in widgets.items()}
    assert sum(widgets.values()) == len(updates)
    assert max(rates.values()) <= 11, rates
    assert max(rates.values()) >= 1, rates  # it is alive, and we do hear it
    assert len(rates) <= 1, rates  # the bar and the numbers; buttons, words and style rest
    size = sum(map(len, updates)) / seconds
    assert size < 50_000, f"{size:,.0f} bytes a second"
