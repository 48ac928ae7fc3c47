"""How the panel looks: every state, light and dark, on a wide and a narrow window.

The pictures go to $TASKWIDGETS_SCREENSHOTS, by default to tests/screenshots.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import LabRoutes, LabRows
from .notebook import Notebook, Panel
from .server import NEWEST, LabServer

pytestmark = pytest.mark.browser

THEMES = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}
WIDTHS = (1280, 800)  # pixels; JupyterLab's side bar takes 300 of them
STATES = ("running", "paused", "question", "failed", "completed", "terminated")
LEAST_CONTRAST = 4.5  # WCAG 2.2, 1.4.3, for texts of this size

SET_UP = """
import taskwidgets as tw
show = {
    "running": dict(max_rate=2e5),
    "paused": dict(max_rate=2e5),
    "question": dict(max_rate=2e5),
    "failed": dict(types={"name": "integer"}),
    "completed": dict(),
    "terminated": dict(max_rate=4e4),
}
def upload(state):
    return tw.upload("rows.csv", f"look_{state}", **show[state])
"""
SLOW_DOWN = "job.max_rate = 1e3"  # bytes per second: it moves no more while pictures are taken

# Every visible text in a node with its contrast, the colours composed over all that is behind.
CONTRASTS = """node => {
    const parse = text => {
        const numbers = text.match(/[\\d.]+/g)?.map(Number) ?? [0, 0, 0, 0];
        if (text.startsWith('color(srgb')) {
            for (let i = 0; i < 3; i++) { numbers[i] *= 255; }
        }
        return numbers.length > 3 ? numbers : [...numbers.slice(0, 3), 1];
    };
    const over = (top, below) => top.slice(0, 3)
        .map((value, i) => value * top[3] + below[i] * (1 - top[3]));
    const background = element => {
        if (element === null) { return [255, 255, 255]; }
        const own = parse(getComputedStyle(element).backgroundColor);
        return own[3] === 1 ? own.slice(0, 3) : over(own, background(element.parentElement));
    };
    const opacity = element =>
        element === null ? 1 : getComputedStyle(element).opacity * opacity(element.parentElement);
    const light = color => {
        const [r, g, b] = color.map(value => value / 255)
            .map(value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const found = [];
    const walker = document.createTreeWalker(node, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const text = walker.currentNode.textContent.trim();
        const element = walker.currentNode.parentElement;
        const box = element.getBoundingClientRect();
        if (!text || element.closest('style, :disabled, [role=status]') || !box.width) { continue; }
        const behind = background(element);
        const color = parse(getComputedStyle(element).color);
        color[3] *= opacity(element);
        const [a, b] = [light(over(color, behind)), light(behind)].sort((x, y) => y - x);
        found.push([text, (a + 0.05) / (b + 0.05)]);
    }
    return found;
}"""

# Elements of a node that are wider than the room they have, or stick out of the node.
OVERFLOWS = """node => {
    const room = node.getBoundingClientRect();
    return [node, ...node.querySelectorAll('*')].filter(element => {
        const box = element.getBoundingClientRect();
        if (!box.width || element.closest('style, [role=status]')) { return false; }
        return box.right > room.right + 1 || box.left < room.left - 1
            || element.scrollWidth > element.clientWidth + 1 && element.clientWidth > 0
            && getComputedStyle(element).display !== 'inline';
    }).map(element => `${element.className}: ${element.textContent.slice(0, 60)}`);
}"""


HEIGHTS = """nodes => nodes.map(node => node.getBoundingClientRect().height)
    .filter(height => height > 0)"""


@pytest.fixture(scope="module")
def lab_gallery(
    lab_server: LabServer, lab_routes: LabRoutes, lab_rows: LabRows
) -> Iterator[Notebook]:
    """A notebook with one panel in each state, and the question asked in one of them."""
    lab_rows()
    cells = [f"job = upload({state!r})\njob" for state in STATES]
    path = lab_server.write_notebook("gallery.ipynb", [SET_UP, *cells, SLOW_DOWN], NEWEST)
    notebook = lab_routes("subshell").open(path)
    try:
        notebook.run(0)
        panels = fill_gallery(notebook)
        yield notebook
        for state in ("question", "running"):
            if state == "running":
                panels[state].click("Terminate")
            panels[state].click("Yes, terminate")
            panels[state].wait_state("terminated")
    finally:  # a panel left running would be heard by the tests that count messages
        notebook.lab.set_theme(THEMES["light"])
        notebook.lab.page.set_viewport_size({"width": 1280, "height": 800})
        notebook.close()


def fill_gallery(notebook: Notebook) -> dict[str, Panel]:
    """Bring each panel into its state."""
    panels: dict[str, Panel] = {}
    for number, state in enumerate(STATES, 1):
        settled = state if state in ("failed", "completed") else "running"
        panels[state] = notebook.run_panel(number, settled)
        if state in ("running", "paused", "question"):
            panels[state].wait_percent(30)
            if state == "paused":
                panels[state].click("Pause")
                panels[state].wait_state("paused")
            else:
                notebook.run(len(STATES) + 1)
    panels["terminated"].click("Terminate")
    panels["terminated"].click("Yes, terminate")
    panels["terminated"].wait_state("terminated")
    panels["question"].click("Terminate")
    panels["question"].button("Yes, terminate").wait_for(state="visible")
    return panels


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("theme", THEMES)
def test_every_state_reads_well(
    lab_gallery: Notebook, lab_pictures: Path, theme: str, width: int
) -> None:
    """All texts have contrast, nothing sticks out or is cut, nothing is wider than its room."""
    lab = lab_gallery.lab
    lab.set_theme(THEMES[theme])
    lab.page.set_viewport_size({"width": width, "height": 800})
    lab.page.mouse.move(5, 790)  # no button is hovered over
    pale: dict[str, Any] = {}
    wide: dict[str, Any] = {}
    seen = 0
    for number, state in enumerate(STATES, 1):
        cell = lab_gallery.cell(number)
        panel = lab_gallery.panel(number)
        shown = cell.locator(".jp-OutputArea").first
        shown.scroll_into_view_if_needed()
        lab.page.wait_for_timeout(250)  # the transitions of theme, width and bar
        shown.screenshot(path=lab_pictures / f"{state}-{theme}-{width}.png")
        texts = [*panel.node.evaluate(CONTRASTS), *panel.snapshot_node.evaluate(CONTRASTS)]
        seen += len(texts)
        if faint := [(text, round(ratio, 2)) for text, ratio in texts if ratio < LEAST_CONTRAST]:
            pale[state] = faint
        if broad := panel.node.evaluate(OVERFLOWS) + panel.snapshot_node.evaluate(OVERFLOWS):
            wide[state] = broad
        heights = panel.node.get_by_role("button").evaluate_all(HEIGHTS)
        assert len(set(heights)) == 1, heights
    lab_gallery.cell(1).scroll_into_view_if_needed()
    lab.page.screenshot(path=lab_pictures / f"page-{theme}-{width}.png")
    assert seen > 6 * len(STATES)
    assert not pale
    assert not wide
