"""The forms in JupyterLab: an upload by keyboard alone, a download by mouse, and how they look."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fix_tiers import slow
from playwright.sync_api import Locator

from .conftest import LabOpen, LabRows
from .notebook import Notebook, Panel, seen_texts
from .server import NEWEST, OLD, LabServer
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

    def options(self, label: str) -> list[str]:
        """What a choice offers; ipywidgets writes blanks that do not break into it."""
        texts = self.field(label).locator("option").all_text_contents()
        return [text.replace("\xa0", " ") for text in texts]

    def wait_chosen(self, label: str, text: str) -> None:
        look = "node => [...node.selectedOptions].map(one => one.textContent).join()"

        def chosen() -> bool:
            return str(self.field(label).evaluate(look)).replace("\xa0", " ") == text

        self.lab.wait(chosen, f"{label} is {text!r}")

    def panel(self) -> Panel:
        return self.notebook.panel(0)


NASTY = "<img src=x onerror=\"window.hit=1\"> 'a'\nnew"  # of a file, a folder, a table, a column
ONE_LINE = NASTY.replace("\n", "⏎")

# The name of what has the focus: a label's text, or a button's own.
FOCUSED = """() => {
    const one = document.activeElement;
    return (one?.labels?.[0]?.textContent || one?.innerText || '').trim();
}"""


def tab_to(form: Form, name: str) -> None:
    """Press Tab until this has the focus."""
    for _ in range(60):
        form.lab.page.keyboard.press("Tab")
        if form.lab.page.evaluate(FOCUSED) == name:
            return
    raise AssertionError(f"Tab does not reach {name!r}")


def test_a_whole_upload_by_keyboard_alone(lab_open: LabOpen, lab_server: LabServer) -> None:
    """Enter opens folder and file, a type is changed, Start is pressed; the panel takes over."""
    # Names that differ in their last letter: then nothing typed is on its way any more.
    folder = lab_server.root / "keyboard 1"
    folder.mkdir()
    (lab_server.root / "keyboard 2").mkdir()
    (folder / "Sales 2023.csv").write_text("id\n1\n")
    (folder / "Sales 2024.csv").write_text("id;amount\n1;2,5\n2;3,5\n", encoding="utf-8")
    form = Form(lab_open(UPLOAD))
    form.wait_entry("keyboard 1/")
    keyboard = form.lab.page.keyboard
    keyboard.press("Escape")  # from the cell's editor into the notebook's command mode
    tab_to(form, "Filter")
    keyboard.type("keyboard 1")
    form.lab.wait(lambda: seen_texts(form.entries) == ["keyboard 1/"], "the filter has chosen")
    keyboard.press("Enter")
    form.wait_entry("Sales 2024.csv")
    form.lab.wait(lambda: form.field("Filter").input_value() == "", "the filter is empty again")
    keyboard.type("2024")
    form.lab.wait(lambda: seen_texts(form.entries) == ["Sales 2024.csv"], "it chose once more")
    keyboard.press("Enter")
    form.wait_text("read as 2 columns, 2 rows")
    form.wait_chosen("Delimiter", "detected: semicolon")
    form.wait_chosen("Decimals", "detected: comma")
    form.field("id").wait_for(state="visible")
    tab_to(form, "id")
    keyboard.press("ArrowDown")  # text
    form.wait_chosen("id", "text")
    keyboard.type("bigi")  # no commands of the notebook: b would add a cell, x cut this one
    source = "keyboard 1/Sales 2024.csv"
    code = f'tw.upload("{source}", "sales_2024", types={{"id": "bigint"}})'
    form.wait_code(code)
    tab_to(form, "Start the upload")
    keyboard.press("Enter")
    panel = form.panel()
    panel.wait_state("completed")
    assert seen_texts(form.code) == [code]
    panel.wait_snapshot("completed: 2 rows")
    assert form.button("Start the upload").count() == 0
    assert form.notebook.node.locator(".jp-CodeCell").count() == 1
    assert lab_server.query("SELECT id, amount FROM sales_2024 ORDER BY 1") == [(1, 2.5), (2, 3.5)]
    kind = lab_server.value("SELECT pg_typeof(id)::text FROM sales_2024 LIMIT 1")
    assert kind == "bigint"


def test_a_whole_download_by_mouse(
    lab_open: LabOpen, lab_rows: LabRows, lab_server: LabServer
) -> None:
    """A table is chosen from the list, columns and rows of it; then a query in its place."""
    lab_rows("mouse.csv", 300)
    notebook = lab_open("import taskwidgets as tw\nawait tw.upload('mouse.csv', 'mouse')", DOWNLOAD)
    notebook.run(0)
    form = Form(notebook, 1)
    form.wait_entry("mouse")
    form.lab.wait(
        lambda: (
            form.button("mouse table, 300 rows").count()
            or form.node.get_by_role("button", name="mouse table, 300 rows").count()
        ),
        "the rows are counted",
    )
    form.entries.filter(has_text="mouse").first.click()
    form.wait_text("the first 8 rows")
    form.wait_code('tw.download("mouse", "mouse.csv")')
    form.field("Columns to keep").select_option(label=["id", "amount"])
    form.field("Filter rows: WHERE").fill("nothing > 1")
    form.button("Show first rows").click()
    form.wait_text('column "nothing" does not exist')
    assert form.fault.get_attribute("role") == "alert"
    form.field("Filter rows: WHERE").fill("id < 1000002")
    form.button("Show first rows").click()
    form.wait_text("the first 2 rows")
    assert "row number" not in "".join(seen_texts(form.node))
    form.field("Format").select_option(label="CSV, packed with gzip")
    form.lab.wait(lambda: form.field("File").input_value() == "mouse.csv.gz", "the name follows")
    form.field("Format").select_option(label="CSV")
    form.lab.wait(lambda: form.field("File").input_value() == "mouse.csv", "and back")
    form.field("File").fill("mouse-copy.csv")
    form.lab.wait(lambda: '"mouse-copy.csv"' in "".join(seen_texts(form.code)), "it is in the code")
    form.button("Start the download").click()
    notebook.panel(1).wait_state("completed")
    written = (lab_server.root / "mouse-copy.csv").read_text()
    assert written == "id,amount\n1000000,100.25\n1000001,101.25\n"


def test_what_is_wrong_is_said_and_the_form_stays(lab_open: LabOpen, lab_server: LabServer) -> None:
    """No text, no file, a table that exists: each an alert; what was filled in is still there."""
    (lab_server.root / "noise.csv").write_bytes(bytes(range(32)) * 2000)
    (lab_server.root / "right.csv").write_text("a,b\n1,2\n")
    notebook = lab_open(
        "import taskwidgets as tw\nawait tw.upload('right.csv', 'stays', if_exists='replace')",
        UPLOAD,
    )
    notebook.run(0)
    form = Form(notebook, 1)
    form.wait_entry("noise.csv")
    form.button("Start the upload").click()
    form.wait_text("choose a file first")
    form.entries.filter(has_text="noise.csv").click()
    form.wait_text("is no text")
    form.entries.filter(has_text="right.csv").click()
    form.wait_text("read as 2 columns")
    form.lab.wait(lambda: "is no text" not in "".join(seen_texts(form.node)), "the error has gone")
    form.field("Table").fill("stays")
    form.wait_text("There is a table of this name")
    form.button("Start the upload").click()
    form.wait_text('the table "public.stays" exists already')
    assert form.node.get_by_role("alert").count() == 1
    assert form.field("Table").input_value() == "stays"
    form.field("If the table exists").select_option(label="replace it, once all rows are in")
    form.field("Header").select_option(label="none: columns are numbered")
    form.wait_code('tw.upload("right.csv", "stays", if_exists="replace", header=False)')
    form.wait_text("read as 2 columns, 2 rows")
    form.wait_chosen("Header", "none: columns are numbered")
    form.button("Start the upload").click()
    notebook.panel(1).wait_state("completed")
    assert lab_server.value("SELECT count(*) FROM stays") == 2


def test_names_stay_text(lab_open: LabOpen, lab_server: LabServer) -> None:
    """Markup, quotes and newlines in names of folders, files, tables, columns and in errors."""
    folder = lab_server.root / f"folder {NASTY}"
    folder.mkdir()
    header = NASTY.replace('"', '""')
    (folder / f"{NASTY}.csv").write_text(f'id,"{header}"\n1,{NASTY.split(chr(10))[0]!r}\n')
    notebook = lab_open(UPLOAD, DOWNLOAD)
    form = Form(notebook)
    form.wait_entry(f"folder {ONE_LINE}/")
    form.entries.filter(has_text="folder").click()
    form.wait_entry(f"{ONE_LINE}.csv")
    form.entries.filter(has_text=f"{ONE_LINE}.csv").click()
    form.wait_text("read as 2 columns")
    form.field(ONE_LINE).select_option(label="integer")
    form.field("Table").fill(NASTY.replace("\n", " "))
    form.button("Start the upload").click()
    panel = form.panel()
    notebook.lab.wait(lambda: panel.state == "failed", "the job fails at a value", 60.0)
    assert "<img src=x" in panel.fault.inner_text()
    other = Form(notebook, 1)
    other.field("Export").select_option(label="a query")
    other.field("Query").fill(f"SELECT 1 AS \"{header}\", '{NASTY.replace(chr(39), chr(34))}' AS b")
    other.button("Show first rows").click()
    other.wait_text("1 row")
    assert ONE_LINE in other.options("Columns to keep")
    other.field("Filter rows: WHERE").fill(f'"{header}x" = 1')
    other.button("Show first rows").click()
    other.lab.wait(lambda: "<img src=x" in "".join(seen_texts(other.fault)), "the error is text")
    assert notebook.node.locator("img[src=x]").count() == 0
    assert notebook.lab.page.evaluate("() => window.hit") is None


@pytest.mark.slow
def test_a_file_is_sent_from_the_browser_with_progress(
    lab_open: LabOpen, lab_server: LabServer, tmp_path: Path
) -> None:
    """In pieces, with a bar that has a value; it is chosen once it is there, and replaces none."""
    sent = tmp_path / "sent ä.csv"
    with sent.open("w", encoding="utf-8") as file:
        file.write("id,text\n")
        file.writelines(f"{number},{'ä' * 60}\n" for number in range(100_000))
    form = Form(lab_open(UPLOAD))
    field = form.node.get_by_label("Send a file from this computer")
    field.wait_for(state="visible")
    form.node.evaluate(
        """node => {
            window.values = [];
            new MutationObserver(records => {
                const bar = node.querySelector('.taskwidgets-sender [role=progressbar]');
                if (bar) { window.values.push(Number(bar.getAttribute('aria-valuenow'))); }
            }).observe(node, {subtree: true, attributes: true,
                              attributeFilter: ['aria-valuenow']});
        }"""
    )
    field.set_input_files(sent)
    form.wait_text("Chosen: sent ä.csv")
    form.wait_text("read as 2 columns")
    values = form.lab.page.evaluate("() => window.values")
    assert len(set(values)) >= 5, values
    assert values == sorted(values)
    there = lab_server.root / sent.name
    assert there.read_bytes() == sent.read_bytes()
    sent.write_text("id,text\n1,other\n")
    field.set_input_files(sent)
    form.wait_text("exists already and was left as it is")
    assert there.stat().st_size > 1_000_000
    assert not list(lab_server.root.glob("*.part"))


@pytest.mark.slow
@pytest.mark.parametrize(("kernel", "route"), [(OLD, "main"), (NEWEST, "subshell")])
def test_two_cells_have_a_form_each(
    lab_open: LabOpen, lab_rows: LabRows, lab_server: LabServer, kernel: str, route: str
) -> None:
    """Two forms in one notebook, on each route of a click: each ends in its own panel."""
    lab_rows("two.csv", 200)
    notebook = lab_open(UPLOAD, UPLOAD, "form.job.receipt.rows_loaded", kernel=kernel, route=route)
    forms = [Form(notebook, number) for number in (0, 1)]
    for number, form in enumerate(forms):
        form.wait_entry("two.csv")
        form.entries.filter(has_text="two.csv").click()
        form.field("Table").fill(f"two_{kernel.replace('-', '_')}_{number}")
        form.wait_text("read as 4 columns")
    for form in forms:
        form.button("Start the upload").click()
    for number in (0, 1):
        notebook.panel(number).wait_state("completed")
        name = f"two_{kernel.replace('-', '_')}_{number}"
        assert lab_server.value(f"SELECT count(*) FROM {name}") == 200
    notebook.run(2)
    notebook.lab.wait(lambda: notebook.output(2).endswith("200"), "the form has its job")


@pytest.mark.parametrize("kind", ["upload", slow("download")])
def test_the_forms_read_well(
    lab_open: LabOpen, lab_rows: LabRows, lab_pictures: Path, kind: str
) -> None:
    """Light and dark, wide and narrow: contrast, nothing sticks out; all has a name."""
    lab_rows("look.csv", 300)
    notebook = lab_open(
        "import taskwidgets as tw\nawait tw.upload('look.csv', 'look')",
        UPLOAD if kind == "upload" else DOWNLOAD,
    )
    notebook.run(0)
    form, lab = Form(notebook, 1), notebook.lab
    entry = "look.csv" if kind == "upload" else "look"
    form.wait_entry(entry)
    form.entries.filter(has_text=entry).first.click()
    form.wait_text("read as 4 columns" if kind == "upload" else "the first 8 rows")
    form.button("Show advanced options").click()
    form.field("Most MB per second").fill("many")
    form.button(f"Start the {kind}").click()
    form.wait_text("is no number of megabytes")
    form.field("Connections").focus()
    try:
        for theme, width in ((theme, width) for theme in THEMES for width in WIDTHS):
            lab.set_theme(THEMES[theme])
            lab.page.set_viewport_size({"width": width, "height": 1700})
            lab.page.mouse.move(5, 790)  # no button is hovered over
            lab.page.wait_for_timeout(250)  # the transitions of theme and width
            form.node.screenshot(path=lab_pictures / f"form-{kind}-{theme}-{width}.png")
            texts = form.node.evaluate(CONTRASTS)
            faint = [(text, ratio) for text, ratio in texts if ratio < LEAST_CONTRAST]
            assert not faint, (theme, width)
            assert not form.node.evaluate(OVERFLOWS), (theme, width)
            assert len(texts) > 30
    finally:
        lab.set_theme(THEMES["light"])
        lab.page.set_viewport_size({"width": 1280, "height": 800})
    tree = form.node.aria_snapshot()
    roles = re.findall(
        r"- '?(button|textbox|combobox|listbox|progressbar|checkbox)\b([^\n]*)", tree
    )
    assert len(roles) > 10
    assert not [found for found in roles if not found[1].startswith(' "')], tree
