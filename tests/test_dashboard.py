"""The dashboard without a front end: a table of text, a data frame, records, handles."""

import asyncio
import re

import pandas as pd
import pytest

from taskwidgets import Workspace
from taskwidgets.errors import JobFailed, JobNotFound, OptionError
from taskwidgets.runtime.states import State
from taskwidgets.widgets.dashboard import DashboardView

COLUMNS = [
    "id", "name", "kind", "state", "done", "total", "unit", "fraction", "rows", "owner", "since",
    "last_seen", "error", "created_at", "updated_at",
]  # fmt: skip


@pytest.fixture
def three(workspace, csv_file):
    """A completed job, a failed one, a paused one; by state."""
    made = {
        State.COMPLETED: workspace.upload(csv_file("a,b", "1,2", "3,4", name="good.csv"), "good"),
        State.FAILED: workspace.upload(
            csv_file("a", "1", "x", name="bad.csv"), "bad", types={"a": "integer"}
        ),
        State.PAUSED: workspace.upload(
            csv_file("a", *(str(number) for number in range(20_000)), name="slow.csv"),
            "slow",
            max_rate=1e3,
        ),
    }
    made[State.COMPLETED].wait(60)
    with pytest.raises(JobFailed, match="failed"):
        made[State.FAILED].wait(60)
    made[State.PAUSED].pause()
    made[State.PAUSED].join(60)
    assert {job.state for job in made.values()} == set(made)
    return made


def test_a_data_frame_has_one_row_a_job(workspace, three):
    """The newest job is in the first row; numbers, times and absent values have their types."""
    frame = workspace.jobs().to_dataframe()
    assert list(frame.columns) == COLUMNS
    assert list(frame["id"]) == [three[state].id for state in ("paused", "failed", "completed")]
    assert list(frame["state"]) == ["paused", "failed", "completed"]
    good = frame.iloc[2]
    assert (good["rows"], good["fraction"], good["unit"]) == (2, 1.0, "bytes")
    assert good["done"] == good["total"] == len("1,2\n3,4\n")
    assert pd.isna(good["error"])
    assert 'line 3, column "a": invalid input syntax for type integer' in frame.iloc[1]["error"]
    assert re.fullmatch(r"process \d+ on .+", good["owner"])
    for name in ("since", "last_seen", "created_at", "updated_at"):
        assert str(frame[name].dtype).endswith("UTC]")
        assert frame[name].notna().all()


def test_an_empty_data_frame_has_the_same_types(workspace, three):
    """No job gives the columns all the same, so that what follows does not break."""
    full, empty = workspace.jobs(), workspace.jobs("terminating")
    assert len(empty.to_dataframe()) == 0
    assert list(empty.to_dataframe().columns) == COLUMNS
    for name in ("id", "total", "fraction", "rows"):
        assert empty.to_dataframe()[name].dtype == full.to_dataframe()[name].dtype


def test_repr_is_a_table(workspace, three):
    """A first line says when; each job has a line under the headings."""
    lines = repr(workspace.jobs()).splitlines()
    assert re.fullmatch(r"3 jobs, as of [\d:]{8} UTC on [\d-]{10}", lines[0])
    assert lines[1].split() == ["job", "name", "kind", "state", "done", "rows", "owner"]
    assert len(lines) == 5
    assert re.search(r"good\.csv → good +upload +completed +100 % +2$", lines[4])
    assert len({line.index(word) for line, word in zip(
        lines[2:], ("paused", "failed", "completed"), strict=True)}) == 1  # fmt: skip


def test_repr_of_none_says_so(workspace):
    """An empty list is a sentence, with the filter in it."""
    assert repr(workspace.jobs()).startswith("no jobs, as of ")
    line = repr(workspace.jobs(["failed", "paused"], search="flights"))
    assert line.startswith("no jobs that were failed or paused with “flights”, as of ")


def test_repr_moves_no_cursor(workspace, csv_file):
    """Control characters in a file's name do not reach the terminal."""
    workspace.upload(csv_file("a", "1", name="x\x1b[2J\ny.csv"), "t").wait(60)
    lines = repr(workspace.jobs()).splitlines()
    assert len(lines) == 3
    assert "\x1b" not in lines[2]


@pytest.mark.parametrize(
    ("state", "found"),
    [(None, "pfc"), ("failed", "f"), (State.PAUSED, "p"), (["failed", "completed"], "fc"),
     ([], "")],
)  # fmt: skip
def test_a_state_or_several_choose(workspace, three, state, found):
    """state= takes a name or a list of names."""
    short = {"p": "paused", "f": "failed", "c": "completed"}
    assert [record.state for record in workspace.jobs(state)] == [short[one] for one in found]


def test_search_and_limit(workspace, three):
    """search= finds a text in a name; limit= keeps the newest."""
    assert [record.id for record in workspace.jobs(search=" GOOD ")] == [three["completed"].id]
    assert [record.id for record in workspace.jobs(limit=1)] == [three["paused"].id]


@pytest.mark.parametrize(
    "options", [{"state": "done"}, {"state": ["failed", 3]}, {"search": None}, {"limit": 0},
                {"limit": True}]
)  # fmt: skip
def test_what_makes_no_sense_is_refused(workspace, options):
    """An unknown state is an OptionError that names the known ones; a limit is one at least."""
    with pytest.raises(OptionError, match=next(iter(options))) as caught:
        workspace.jobs(**options)
    if "state" in options:
        assert all(state in str(caught.value) for state in State)


def test_open_gives_the_handle(workspace, another_workspace, three):
    """open() gives the very job of this process; another process's is found by its number."""
    job = three[State.PAUSED]
    assert workspace.jobs().open(job.id) is job
    assert another_workspace().jobs().open(job.id).id == job.id
    with pytest.raises(JobNotFound):
        workspace.jobs().open(10**9)


def test_a_database_that_is_away_is_said(workspace, monkeypatch):
    """repr() does not raise: it says what is wrong."""
    from taskwidgets.errors import ServerUnreachable

    dashboard = workspace.jobs()

    def away(**_):
        raise ServerUnreachable("nobody answers")

    monkeypatch.setattr(dashboard.source, "newest", away)
    assert repr(dashboard) == "<jobs: nobody answers>"


def test_the_function_uses_the_current_workspace(run_script, database_url, three):
    """tw.jobs() lists what other processes have made."""
    out, _ = run_script(
        """
        import sys
        import taskwidgets as tw
        tw.connect(sys.argv[1])
        print(tw.jobs("failed"))
        print(len(tw.jobs().to_dataframe()))
        """,
        database_url,
    )
    assert "bad.csv → bad" in out
    assert out.splitlines()[-1] == "3"


async def test_a_list_that_is_shown_says_that_the_database_went_away(private_server):
    """The rows stay, with a line that says what is wrong; they go on when the database is back."""
    workspace = Workspace(private_server.url())
    view = DashboardView(workspace.jobs())
    try:
        view.begin()
        assert "no jobs yet" in view._note.value
        private_server.stop("immediate")
        view._wake.set()
        await until(lambda: "does not answer" in view._fault.value)
        assert "no jobs yet" in view._note.value
        private_server.start()
        view._wake.set()
        await until(lambda: not view._fault.value)
    finally:
        view.root.close()
        view._wake.set()
        workspace.close()


async def until(condition):
    """Waits while the loop goes on; the suite's own guard ends what never comes."""
    while not condition():
        await asyncio.sleep(0.02)
