"""Which job a call means: the function's name, where it is defined, and its arguments."""

import asyncio

import pytest

import taskwidgets as tw
from taskwidgets.functions.definition import NOTEBOOK_VARIABLE, code_hash, defined_in


def cell(source):
    """Run a cell's source as a notebook does: its functions belong to ``__main__``."""
    import linecache

    number = len(linecache.cache)
    name = f"<cell {number}>"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    names = {"__name__": "__main__", "tw": tw, "asyncio": asyncio}
    exec(compile(source, name, "exec"), names)
    return names["load"]


CELL = """
@tw.job
async def load(run, day):
    for number in range(run.state.get("next", 0), 3):
        await run.checkpoint({"next": number + 1}, done=number + 1, total=3)
    return "RESULT"
"""
WAITING = """
@tw.job
async def load(run, day):
    await run.checkpoint({"next": 1})
    while True:
        await asyncio.sleep(0.01)
        await run.checkpoint({"next": 1})
"""


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    """A function: from now on, cells are run in the notebook of this name."""

    def enter(name):
        path = tmp_path / name
        path.touch()
        monkeypatch.setenv(NOTEBOOK_VARIABLE, str(path))
        return path

    return enter


def causes(job):
    return "\n".join(job.events().cause)


async def test_the_same_name_in_two_notebooks_is_two_jobs(workspace, notebook):
    """Notebook B gets neither the result nor the job of notebook A; A still finds its own."""
    notebook("a.ipynb")
    first = cell(CELL.replace("RESULT", "a")).using(workspace)("mon")
    assert (await first).result == "a"
    notebook("b.ipynb")
    second = cell(CELL.replace("RESULT", "b")).using(workspace)("mon")
    assert (await second).result == "b"
    assert second.id != first.id
    notebook("a.ipynb")
    assert cell(CELL.replace("RESULT", "a")).using(workspace)("mon").id == first.id


async def test_another_notebook_does_not_resume_a_paused_job(workspace, notebook, settled, until):
    """It begins its own; the paused job stays as it is."""
    notebook("a.ipynb")
    paused = cell(WAITING).using(workspace)("mon")
    await until(lambda: paused.state == "running")
    paused.pause()
    await settled(paused, "paused")
    notebook("b.ipynb")
    other = cell(CELL).using(workspace)("mon")
    await other
    assert other.id != paused.id
    assert paused.state == "paused"
    assert "is gone" not in causes(other)


async def test_a_renamed_notebook_is_offered_the_job_of_its_old_path(
    workspace, notebook, settled, until
):
    """The new path's call is a new job; it says which number goes on with the old one."""
    old = notebook("old.ipynb")
    paused = cell(WAITING).using(workspace)("mon")
    await until(lambda: paused.state == "running")
    paused.pause()
    await settled(paused, "paused")
    old.rename(notebook("new.ipynb"))
    job = cell(WAITING).using(workspace)("mon")
    await until(lambda: job.remark != "")
    assert job.id != paused.id
    assert f"{old}, which is gone, and is unfinished: tw.resume({paused.id})" in job.remark
    assert job.remark in causes(job)
    job.terminate()
    await settled(job, "terminated")
    cell(CELL)
    resumed = workspace.resume(paused.id)
    assert (await resumed).result == "RESULT"


async def test_a_changed_function_goes_on_with_its_new_code_and_says_so(
    workspace, notebook, settled, until
):
    """The usual repair: the same notebook, the same call, another body."""
    notebook("a.ipynb")
    paused = cell(WAITING).using(workspace)("mon")
    await until(lambda: paused.state == "running")
    paused.pause()
    await settled(paused, "paused")
    job = cell(CELL).using(workspace)("mon")
    assert job.id == paused.id
    assert (await job).result == "RESULT"
    assert f"load has changed since job {job.id} began: the new code runs" in causes(job)


async def test_a_finished_function_that_changed_since_says_so(workspace, notebook):
    """It is not run again by itself; again() runs it."""
    notebook("a.ipynb")
    first = cell(CELL.replace("RESULT", "old")).using(workspace)("mon")
    await first
    changed = cell(CELL.replace("RESULT", "new")).using(workspace)
    found = changed("mon")
    assert found.id == first.id
    assert found.remark.endswith("The function has changed since; load.again(...) runs it")
    assert (await changed.again("mon")).result == "new"
    # Comments and blank lines are no change.
    commented = cell(CELL.replace("RESULT", "new").replace("    for", "    # why\n\n    for"))
    assert commented.using(workspace)("mon").remark.startswith("already done: job")
    assert "changed" not in commented.using(workspace)("mon").remark


def test_where_functions_are_defined(notebook, monkeypatch):
    """A notebook's path, a module's file, "" for an installed package or where no path is."""
    path = notebook("a.ipynb")
    assert defined_in(cell(CELL).__wrapped__) == str(path)
    assert defined_in(test_where_functions_are_defined) == __file__
    assert defined_in(pytest.raises) == ""
    monkeypatch.delenv(NOTEBOOK_VARIABLE)
    function = eval("lambda run: 1", {"__name__": "tests.nowhere"})
    assert defined_in(function) == ""
    assert code_hash(function) is None
    assert code_hash(len) is None
