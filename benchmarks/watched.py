"""What a panel costs: the same transfer with a panel on a page of JupyterLab, and without one.

    python benchmarks/watched.py [--quick | --parts 60] [--rounds 7] [--direction upload download]

A real JupyterLab and Chromium. Cells of one notebook run the transfer in turn, shown and not shown,
and which comes first changes with each round; the first round, in which the page loads what panels
need, is not counted. Seconds are taken in the kernel, from the call until the job is at rest. What
waits for that does not ask the page, so that the page has only the panel to do.

Most of what a panel costs is to put it on the page, the same for any job: a share that grows as
jobs get shorter. --parts 60 moves 2 GB.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import common
import psutil
import report
from contest import Tree
from datasets import DATA_SETS, FOLDER, PARTS
from results import Value
from sqlalchemy import create_engine

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.browser.notebook import Lab, Notebook  # noqa: E402 - found only by the line above
from tests.browser.server import NEWEST, LabServer, find_chromium, wait_for  # noqa: E402

ROUNDS = 7
DIRECTIONS = ("upload", "download")
WAYS = SHOWN, BARE = "with a panel", "without one"
TABLE, OUT = "watched", FOLDER / "watched.csv"
TOLD = "told.json"  # what the last cell writes when the job is over
PATIENCE = 300.0  # seconds for one transfer

# Here and below: `await job` would show a panel in its cell, had no other shown it.
FIRST = """
import asyncio, json, time
from pathlib import Path

import taskwidgets as tw
from comm import get_comm_manager

await asyncio.to_thread(tw.upload({path!r}, {table!r}).join, None)
"""

LAST = f"""
def finish():
    job.join(None)
    return time.perf_counter() - began

seconds = await asyncio.to_thread(finish)
told = {{"seconds": seconds, "state": job.state, "error": job.error}}
told["comms"] = len(get_comm_manager().comms) - comms
Path("told.part").write_text(json.dumps(told))
_ = Path("told.part").rename({TOLD!r})
"""


def cell(direction: str, path: Path, way: str) -> str:
    """What begins a transfer, and shows it or not."""
    arguments = {"upload": (str(path), TABLE), "download": (TABLE, str(OUT))}[direction]
    given = ", ".join(map(repr, arguments))
    return (
        "began, comms = time.perf_counter(), len(get_comm_manager().comms)\n"
        f"job = tw.{direction}({given}, if_exists='replace', again=True)\n"
        f"{'job' if way == SHOWN else 'None'}"
    )


class Page:
    """The notebook, and the processes that have something to do with it."""

    def __init__(self, notebook: Notebook, path: Path, directions: Sequence[str]) -> None:
        self._notebook = notebook
        self._path = path
        self._directions = directions
        self._engine = create_engine(notebook.server.postgres.url)
        assert notebook.server.process is not None
        self._kernel = Tree(notebook.server.kernel_process(notebook.path).pid, "client")
        self._server = psutil.Process(notebook.server.process.pid)  # the kernel is its child
        self._browser = Tree(browser_process(), "client")

    def measure(self, rounds: int) -> Iterator[Value]:
        """The values of each transfer but those of the first round."""
        self._notebook.run(0, PATIENCE)
        for number in range(rounds):
            for direction in self._directions:
                for way in WAYS if number % 2 else WAYS[::-1]:
                    index = 2 + 2 * self._directions.index(direction) + WAYS.index(way)
                    for measure, seconds in self._turn(index, way).items():
                        if number:
                            yield Value(
                                f"watched {direction}", "flights", way, number, measure, seconds,
                                "s", self._path.stat().st_size,
                            )  # fmt: skip

    def _turn(self, index: int, way: str) -> dict[str, float]:
        """One transfer: seconds, and seconds of CPU."""
        notebook = self._notebook
        common.settle(self._engine)
        told_path = notebook.server.root / TOLD
        before, cpu = notebook.prompt(1), self._cpu()
        notebook.start(index)
        notebook.start(1)
        wait_for(told_path.exists, "the transfer is over", PATIENCE)
        taken = {name: now - cpu[name] for name, now in self._cpu().items()}
        notebook.wait_done(1, before=before)
        told = json.loads(told_path.read_text())
        told_path.unlink()
        if told["state"] != "completed":
            raise RuntimeError(f"it is {told['state']}: {told['error']}")
        panels = notebook.node.locator(".taskwidgets-panel").count()
        if (panels, told["comms"] > 0) != ((1, True) if way == SHOWN else (0, False)):
            raise RuntimeError(f"{way}, there are {panels} panels and {told['comms']} new comms")
        if way == SHOWN:
            notebook.panel(index).wait_state("completed")
            notebook.lab.command("notebook:clear-all-cell-outputs")
        return {"time": told["seconds"], **taken}

    def _cpu(self) -> dict[str, float]:
        server = self._server.cpu_times()
        return {
            "kernel CPU": self._kernel.cpu(),
            "Jupyter CPU": server.user + server.system,
            "browser CPU": self._browser.cpu(),
        }


def browser_process() -> int:
    """The number of the first of Chromium's processes that this one has started."""
    for child in psutil.Process().children(recursive=True):
        if "--remote-debugging-pipe" in child.cmdline():
            return child.pid
    raise RuntimeError("no process of Chromium was found")


def measure(
    path: Path, rounds: int = ROUNDS, directions: Sequence[str] = DIRECTIONS
) -> Iterator[Value]:
    """All values, as they come."""
    from playwright.sync_api import sync_playwright

    home = Path(tempfile.mkdtemp(prefix="taskwidgets-watched-"))
    home.chmod(0o755)  # the embedded Postgres of root runs as another account
    server = LabServer(home, home / "no-old-kernel")
    cells = [FIRST.format(path=str(path), table=TABLE), LAST]
    cells += [cell(direction, path, way) for direction in directions for way in WAYS]
    try:
        server.start()
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=find_chromium(), args=["--no-sandbox", "--disable-gpu"]
            )
            lab = Lab(server, browser.new_page(viewport={"width": 1280, "height": 1600}))
            lab.load()
            notebook = lab.open(server.write_notebook("watched.ipynb", cells, NEWEST))
            try:
                yield from Page(notebook, path, directions).measure(rounds)
            finally:
                notebook.close()
            browser.close()
    finally:
        server.stop()
        shutil.rmtree(home, ignore_errors=True)
        OUT.unlink(missing_ok=True)


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    size = options.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_const", const=1, dest="parts", default=PARTS,
                      help="with a fifteenth of the data")  # fmt: skip
    size.add_argument("--parts", type=int, help="fifteenths of 514 MB")
    options.add_argument("--rounds", type=int, default=ROUNDS, help="with the one not counted")
    options.add_argument("--direction", nargs="+", choices=DIRECTIONS, default=DIRECTIONS)
    given = options.parse_args()
    if given.rounds < 2:
        options.error("--rounds: the first is not counted, so two at least")
    path = DATA_SETS["flights"].file(given.parts)
    FOLDER.mkdir(exist_ok=True)
    print(common.machine())
    values = []
    for value in measure(path, given.rounds, given.direction):
        values.append(value)
        told = f"{value.part}, {value.peer}, {value.round}: {value.measure}: {value.value:.2f} s"
        print(told, flush=True)
    print("", *report.watched(values), sep="\n")


if __name__ == "__main__":
    main()
