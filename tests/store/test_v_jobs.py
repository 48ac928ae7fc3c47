"""The view taskwidgets.v_jobs: what other programs read of the jobs."""

import re

import pytest
from fix_databases import new_database, run_sql
from fix_scripts import ROOT
from fix_servers import plain, wait_until

from taskwidgets import JobFailed, Workspace, job
from taskwidgets.store.access import member_grants

# A stable interface: a column is added at the end, none is renamed or taken away.
COLUMNS = {
    "id": "bigint", "kind": "text", "name": "text", "source": "text", "target": "text",
    "role": "text", "state": "text", "done": "bigint", "total": "bigint", "unit": "text",
    "rows": "bigint", "rejected": "bigint", "error": "text", "host": "text", "pid": "integer",
    "notebook": "text", "created_at": "timestamp with time zone",
    "started_at": "timestamp with time zone", "checkpoint_at": "timestamp with time zone",
    "updated_at": "timestamp with time zone", "rows_read": "bigint", "rows_loaded": "bigint",
    "rows_rejected": "bigint", "bytes": "bigint", "seconds": "double precision",
}  # fmt: skip


def test_the_columns_are_the_documented_ones(look):
    """Names, order and types; the how-to page has each of them."""
    assert look.types("taskwidgets", "v_jobs") == COLUMNS
    assert [*look.types("taskwidgets", "v_jobs")] == [*COLUMNS]
    page = (ROOT / "docs" / "how-to" / "shared-database.md").read_text()
    for column in COLUMNS:
        assert f"`{column}`" in page


def test_it_says_what_the_list_says(workspace, look, csv_file, many_rows, tmp_path):
    """State, progress, error and receipt of jobs in all kinds of states."""

    @job
    def three(run):
        for number in range(3):
            run.checkpoint({"at": number}, done=number + 1, total=5)
        raise RuntimeError("no more")

    workspace.upload(csv_file("a", "1", "2"), "done").wait(60)
    workspace.download("done", tmp_path / "t.csv").wait(60)
    with pytest.raises(JobFailed):
        three.using(workspace)().wait(60)
    rejecting = csv_file("a,b", "1,x", "bad,y", name="rejecting.csv")
    workspace.upload(rejecting, "r", on_error="reject", types={"a": "integer"}).wait(60)
    path = many_rows(3000)
    paused = workspace.upload(path, "paused", max_rate=5e4)
    wait_until(lambda: paused.progress.rows > 0)
    paused.pause()
    wait_until(lambda: paused.state == "paused")
    paused.join(60)
    gone = workspace.upload(path, "gone", max_rate=5e4)
    wait_until(lambda: gone.progress.rows > 0)
    gone.pause()
    gone.join(60)
    # As a process leaves it that is killed.
    look("ALTER TABLE taskwidgets.jobs DISABLE TRIGGER ALL")
    look("UPDATE taskwidgets.jobs SET state = 'running' WHERE id = %s", (gone.id,))
    look("ALTER TABLE taskwidgets.jobs ENABLE TRIGGER ALL")

    records = {record.id: record for record in workspace.jobs()}
    assert {str(record.state) for record in records.values()} == {
        "completed", "failed", "paused", "interrupted"
    }  # fmt: skip
    found = look(
        "SELECT id, kind, name, source, target, role, state, done, total, unit, rows, rejected,"
        " error, host, pid, checkpoint_at, rows_read, rows_loaded, rows_rejected, bytes"
        " FROM taskwidgets.v_jobs"
    )
    for row in found:
        record = records.pop(row[0])
        spec, progress, receipt = record.spec, record.progress, record.receipt
        counts = (None,) * 4
        if receipt is not None:
            counts = (
                receipt.rows_read, receipt.rows_loaded, receipt.rows_rejected, receipt.bytes
            )  # fmt: skip
        assert record.owner is not None
        assert row == (
            record.id, spec.kind, spec.name, spec.source, spec.target, "postgres", record.state,
            progress.done, progress.total, progress.unit, progress.rows, progress.rejected,
            (record.error or {}).get("message"), record.owner.host, record.owner.pid,
            record.checkpoint_at, *counts,
        )  # fmt: skip
    assert records == {}


def test_a_running_job_is_running(workspace, look, many_rows):
    """Its owner is alive, and the progress is that of the checkpoints."""
    work = workspace.upload(many_rows(3000), "t", max_rate=2e4)
    wait_until(lambda: work.progress.rows > 0)
    state = "SELECT state, rows FROM taskwidgets.v_jobs"
    wait_until(lambda: look(state)[0][0] == "running" and look(state)[0][1] > 0)
    work.terminate()
    wait_until(lambda: work.state == "terminated")
    assert look(state)[0][0] == "terminated"


@pytest.mark.parametrize("rights", ["as made", "of the owner"])
def test_every_server_version_keeps_the_roles_apart(version_url, csv_file, rights):
    """Before Postgres 15 a view has the rights of its owner: there its own condition does it."""
    with new_database(version_url) as url:
        made = Workspace(url)
        made.upload(csv_file("a", "1"), "t").wait(60)
        if rights == "of the owner":  # as on Postgres 14
            run_sql(url, "ALTER VIEW taskwidgets.v_jobs RESET (security_invoker)")
        member = run_sql(url, "SELECT current_database() || '_member'")[0][0]
        run_sql(url, f"CREATE ROLE {member} LOGIN")
        for statement in member_grants(member):
            run_sql(url, statement)
        own = re.sub("//[^@]*@", f"//{member}@", plain(url))
        try:
            for table in ("jobs", "v_jobs", "events", "loaded_contents"):
                assert run_sql(own, f"SELECT * FROM taskwidgets.{table}") == [], table
                assert len(run_sql(url, f"SELECT * FROM taskwidgets.{table}")) > 0
            run_sql(
                own,
                "INSERT INTO taskwidgets.jobs (key, kind, name, source, target, options, plan)"
                " VALUES ('k', 'upload', 'n', 's', 't', '{}', '{}')",
            )
            assert run_sql(own, "SELECT role FROM taskwidgets.v_jobs") == [(member,)]
            assert len(run_sql(url, "SELECT id FROM taskwidgets.v_jobs")) == 2
            # A function of the caller does not see the rows of others on their way.
            run_sql(
                own,
                "CREATE FUNCTION pg_temp.told(text) RETURNS boolean LANGUAGE plpgsql COST 0.0001"
                " AS $$BEGIN IF $1 <> 'n' THEN RAISE 'seen: %', $1; END IF; RETURN true; END$$;"
                " SELECT FROM taskwidgets.v_jobs WHERE pg_temp.told(name)",
            )
        finally:
            made.close()
            run_sql(url, f"DROP OWNED BY {member} CASCADE")
            run_sql(url, f"DROP ROLE {member}")
