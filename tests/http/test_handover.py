"""where="server": a job that a notebook hands to its server goes on without the notebook."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest
from fix_jupyter import SLOW, JupyterServer, Kernel

from taskwidgets import Workspace, download, upload
from taskwidgets.errors import NotebookServerError, OptionError
from taskwidgets.http.fields import DOWNLOAD, UPLOAD
from taskwidgets.notebook_server import NotebookServer
from taskwidgets.tabular.detection.overrides import OVERRIDES

CELL = """
import asyncio, taskwidgets as tw
job = tw.upload("data.csv", "{table}", where="server", types="text", workers=1, max_rate={rate})
print(job.id, job.state, job.owner.pid)
"""
UNTIL = """
async def until(*states):
    while str(job.state) not in states:
        await asyncio.sleep(0.05)
await until("{state}")
"""


@pytest.fixture
def kernel(server: JupyterServer) -> Iterator[Kernel]:
    """A kernel of a notebook in a folder below the root."""
    made = Kernel(server, "folder/book.ipynb")
    yield made
    made.shut_down()


def test_a_job_goes_on_while_its_kernel_is_restarted(
    server: JupyterServer, rows_file, kernel: Kernel, seen
):
    """The job runs in the server; a new kernel finds it, follows it in its panel, controls it.

    Slow: a kernel is started, and started again.
    """
    rows_file("folder/data.csv", 60_000)
    cell = CELL.format(table="handed", rate=SLOW / 2)
    number, state, owner = kernel.run(cell).split()
    job_id = int(number)
    assert (state, int(owner)) == ("running", server.process.pid)
    server.wait_for_rows(job_id)
    kernel.restart()
    rows = server.job(job_id)["progress"]["rows"]
    server.wait_for_rows(job_id, rows + 1)
    assert kernel.run(cell).split() == [number, "running", owner]  # the same cell attaches
    kernel.run("job")
    kernel.run("job.pause()" + UNTIL.format(state="paused"))
    assert server.job(job_id)["state"] == "paused"
    kernel.see("Paused")
    kernel.run("job.resume()" + UNTIL.format(state="running"))
    assert server.job(job_id)["owner"]["pid"] == server.process.pid  # resumed where it ran
    server.ok(server.post("upload/pause", {"job_id": job_id}))
    server.wait_for(job_id, "paused")
    server.ok(server.post("upload/resume", {"job_id": job_id, "max_rate": 1e9}))
    printed = kernel.run("receipt = await job; print(receipt.rows_loaded, job.state)")
    assert printed.split() == ["60000", "completed"]
    kernel.see(f"Job {job_id} completed: 60,000 rows")
    assert seen.one("SELECT count(*) FROM handed") == 60_000
    again = kernel.run(cell + "print(job.remark, (await job).rows_loaded)")
    assert again.splitlines()[-1] == f"already loaded: job {job_id} 60000"


def test_a_paused_job_is_resumed_in_the_server(
    server: JupyterServer, numbers_table, kernel: Kernel
):
    """A job that the kernel ran itself goes on in the server; a function stays where it is."""
    table = numbers_table("changes_places", 30_000)
    printed = kernel.run(
        f"""
import taskwidgets as tw
job = tw.download("{table}", "places.csv", workers=1, max_rate={SLOW})
job.pause()
job.join(None)
print(job.id, job.state, job.owner.pid)
job = tw.resume(job.id, where="server", max_rate=1e9)
print((await job).rows_loaded, job.owner.pid)

@tw.job
async def mine(run):
    raise ValueError("no")
try:
    await mine()
except tw.JobFailed as failed:
    try:
        tw.resume(failed.job_id, where="server")
    except ValueError as error:
        print(error)
