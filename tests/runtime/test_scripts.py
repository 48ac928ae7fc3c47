"""Jobs in plain scripts and under asyncio.run, each in a process of its own."""

import json
import sys

import pytest

PRELUDE = """
import asyncio, gc, sys, threading, time
import taskwidgets as tw
url, path = sys.argv[1:3]
"""


def test_three_lines_are_a_script(run_script, database_url, many_rows, look):
    """connect, upload and job.wait() load a file in a script without a loop, silently."""
    out, err = run_script(
        """
        import sys, taskwidgets as tw
        tw.connect(sys.argv[1])
        job = tw.upload(sys.argv[2], "t")
        print(job.wait().rows_loaded)
        """,
        database_url,
        str(many_rows(5000)),
    )
    assert (out, err) == ("5000\n", "")
    assert look.contents("t")[0] == 5000


def test_a_script_does_not_wait_for_what_it_does_not_use(run_script, database_url, many_rows):
    """Loading and exporting files takes no data frames and no widgets; rejects() does."""
    out, err = run_script(
        """
        import sys, taskwidgets as tw
        url, path, out = sys.argv[1:]
        tw.connect(url)
        job = tw.upload(path, "t")
        job.wait()
        tw.download("t", out).wait()
        print(sorted({"pandas", "pyarrow", "ipywidgets", "IPython"} & set(sys.modules)))
        print(len(job.rejects()), "pandas" in sys.modules)
        """,
        database_url,
        str(path := many_rows(2000)),
        str(path.with_name("out.csv")),
        fresh=True,
    )
    assert (out, err) == ("[]\n0 True\n", "")


def test_importing_starts_nothing():
    """import taskwidgets starts no thread and no server, and imports no widgets."""
    import subprocess

    from fix_scripts import environment

    code = """
import sys, threading
import psutil
before = threading.active_count()
import taskwidgets
assert "pandas" not in sys.modules and "sqlalchemy" not in sys.modules
assert taskwidgets.connect and taskwidgets.errors
assert threading.active_count() == before, threading.enumerate()
assert not psutil.Process().children(recursive=True)
loaded = {"ipywidgets", "IPython", "alembic", "psycopg2.extras"} & set(sys.modules)
assert "ipywidgets" not in loaded and "IPython" not in loaded, loaded
assert "taskwidgets.embedded.server" not in sys.modules
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, env=environment())


def test_the_runtime_needs_no_widgets_and_no_database():
    """taskwidgets.runtime imports where ipywidgets, IPython, SQLAlchemy, psycopg2 are not there."""
    import subprocess

    from fix_scripts import environment

    code = """
import sys, types, importlib.machinery, pathlib
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("ipywidgets", "IPython", "sqlalchemy", "psycopg2", "alembic"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Blocker())
import importlib.util
root = next(
    pathlib.Path(p, "taskwidgets") for p in sys.path if pathlib.Path(p, "taskwidgets").is_dir()
)
package = types.ModuleType("taskwidgets")   # without its front door, which imports all floors
package.__path__ = [str(root)]
sys.modules["taskwidgets"] = package
import importlib
for file in sorted((root / "runtime").glob("*.py")):
    importlib.import_module(f"taskwidgets.runtime.{file.stem}")
print("imported")
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True, text=True, env=environment(),
    )  # fmt: skip
    assert done.stdout == "imported\n", done.stderr


def test_awaiting_under_asyncio_run_twice_in_a_row(run_script, database_url, many_rows, look):
    """await job works in one asyncio.run and in the next."""
    out, err = run_script(
        PRELUDE
        + """
ws = tw.Workspace(url)
async def load(table):
    return (await ws.upload(path, table)).rows_loaded
print(asyncio.run(load("one")), asyncio.run(load("two")))
ws.close()
""",
        database_url,
        str(many_rows(3000)),
    )
    assert out == "3000 3000\n"
    assert err == ""
    assert look.contents("one") == look.contents("two")


def test_a_job_paused_in_one_loop_goes_on_in_another(run_script, database_url, many_rows, look):
    """A job begun in one asyncio.run, left paused, is resumed and awaited in the next."""
    out, err = run_script(
        PRELUDE
        + """
ws = tw.Workspace(url)
async def begin():
    job = ws.upload(path, "t", max_rate=2e5)
    while job.progress.rows == 0:
        await asyncio.sleep(0.01)
    job.pause()
    while job.state != "paused":
        await asyncio.sleep(0.01)
    return job
async def go_on(job):
    job.max_rate = None
    again = ws.upload(path, "t")
    assert again is job
    return (await job).rows_loaded
print(asyncio.run(go_on(asyncio.run(begin()))))
ws.close()
""",
        database_url,
        str(many_rows(12_000)),
    )
    assert (out, err) == ("12000\n", "")
    assert look.contents("t")[0] == 12_000


def test_a_cancelled_waiter_does_not_disturb_the_job(run_script, database_url, many_rows):
    """A task that awaits the job and is cancelled, even before its loop ends, leaves it alone."""
    out, err = run_script(
        PRELUDE
        + """
ws = tw.Workspace(url)
async def main():
    job = ws.upload(path, "t", max_rate=3e5)
    task = asyncio.create_task(asyncio.wait_for(job, 60))
    await asyncio.sleep(0.05)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        print("cancelled")
    assert job.state in ("pending", "running"), job.state
    return job
job = asyncio.run(main())
job.max_rate = None
print(job.wait().rows_loaded)
gc.collect()
ws.close()
""",
        database_url,
        str(many_rows(8_000)),
    )
    assert (out, err) == ("cancelled\n8000\n", "")


