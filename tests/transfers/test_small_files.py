"""Many small files: loaded together, as exactly as one at a time; their plan is small."""

import json

import pytest
from fix_servers import wait_until

from taskwidgets import JobFailed
from taskwidgets.runtime import failpoints
from taskwidgets.tabular.source import Fingerprint
from taskwidgets.transfers import many
from taskwidgets.transfers.part_list import PartList
from taskwidgets.transfers.upload_plan import UploadPlan

FILES = 230
ROWS = 3


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "data"
    made.mkdir()
    for number in range(FILES):
        rows = "".join(f"{number},{row},x{number}\n" for row in range(ROWS))
        (made / f"part-{number}.csv").write_text("n,r,t\n" + rows)
    return made


def everything(look, table="t"):
    return look(f"SELECT count(*), count(DISTINCT (n, r)), sum(n::numeric) FROM {table}")


ALL = [(FILES * ROWS, FILES * ROWS, ROWS * sum(range(FILES)))]


@pytest.fixture
def together(monkeypatch):
    """The batches of small files that were loaded by one COPY, by the number of their files."""
    sizes = []
    carry = many._Parts._carry_together

    def watched(parts, tool, batch):
        done = carry(parts, tool, batch)
        sizes.append((len(batch.numbers), done))
        return done

    monkeypatch.setattr(many._Parts, "_carry_together", watched)
    return sizes


def test_small_files_are_loaded_together(workspace, look, folder, together):
    """One COPY for many files; each has its checkpoint, its content and its note."""
    (folder / "part-7.csv").write_text("n,r,t\n7,0,x7\n7,1,x7\n7,2,x7")  # no newline at its end
    job = workspace.upload(folder / "part-*.csv", "t")
    receipt = job.wait()
    assert everything(look) == ALL
    assert together
    assert sum(size for size, done in together if done) == FILES
    assert receipt.rows_read == receipt.rows_loaded == FILES * ROWS
    assert receipt.notes[:2] == ("part-0.csv: 3 rows", "part-1.csv: 3 rows")
    assert look("SELECT count(*), sum(rows) FROM taskwidgets.checkpoints") == [
        (FILES, FILES * ROWS)
    ]
    assert look("SELECT count(*), sum(rows) FROM taskwidgets.loaded_contents") == [
        (FILES, FILES * ROWS)
    ]
    assert workspace.upload(folder / "part-*.csv", "t") is job


def test_the_same_plan_for_each_of_them(workspace, look, folder, monkeypatch):
    """What is found out of a file quickly is what is found out closely."""
    quick = workspace.upload(folder / "part-*.csv", "t")
    quick.wait()
    from taskwidgets.transfers import many_plan

    monkeypatch.setattr(many_plan._SmallFiles, "read", lambda *_, **__: None)
    closely = workspace.upload(folder / "part-*.csv", "u")
    closely.wait()
    plans = [
        UploadPlan.from_json(workspace._store.record(job.id).spec.plan) for job in (quick, closely)
    ]
    assert list(plans[0].parts) == list(plans[1].parts)
    assert plans[0].types == plans[1].types
    assert len(plans[0].parts) == FILES


def test_a_bad_row_names_its_file(workspace, look, folder, together):
    """COPY refuses the batch; then each file is loaded alone, and the one with the row is named."""
    bad = folder / "part-100.csv"
    bad.write_text("n,r,t\n100,0,x100\n100,1\n100,2,x100\n")
    job = workspace.upload(folder / "part-*.csv", "t")
    with pytest.raises(JobFailed, match=rf"{bad}, line 3") as caught:
        job.wait()
    assert caught.value.line == 3
    assert (100 in {size for size, _ in together}) or not all(done for _, done in together)
    bad.write_text("n,r,t\n100,0,x100\n100,1,x\n100,2,x100\n")
    workspace.upload(folder / "part-*.csv", "t").wait()
    assert everything(look) == ALL


@pytest.mark.parametrize("value", ["2.5", "99999999999", "word"])
def test_a_value_of_a_wider_type(workspace, look, folder, value, monkeypatch):
    """A value that was not sampled widens its column; no row is lost or doubled."""
    from taskwidgets.transfers import many_plan

    monkeypatch.setattr(many_plan, "SAMPLE_BYTES", 1000)
    monkeypatch.setattr(many_plan, "LEAST_SAMPLE", 100)
    with (folder / "part-222.csv").open("a") as file:
        file.write(f"0,{value},late\n")
    job = workspace.upload(folder / "part-*.csv", "t")
    job.wait()
    assert look("SELECT count(*), count(DISTINCT (n, r)) FROM t") == [(FILES * ROWS + 1,) * 2]
    assert look(f"SELECT t FROM t WHERE r::text = '{value}'") == [("late",)]
    assert "widened" in set(job.events()["kind"])


def test_pause_and_resume_in_the_middle(workspace, look, folder, monkeypatch):
    """What is committed is not loaded again, and the rest is."""
    monkeypatch.setattr(many, "MOST_SMALL", 20)
    job = workspace.upload(folder / "part-*.csv", "t", workers=1, max_rate=2000)
    wait_until(lambda: 0 < job.progress.rows < FILES * ROWS)
    job.pause()
    wait_until(lambda: job.state == "paused")
    done = look.one("SELECT sum(rows) FROM taskwidgets.checkpoints")
    assert 0 < done < FILES * ROWS
    job.resume()
    job.max_rate = None
    job.wait()
    assert everything(look) == ALL