"""
    ).splitlines()
    _, state, kernel_pid = printed[0].split()
    rows, server_pid = printed[1].split()
    assert (state, rows) == ("paused", "30000")
    assert int(server_pid) == server.process.pid != int(kernel_pid)
    assert "only a kernel has" in printed[2]
    assert len((server.root / "folder" / "places.csv").read_text().splitlines()) == 30_001


def test_a_job_goes_on_when_its_kernel_is_shut_down(server: JupyterServer, numbers_table):
    """An export that was handed over is finished by the server after the notebook is closed."""
    table = numbers_table("handed_export", 60_000)
    kernel = Kernel(server, "shut.ipynb")
    try:
        job_id = int(
            kernel.run(
                "import taskwidgets as tw\n"
                f'print(tw.download("{table}", "shut.csv", where="server", workers=1,'
                f" max_rate={SLOW / 2}).id)"
            )
        )
    finally:
        kernel.shut_down()
    assert server.job(job_id)["state"] == "running"
    server.ok(server.post("download/pause", {"job_id": job_id}))
    server.wait_for(job_id, "paused")
    server.ok(server.post("download/resume", {"job_id": job_id, "max_rate": 1e9}))
    done = server.wait_for(job_id, "completed")
    assert done["receipt"]["rows_loaded"] == 60_000
    assert len((server.root / "shut.csv").read_text().splitlines()) == 60_001


def test_what_cannot_be_handed_over_says_why(
    server: JupyterServer, rows_file, kernel: Kernel, database_url
):
    """A file outside, a wrong option, a table that exists, another database: each its own error."""
    rows_file("folder/data.csv", 5)
    outside = server.root.parent / "outside.csv"
    outside.write_text("a\n1\n")
    said = kernel.run(
        f"""
import taskwidgets as tw
from taskwidgets.errors import TaskwidgetsError
def attempt(*arguments, **options):
    try:
        tw.upload(*arguments, where="server", **options)
    except TaskwidgetsError as error:
        print(type(error).__name__, "|", error)
attempt({str(outside)!r}, "t")
attempt("none.csv", "t")
attempt("data.csv", "t", if_exists="maybe")
attempt("data.csv", "t", max_rate=float("nan"))
attempt("data.csv", "t", types={{"id": object()}})
await tw.upload("data.csv", "there", where="server")
attempt("data.csv", "there", types="text")
tw.connect({database_url!r})
attempt("data.csv", "t")
"""
    ).splitlines()
    kinds = [line.partition(" | ")[0] for line in said]
    assert kinds == [
        "OptionError", "SourceError", "OptionError", "OptionError", "OptionError", "TargetExists",
        "NotebookServerError",
    ], said  # fmt: skip
    assert "is not below the Jupyter server's root" in said[0]
    assert "if_exists" in said[2]
    assert "TASKWIDGETS_DATABASE_URL" in said[-1]


def test_a_script_has_no_server(workspace: Workspace, csv_file, monkeypatch):
    """In a plain process the error says that no server has started it; no other place exists."""
    monkeypatch.delenv("JPY_PARENT_PID", raising=False)  # the tests may be run in a notebook
    path = csv_file("a", "1")
    with pytest.raises(NotebookServerError, match="leave where out"):
        upload(path, "t", where="server", workspace=workspace)
    with pytest.raises(NotebookServerError, match="leave where out"):
        download("SELECT 1", path.with_name("x.csv"), where="server", workspace=workspace)
    with pytest.raises(OptionError, match="where"):
        upload(path, "t", where="moon", workspace=workspace)  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_server_that_does_not_fit_is_told(server: JupyterServer, served, database_url):
    """Without the extension, with another token, or gone: the error says which it is."""
    bare = served(database_url, "--ServerApp.jpserver_extensions={'taskwidgets': False}")

    def at(one: JupyterServer, token: str) -> NotebookServer:
        return NotebookServer(f"{one.url}/", f"{one.base}/", Path("/"), 1, token)

    with pytest.raises(NotebookServerError, match="does not have the extension"):
        at(bare, bare.token).request("GET", "status")
    bare.stop()
    with pytest.raises(NotebookServerError, match="does not answer"):
        at(bare, bare.token).request("GET", "status")
    with pytest.raises(NotebookServerError, match="does not let this kernel in"):
        at(server, "wrong").request("GET", "status")
    assert "secret" not in repr(at(server, "secret"))


def test_the_api_takes_what_the_functions_take():
    """Every argument of upload and download is a field of the API, and the other way round."""
    for function, fields, others in (
        (Workspace.upload, UPLOAD, OVERRIDES),
        (Workspace.download, DOWNLOAD, ()),
    ):
        arguments = {
            name
            for name, one in inspect.signature(function).parameters.items()
            if one.kind is not one.VAR_KEYWORD
        } - {"self", "storage_options", "client"}  # for URLs, and for a cluster of the kernel's
        assert set(fields.schemas) == arguments | set(others)
