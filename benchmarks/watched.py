"""What it costs to be watched: the same transfer with a panel in JupyterLab, and without one.

    python benchmarks/watched.py [--quick] [--rounds 7]

A real JupyterLab, with Chromium as its page; one notebook, whose cells run the transfer in turn
with the panel on the page and with none. Seconds are the job's own.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from datasets import DATA_SETS, FOLDER, PARTS
from results import Value

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.browser.notebook import Lab, Notebook  # noqa: E402 - found only by the line above
from tests.browser.server import NEWEST, LabServer, find_chromium  # noqa: E402

ROUNDS = 7  # the first of which counts for nothing
OUT = FOLDER / "watched.csv"
WAYS = ("with a panel", "without one")


def cells(path: Path) -> list[str]:
    """What makes the table; what waits and tells; for each direction, shown and not shown."""
    calls = {
        "upload": f"tw.upload({str(path)!r}, 'watched', if_exists='replace', again=True)",
        "download": f"tw.download('watched', {str(OUT)!r}, if_exists='replace', again=True)",
    }
    made = [
        f"import taskwidgets as tw\njob = {calls['upload']}\nNone",
        "await job\nprint(job.receipt.seconds)",
    ]
    for call in calls.values():
        made += [f"job = {call}\njob", f"job = {call}\nNone"]
    return made


def measure(path: Path, rounds: int = ROUNDS) -> Iterator[Value]:
    """Each value is of one transfer."""
    from playwright.sync_api import sync_playwright

    home = Path(tempfile.mkdtemp(prefix="taskwidgets-watched-"))
    home.chmod(0o755)  # the embedded Postgres of root runs as another account
    server = LabServer(home, home / "no-old-kernel")
    try:
        server.start()
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=find_chromium(), args=["--no-sandbox", "--disable-gpu"]
            )
            lab = Lab(server, browser.new_context().new_page())
            lab.load()
            notebook = lab.open(server.write_notebook("watched.ipynb", cells(path), NEWEST))
            try:
                yield from _turns(notebook, path, rounds)
            finally:
                notebook.close()
            browser.close()
    finally:
        server.stop()
        shutil.rmtree(home, ignore_errors=True)
        OUT.unlink(missing_ok=True)


def _turns(notebook: Notebook, path: Path, rounds: int) -> Iterator[Value]:
    notebook.run(0, 120.0)
    _seconds(notebook)
    for number in range(rounds):
        for direction, first in (("upload", 2), ("download", 4)):
            for way, index in zip(WAYS, (first, first + 1), strict=True):
                panels = notebook.node.locator(".taskwidgets-panel")
                if way == WAYS[0]:
                    notebook.run_panel(index)
                    assert panels.count() == 1
                else:
                    notebook.run(index)
                    assert panels.count() == 0
                seconds = _seconds(notebook)
                if way == WAYS[0]:
                    notebook.panel(index).wait_state("completed")
                    notebook.lab.command("notebook:clear-all-cell-outputs")
                if number:
                    size = path.stat().st_size
                    yield Value(
                        f"watched {direction}", "flights", way, number, "time", seconds, "s", size
                    )


def _seconds(notebook: Notebook) -> float:
    """Wait for the job; the seconds that it took."""
    notebook.run(1, 300.0)
    return float(notebook.output(1))


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--quick", action="store_true", help="with a fifteenth of the data")
    options.add_argument("--rounds", type=int, default=ROUNDS)
    given = options.parse_args()
    path = DATA_SETS["flights"].file(1 if given.quick else PARTS)
    times: dict[tuple[str, str], list[float]] = {}
    for value in measure(path, given.rounds):
        print(f"{value.part}, {value.peer}: {value.value:.2f} s", flush=True)
        times.setdefault((value.part, value.peer), []).append(value.value)
    for part in dict.fromkeys(part for part, _ in times):
        shown, bare = (statistics.median(times[part, way]) for way in WAYS)
        print(f"{part}: {shown:.3f} s with a panel, {bare:.3f} without: {shown / bare - 1:+.1%}")


if __name__ == "__main__":
    main()
