"""The panel for people who hear it or have no mouse."""

from __future__ import annotations

import re

import pytest

from .conftest import LabOpen, LabRows
from .notebook import seen_texts

pytestmark = pytest.mark.browser

CELL = """
import taskwidgets as tw
job = tw.upload("rows.csv", {table!r}, max_rate=2e5)
job
"""

# Collects what the panel's live region has said, from now on.
LISTEN = """panel => {
    window.said = [];
    const words = () => [...panel.querySelectorAll('[role=status]')].map(e => e.textContent).join();
    let last = words();
    new MutationObserver(() => {
        window.mutations = (window.mutations || 0) + 1;
        const now = words();
        if (now !== last) { last = now; window.said.push(now); }
    }).observe(panel, {subtree: true, childList: true, characterData: true});
    new MutationObserver(records => {
        if (records.some(record => record.target.closest?.('.widget-html')
                ?.querySelector('[role=status]'))) { window.said.push('again: ' + words()); }
    }).observe(panel, {subtree: true, childList: true});
}"""


def test_a_screen_reader_hears_a_named_bar_and_states_but_no_ticks(
    lab_open: LabOpen, lab_rows: LabRows
) -> None:
    """The bar has role, name, value and text; the live region speaks when the state changes."""
    lab_rows()
    notebook = lab_open(CELL.format(table="heard"))
    panel = notebook.run_panel()
    assert panel.bar.count() == 1
    assert panel.bar.get_attribute("aria-label") == "Progress of rows.csv → heard"
    assert panel.bar.get_attribute("aria-valuemin") == "0"
    assert panel.bar.get_attribute("aria-valuemax") == "100"
    text = panel.bar.get_attribute("aria-valuetext") or ""
    assert re.fullmatch(r"\d+ %, running, [\d,]+ rows", text), text
    said = "rows.csv → heard: running"
    notebook.lab.wait(lambda: panel.status.inner_text() == said, "the status line says running")

    page = notebook.lab.page
    panel.node.evaluate(LISTEN)
    notebook.lab.wait(lambda: page.evaluate("() => window.mutations || 0") > 5, "the panel moves")
    assert page.evaluate("() => window.said") == []
    panel.click("Pause")
    panel.wait_state("paused")
    heard: list[str] = []

    def paused_was_heard() -> bool:
        heard[:] = page.evaluate(
            "() => [...new Set(window.said.map(w => w.replace('again: ', '')))]"
        )
        return heard[-1:] == ["rows.csv → heard: paused"]

    notebook.lab.wait(paused_was_heard, "a screen reader hears paused")
    assert len(heard) <= 2  # pausing, paused


@pytest.mark.slow
def test_every_button_shows_its_name(lab_open: LabOpen, lab_rows: LabRows) -> None:
    """A button is called by the words that are seen on it, nothing else."""
    lab_rows()
    notebook = lab_open(CELL.format(table="named"))
    panel = notebook.run_panel()

    def names() -> list[str]:
        texts = seen_texts(panel.node.get_by_role("button"))
        assert all(texts)
        return texts

    assert names() == ["Pause", "Resume", "Terminate"]
    assert all(panel.button(name).count() == 1 for name in names())
    panel.click("Terminate")
    panel.button("Yes, terminate").wait_for(state="visible")
    assert names() == ["Pause", "Resume", "Terminate", "Yes, terminate", "No, keep it"]
    assert all(panel.button(name).count() == 1 for name in names())


def test_the_keyboard_alone_suffices(lab_open: LabOpen, lab_rows: LabRows) -> None:
    """Tab reaches all buttons, with a visible outline, and the question after Terminate."""
    lab_rows()
    notebook = lab_open(CELL.format(table="typed"))
    panel = notebook.run_panel()
    keyboard = notebook.lab.page.keyboard
    focused = "() => document.activeElement?.textContent?.trim()"
    keyboard.press("Escape")  # from the cell's editor into the notebook's command mode

    def tab_to(name: str) -> None:
        for _ in range(12):
            keyboard.press("Tab")
            if notebook.lab.page.evaluate(focused) == name:
                return
        raise AssertionError(f"Tab does not reach {name}")

    tab_to("Pause")
    outline = panel.button("Pause").evaluate(
        "node => [getComputedStyle(node).outlineStyle, getComputedStyle(node).outlineWidth]"
    )
    assert outline == ["solid", "2px"]
    keyboard.press("Enter")
    panel.wait_state("paused")
    notebook.lab.wait(lambda: panel.is_enabled("Resume"), "Resume can be reached")
    tab_to("Resume")
    keyboard.press("Enter")
    panel.wait_state("running")
    tab_to("Terminate")
    keyboard.press("Enter")
    panel.button("Yes, terminate").wait_for(state="visible")
    keyboard.press("Tab")
    assert notebook.lab.page.evaluate(focused) == "Yes, terminate"
    keyboard.press("Tab")
    assert notebook.lab.page.evaluate(focused) == "No, keep it"
    keyboard.press("Enter")
    panel.button("No, keep it").wait_for(state="hidden")
    assert panel.state == "running"