@pytest.mark.parametrize("waiting", ["nobody", "gave up", "lost its loop"])
def test_a_failure_that_nobody_waits_for_makes_no_noise(
    run_script, database_url, csv_file, waiting
):
    """No "exception was never retrieved" in any way of not awaiting a job that fails."""
    rows = [f"{number},x" for number in range(20_000)]
    path = csv_file("a,b", *rows, "bad,x")
    out, err = run_script(
        PRELUDE
        + """
waiting = sys.argv[3]
ws = tw.Workspace(url)
async def main():
    job = ws.upload(path, "t", types={"a": "integer"}, max_rate=1.5e5)
    if waiting != "nobody":
        try:
            await asyncio.wait_for(job, 0.1)
        except asyncio.TimeoutError:
            pass
    if waiting != "lost its loop":
        job.max_rate = None
        while job.state != "failed":
            await asyncio.sleep(0.01)
        job.join(None)
        await asyncio.sleep(0.05)
        gc.collect()
    return job
job = asyncio.run(main())
job.max_rate = None
while job.state != "failed":
    time.sleep(0.01)
job.join(None)
print(job.state, job.error.splitlines()[0].partition("line ")[2][:7])
ws.close()
del job
gc.collect()
""",
        database_url,
        str(path),
        waiting,
    )
    assert err == ""
    assert out == "failed 20,002,\n"


def test_waiting_with_a_timeout_gives_up_and_may_wait_again(run_script, database_url, many_rows):
    """wait(timeout) raises TimeoutError, leaves the job running, and a later wait() succeeds."""
    out, err = run_script(
        PRELUDE
        + """
tw.connect(url)
job = tw.upload(path, "t", max_rate=2e5)
try:
    job.wait(0.01)
except TimeoutError:
    print("timeout")
job.max_rate = None
print(job.wait().rows_loaded)
""",
        database_url,
        str(many_rows(8000)),
    )
    assert (out, err) == ("timeout\n8000\n", "")


def test_a_script_that_ends_pauses_its_jobs(run_script, database_url, many_rows, look):
    """A script that ends in the middle of a job leaves it paused, and says how to go on."""
    path = many_rows(20_000)
    code = (
        PRELUDE
        + """
tw.connect(url)
job = tw.upload(path, "t", max_rate=2e5)
while job.progress.rows == 0:
    time.sleep(0.01)
print(job.id)
"""
    )
    out, err = run_script(code, database_url, str(path))
    job_id = int(out)
    assert f"tw.resume({job_id})" in err
    assert "Traceback" not in err
    assert look.state(job_id) == "paused"
    out, err = run_script(
        PRELUDE + "tw.connect(url); print(tw.resume(int(path)).wait().rows_loaded)",
        database_url,
        str(job_id),
    )
    assert (out, err) == ("20000\n", "")


def test_the_first_call_connects_by_itself(run_script, database_url, csv_file, look):
    """upload() without connect() uses $TASKWIDGETS_DATABASE_URL."""
    out, err = run_script(
        "import sys, taskwidgets as tw; print(tw.upload(sys.argv[1], 't').wait().rows_loaded)",
        str(csv_file("a", "1")),
        TASKWIDGETS_DATABASE_URL=database_url,
    )
    assert (out, err) == ("1\n", "")
    assert look.rows("t") == [(1,)]


def test_after_close_the_next_call_connects_anew(run_script, database_url, csv_file):
    """connect() gives a living workspace then, and so does a call without one."""
    code = """
        import sys
        import taskwidgets as tw
        first = tw.connect(sys.argv[1])
        first.close()
        second = tw.connect(sys.argv[1])
        assert second is not first
        assert second is tw.connect(sys.argv[1])
        print(tw.upload(sys.argv[2], "t").wait().rows_loaded)
        second.close()
        print(tw.upload(sys.argv[2], "u").wait().rows_loaded)
    """
    out, err = run_script(
        code, database_url, str(csv_file("a", "1")), TASKWIDGETS_DATABASE_URL=database_url
    )
    assert (out, err) == ("1\n1\n", "")


def test_connecting_again_keeps_one_workspace(run_script, database_url, csv_file):
    """connect() with the same URL gives the same workspace back and leaves no connection open."""
    out, err = run_script(
        PRELUDE
        + """
import gc, psycopg2, json
first = tw.connect(url)
for _ in range(5):
    assert tw.connect(url) is first
gc.disable()
probe = psycopg2.connect(url)
with probe, probe.cursor() as cursor:
    cursor.execute("SELECT count(*) FROM pg_stat_activity"
                   " WHERE application_name LIKE 'taskwidgets%' AND datname = current_database()")
    print(json.dumps(cursor.fetchone()[0]))
probe.close()
""",
        database_url,
        str(csv_file("a", "1")),
    )
    assert err == ""
    assert json.loads(out) <= 2
