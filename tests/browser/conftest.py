"""JupyterLab, Chromium and notebooks for the tests of this folder."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from .notebook import Lab, Notebook
from .server import NEWEST, OLD_IPYKERNEL, LabServer, find_chromium

LabOpen = Callable[..., Notebook]
LabRows = Callable[..., Path]
LabRoutes = Callable[[str], Lab]

ROUTES = {"subshell": "perCommTarget", "main": "disabled"}  # values of commsOverSubshells


@pytest.fixture(scope="package")
def lab_server() -> Iterator[LabServer]:
    """The server, with a kernel of the newest ipykernel and one of the oldest allowed."""
    home = Path(tempfile.mkdtemp(prefix="taskwidgets-lab-"))
    home.chmod(0o755)  # the embedded Postgres of root runs as another account
    try:
        old_kernel = home / "old-kernel"
        subprocess.run(
            [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile",
             "--disable-pip-version-check", "--target", str(old_kernel),
             f"ipykernel=={OLD_IPYKERNEL}"],
            check=True,
        )  # fmt: skip
        server = LabServer(home, old_kernel)
        try:
            server.start()
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(home, ignore_errors=True)


# Of the package's scope, not the session's: as long as Playwright runs, asyncio takes this thread
# for one with a running loop, and the asynchronous tests of other folders could not run.
@pytest.fixture(scope="package")
def lab_browser() -> Iterator[Browser]:
    """Chromium without a window."""
    executable = find_chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable,
            args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                  "--disable-background-networking", "--disable-component-update",
                  "--disable-sync"],
        )  # fmt: skip
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def lab_routes(lab_server: LabServer, lab_browser: Browser) -> Iterator[LabRoutes]:
    """A page for each route of comm messages, "subshell" (as JupyterLab has it) or "main"."""
    pages: dict[str, Lab] = {}

    def page(route: str) -> Lab:
        if route not in pages:
            lab_server.set_setting(
                "@jupyterlab/apputils-extension:kernels-settings",
                commsOverSubshells=ROUTES[route],
            )
            # A context each, so that neither page hears of the other's notebooks and settings.
            context = lab_browser.new_context(viewport={"width": 1280, "height": 800})
            pages[route] = Lab(lab_server, context.new_page())
            pages[route].load()
        return pages[route]

    yield page
    for lab in pages.values():
        lab.page.context.close()


@pytest.fixture
def lab_open(
    lab_server: LabServer,
    lab_routes: LabRoutes,
    request: pytest.FixtureRequest,
) -> Iterator[LabOpen]:
    """Open a new notebook with the given cells; its kernel ends with the test."""
    opened: list[Notebook] = []
    numbers = itertools.count(1)

    def make(*cells: str, kernel: str = NEWEST, route: str = "subshell") -> Notebook:
        stem = re.sub(r"\W+", "-", request.node.name)
        path = lab_server.write_notebook(f"{stem}-{next(numbers)}.ipynb", cells, kernel)
        notebook = lab_routes(route).open(path)
        opened.append(notebook)
        return notebook

    yield make
    for notebook in opened:
        notebook.close()


@pytest.fixture(scope="package")
def lab_rows(lab_server: LabServer) -> LabRows:
    """Make a CSV file beside the notebooks: rows of some 40 bytes, ids from 1,000,000 on."""

    def make(name: str = "rows.csv", rows: int = 50_000) -> Path:
        path = lab_server.root / name
        if not path.exists():
            with path.open("w", encoding="utf-8") as file:
                file.write("id,name,amount,day\n")
                for number in range(rows):
                    file.write(
                        f"{number + 1000000},row number {number % 1000:03d},"
                        f"{number % 97 + 100}.25,2024-02-{number % 28 + 1:02d}\n"
                    )
        return path

    return make


@pytest.fixture(scope="package")
def lab_pictures() -> Path:
    """The directory for the pictures."""
    default = Path(__file__).parents[1] / "screenshots"
    folder = Path(os.environ.get("TASKWIDGETS_SCREENSHOTS") or default)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
