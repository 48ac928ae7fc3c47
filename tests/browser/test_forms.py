"""The forms in JupyterLab: a whole upload by keyboard, a whole download by mouse, and how they look."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Locator

from .conftest import LabOpen, LabRows
from .notebook import Notebook, Panel, seen_texts
from .server import LabServer
from .test_looks import CONTRASTS, LEAST_CONTRAST, OVERFLOWS, THEMES, WIDTHS

pytestmark = pytest.mark.browser

UPLOAD = "import taskwidgets as tw\nform = tw.upload()\nform"
DOWNLOAD = "import taskwidgets as tw\nform = tw.download()\nform"


class Form:
    """The form in a cell's outputs."""

    def __init__(self, notebook: Notebook, index: int = 0) -> None:
        self.notebook = notebook
        self.lab = notebook.lab
        self.cell = notebook.cell(index)
        self.node = self.cell.locator(".taskwidgets-form")
        self.entries = self.node.locator(".taskwidgets-entries button")
        self.code = self.node.locator(".taskwidgets-code pre")
        self.fault = self.node.locator(".taskwidgets-fault")
        notebook.start(index)
        self.node.wait_for(state="visible", timeout=60_000)

    def field(self, label: str) -> Locator:
        return self.node.get_by_label(label, exact=True)

    def button(self, name: str) -> Locator:
        return self.node.get_by_role("button", name=name, exact=True)

    def wait_code(self, code: str) -> None:
        self.lab.wait(lambda: seen_texts(self.code) == [code], f"the code is {code}")

    def wait_text(self, text: str) -> None:
        self.lab.wait(lambda: text in "".join(seen_texts(self.node)), f"the form says {text!r}")

    def wait_entry(self, name: str) -> None:
        self.lab.wait(lambda: name in seen_texts(self.entries), f"{name} is in the list")

    def panel(self) -> Panel:
        return self.notebook.panel(0)


def test_explore(lab_open: LabOpen, lab_rows: LabRows, lab_pictures: Path, lab_server: LabServer) -> None:
    lab_rows(rows=5000)
    notebook = lab_open(UPLOAD)
    form = Form(notebook)
    form.wait_entry("rows.csv")
    form.entries.filter(has_text="rows.csv").first.click()
    form.wait_code('tw.upload("rows.csv", "rows")')
    form.wait_text("read as 4 columns")
    notebook.lab.page.wait_for_timeout(1500)
    notebook.lab.page.set_viewport_size({"width": 1280, "height": 1800})
    notebook.lab.page.wait_for_timeout(500)
    notebook.lab.page.screenshot(path=lab_pictures / "x-upload.png")
    print(notebook.node.locator(".taskwidgets-form").aria_snapshot())
    form.button("Start the upload").click()
    form.panel().wait_state("completed")
    notebook.lab.page.wait_for_timeout(1000)
    notebook.lab.page.screenshot(path=lab_pictures / "x-begun.png")
    print(notebook.cell(0).aria_snapshot())
    other = lab_open(DOWNLOAD)
    form = Form(other)
    other.lab.page.wait_for_timeout(2500)
    form.entries.first.click()
    other.lab.page.wait_for_timeout(2500)
    other.lab.page.screenshot(path=lab_pictures / "x-download.png")
    print(other.node.locator(".taskwidgets-form").aria_snapshot())
    raise AssertionError