def test_a_commit_whose_reply_is_lost(workspace, look, folder, monkeypatch):
    """The batch is found in the ledger, and is not loaded twice."""
    import psycopg2

    monkeypatch.setattr(many, "MOST_SMALL", 50)
    lost = []

    def lose(point):
        if point == "after the checkpoint" and len(lost) < 2:
            lost.append(point)
            raise psycopg2.OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(many, "reach", lose)
    assert failpoints
    workspace.upload(folder / "part-*.csv", "t", workers=2).wait()
    assert len(lost) == 2
    assert everything(look) == ALL


@pytest.mark.parametrize("option", [{"on_error": "reject"}, {"source_column": True}])
def test_other_ways_are_as_before(workspace, look, folder, option):
    """With rejects, or a column of the file's name, each file is loaded alone."""
    workspace.upload(folder / "part-*.csv", "t", **option).wait()
    assert everything(look) == ALL


def test_files_of_several_kinds(workspace, look, folder):
    """Other columns' order, CR LF, quotes over lines and empty files among them."""
    (folder / "part-3.csv").write_text("r,t,n\n0,x3,3\n1,x3,3\n2,x3,3\n")
    (folder / "part-4.csv").write_bytes(b"n,r,t\r\n4,0,x4\r\n4,1,x4\r\n4,2,x4")
    (folder / "part-5.csv").write_text('n,r,t\n5,0,"x\n5"\n5,1,x5\n5,2,x5\n')
    (folder / "part-6.csv").write_text("n,r,t\n")
    workspace.upload(folder / "part-*.csv", "t").wait()
    rows = (FILES - 1) * ROWS
    assert everything(look) == [(rows, rows, ROWS * (sum(range(FILES)) - 6))]
    assert look("SELECT t FROM t WHERE n = 5 AND r = 0") == [("x\n5",)]


def test_a_file_that_changes_between_plan_and_load(workspace, folder, monkeypatch):
    """A longer file is no row of the table: the job stops, saying which file was changed."""
    from taskwidgets.transfers import mending

    check = mending.check_parts

    def change(store, run, plan):
        found = check(store, run, plan)
        with (folder / "part-50.csv").open("a") as file:
            file.write("50,9,late\n")
        return found

    monkeypatch.setattr(many, "check_parts", change)
    with pytest.raises(JobFailed, match=r"part-50.csv.* was changed while it was loaded"):
        workspace.upload(folder / "part-*.csv", "t").wait()


def test_the_plan_of_many_files_is_small(workspace, folder):
    """Less than 100 bytes a file; it makes the same files again, as does an earlier release's."""
    job = workspace.upload(folder / "part-*.csv", "t")
    job.wait()
    stored = workspace._store.record(job.id).spec.plan
    parts = PartList.from_json(stored["parts"])
    assert len(json.dumps(stored["parts"])) < 100 * FILES
    as_list = [part.to_json() for part in parts]
    assert list(PartList.from_json(as_list)) == list(parts)
    assert [part.fingerprint for part in parts] == [
        Fingerprint.of(folder / f"part-{number}.csv") for number in range(FILES)
    ]
    (folder / "part-9.csv").write_text("n,r,t\n9,0,y9\n")
    assert parts[9].fingerprint != Fingerprint.of(folder / "part-9.csv")


def test_a_list_of_many_paths_is_stored_once(workspace, look, folder):
    """Neither the options nor the key's source hold a hundred thousand paths."""
    paths = [folder / f"part-{number}.csv" for number in range(FILES)]
    made = folder / ("deep" * 50)
    made.mkdir()
    long = []
    for number, path in enumerate(paths):
        long.append(path.rename(made / f"{'long' * 20}-{number}.csv"))
    job = workspace.upload(long, "t")
    job.wait()
    assert everything(look) == ALL
    sizes = look(
        "SELECT length(options::text), length(plan ->> 'source_key') FROM taskwidgets.jobs"
    )
    assert all(size < 1000 for size in sizes[0])
    assert workspace.upload(long, "t") is job


def test_whoever_lost_the_job_commits_nothing(workspace, look, folder, monkeypatch):
    """The rows and the checkpoints of a batch are refused once another claim has the job."""
    from taskwidgets.store import checkpoints

    record = checkpoints.record_many

    def late(connection, claim, made):
        with workspace.database.begin() as other:
            other.exec_driver_sql("UPDATE taskwidgets.jobs SET epoch = epoch + 1")
        return record(connection, claim, made)

    monkeypatch.setattr(many.checkpoints, "record_many", late)
    job = workspace.upload(folder / "part-*.csv", "t", workers=1)
    wait_until(lambda: not job.runs_here)
    assert look.one("SELECT count(*) FROM taskwidgets.checkpoints") == 0
    staged = f"SELECT count(*) FROM taskwidgets.taskwidgets_staging_{job.id}"
    assert look.one(staged) == 0
