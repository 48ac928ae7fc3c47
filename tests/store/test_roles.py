"""Several roles share the schema: who sees and changes which jobs."""

from datetime import timedelta

import psycopg2
import pytest
from fix_scripts import ROOT
from fix_servers import wait_until

from taskwidgets import JobFailed
from taskwidgets.cli.checks import all_checks
from taskwidgets.errors import (
    DatabaseError,
    JobNotFound,
    JobOfOtherRole,
    RightsMissing,
    TaskwidgetsError,
)
from taskwidgets.store.access import role_grants

CHILDREN = ["checkpoints", "events", "loaded_contents", "rejects", "requests", "run_states"]


def paused_upload(workspace, path, table="t", **options):
    """An upload that is paused when some of its rows are in."""
    job = workspace.upload(path, table, max_rate=5e4, **options)
    wait_until(lambda: job.progress.rows > 0 or job.error)
    job.pause()
    wait_until(lambda: job.state == "paused")
    job.join(60)
    job.max_rate = None
    return job


@pytest.fixture
def victim(role):
    return role("victim")


@pytest.fixture
def attacker(role):
    return role("attacker", grants_all=True)


# ---------------------------------------------------------------------- two roles


def test_a_role_works_with_the_grants_of_the_documentation(victim, csv_file, tmp_path, look):
    """Upload with rejects, replay, download of a table and of a query, listing, prune."""
    workspace = victim.workspace()
    job = workspace.upload(
        csv_file("a,b", "1,x", "bad,y", "3,z"), "t", on_error="reject", types={"a": "integer"}
    )
    assert job.wait(60).rows_rejected == 1
    frame = job.rejects()
    frame["raw"] = ["2,y"]
    assert job.replay(frame).rows_loaded == 3
    assert workspace.download("t", tmp_path / "t.csv").wait(60).rows_loaded == 3
    workspace.download("SELECT a FROM t", tmp_path / "q.csv").wait(60)
    assert [record.role for record in workspace.jobs()] == [victim.name] * 3
    assert workspace.prune(timedelta(0)) == 3
    assert look.one("SELECT count(*) FROM taskwidgets.jobs") == 0


def test_roles_see_their_own_jobs_only(victim, attacker, many_rows):
    """Whatever is granted on the tables; neither by the package nor by SQL."""
    job = paused_upload(victim.workspace(), many_rows(3000))
    other = attacker.workspace()
    assert other.jobs().to_dataframe().empty
    for act in (other.job, other.resume):
        with pytest.raises(JobNotFound):
            act(job.id)
    for table in ["jobs", "v_jobs", *CHILDREN]:
        assert attacker(f"SELECT * FROM taskwidgets.{table}") == [], table
    assert len(victim("SELECT * FROM taskwidgets.v_jobs")) == 1


def test_a_role_changes_nothing_of_anothers_jobs(victim, attacker, many_rows, look):
    """With GRANT ALL: no row is changed or deleted, and none is put in for a job of another."""
    job = paused_upload(victim.workspace(), many_rows(3000))
    for table, change in {
        "jobs": "plan = '{}', options = '{}', epoch = epoch + 1, owner_role = CURRENT_USER",
        "checkpoints": "rows = rows + 1", "events": "cause = 'x'", "requests": "answer = 'x'",
    }.items():  # fmt: skip
        assert attacker.changed(f"UPDATE taskwidgets.{table} SET {change}") == 0
        assert attacker.changed(f"DELETE FROM taskwidgets.{table}") == 0
    for statement in (
        "INSERT INTO taskwidgets.events (job_id, kind, owner, cause) VALUES (%s, 'x', 'x', 'x')",
        "INSERT INTO taskwidgets.checkpoints (job_id, from_byte, to_byte, rows, crc32)"
        " VALUES (%s, 9000000, 9000001, 1, 0)",
        "INSERT INTO taskwidgets.rejects (job_id, line, byte_offset, raw, message)"
        " VALUES (%s, 1, 1, 'x', 'x')",
        "INSERT INTO taskwidgets.run_states (job_id, serial, state, progress)"
        " VALUES (%s, 1, '{}', '{}')",
        "INSERT INTO taskwidgets.requests (id, job_id, verb, cause, asked_by)"
        " VALUES (gen_random_uuid(), %s, 'terminate', 'x', 'x')",
        "INSERT INTO taskwidgets.loaded_contents (job_id, table_oid, table_name, xid, made_table,"
        " source, bytes, crc32, rows) VALUES (%s, 1, 't', 1, true, 'x', 1, 1, 1)",
    ):
        with pytest.raises(psycopg2.errors.InsufficientPrivilege, match="row-level security"):
            attacker(statement, (job.id,))
    for table in ("settings", "transitions", "alembic_version"):
        assert attacker.changed(f"DELETE FROM taskwidgets.{table}") == 0
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        attacker(f"SELECT * FROM taskwidgets.{look.staging()[0]}")
    job.resume()
    assert job.wait(60).rows_loaded == 3000


def test_every_table_has_row_security(look):
    """A table that is added gets policies, too."""
    found = look(
        "SELECT relname FROM pg_class WHERE relnamespace = 'taskwidgets'::regnamespace"
        " AND relkind = 'r' AND NOT relrowsecurity"
    )
    assert found == []


def test_nobody_makes_jobs_in_the_name_of_another_role(victim, attacker):
    """The column owner_role takes the roles of the caller only, at INSERT and at UPDATE."""
    insert = (
        "INSERT INTO taskwidgets.jobs (key, kind, name, source, target, options, plan, owner_role)"
        " VALUES ('k', 'upload', 'n', 's', 't', '{}', '{}', %s) RETURNING id"
    )
    for name in (victim.name, "postgres", None):
        with pytest.raises(psycopg2.errors.InsufficientPrivilege, match="row-level security"):
            attacker(insert, (name,))
    assert attacker(insert, (attacker.name,))
    with pytest.raises(psycopg2.errors.InsufficientPrivilege, match="row-level security"):
        attacker("UPDATE taskwidgets.jobs SET owner_role = %s", (victim.name,))


def test_the_same_call_of_a_role_that_sees_nothing_of_it_is_told(victim, attacker, many_rows):
    """The jobs' keys are unique for all roles: a second load into the same table is refused."""
    path = many_rows(3000)
    job = paused_upload(victim.workspace(), path)
    with pytest.raises(JobOfOtherRole, match="another role, whose jobs this role may not see"):
        attacker.workspace().upload(path, "t")
    assert job.state == "paused"


def test_default_privileges_show_no_staging_table(victim, attacker, many_rows, look):
    """They are taken from the staging table, and apply to the table that comes of it."""
    victim(f"ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO {attacker.name}")
    job = paused_upload(victim.workspace(), many_rows(3000))
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        attacker(f"SELECT * FROM taskwidgets.{look.staging()[0]}")
    job.resume()
    job.wait(60)
    assert attacker("SELECT count(*) FROM t") == [(3000,)]


def test_rejects_are_read_by_those_who_may_read_the_target(victim, role, csv_file):
    """Not by others; nor where the target has row security, which a reject cannot follow."""
    reader = role("reader")
    path = csv_file("a,b", "1,x", "bad,y")
    victim.workspace().upload(path, "t", on_error="reject", types={"a": "integer"}).wait(60)
    read = "SELECT raw FROM taskwidgets.rejects"
    assert reader(read) == []
    victim(f"GRANT SELECT ON t TO {reader.name}")
    assert reader(read) == [("bad,y",)]
    assert reader.changed("UPDATE taskwidgets.rejects SET raw = 'x'") == 0
    victim("ALTER TABLE t ENABLE ROW LEVEL SECURITY")
    assert reader(read) == []
    assert victim(read) == [("bad,y",)]


def test_an_append_is_not_doubled_by_another_role(victim, role, csv_file):
    """Which contents a table has is known to every role that may read the table."""
    other = role("other")
    path = csv_file("a", "1", "2")
    victim.workspace().upload(path, "t", if_exists="append").wait(60)
    victim(f"GRANT SELECT, INSERT ON t TO {other.name}")
    with pytest.raises(JobFailed, match="has the same content as"):
        other.workspace().upload(path, "t", if_exists="append").wait(60)
    assert victim("SELECT count(*) FROM t") == [(2,)]


# ---------------------------------------------------------------------- roles for all jobs


def test_a_viewer_sees_all_jobs_and_changes_none(victim, role, shared_roles, many_rows, look):
    """Members of taskwidgets_viewer have the list, the events and v_jobs, but no reject."""
    job = paused_upload(victim.workspace(), many_rows(3000))
    viewer = role("viewer", shares=False)
    look(f"GRANT taskwidgets_viewer TO {viewer.name}")
    workspace = viewer.workspace()
    ((shown,),) = [tuple(workspace.jobs())]
    assert (shown.id, shown.state, shown.role) == (job.id, "paused", victim.name)
    assert shown.progress.rows == job.progress.rows
    assert not workspace.job(job.id).events().empty
    assert viewer("SELECT role FROM taskwidgets.v_jobs") == [(victim.name,)]
    for statement in (
        "UPDATE taskwidgets.jobs SET plan = '{}'", "DELETE FROM taskwidgets.jobs",
        "SELECT * FROM taskwidgets.rejects", "SELECT * FROM taskwidgets.settings",
        "SELECT state FROM taskwidgets.run_states",
    ):  # fmt: skip
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            viewer(statement)
    handle = workspace.job(job.id)
    handle.terminate()
    wait_until(lambda: not handle.runs_here)
    assert "permission denied" in handle.error
    assert look.state(job.id) == "paused"


def test_an_operator_pauses_what_another_role_runs(victim, role, shared_roles, many_rows, look):
    """By a request, as from any other process; to run or change the job it has no right."""
    job = victim.workspace().upload(many_rows(3000), "t", max_rate=2e4)
    wait_until(lambda: job.progress.rows > 0)
    operator = role("operator", shares=False)
    look(f"GRANT taskwidgets_operator TO {operator.name}")
    workspace = operator.workspace()
    workspace.job(job.id).pause("enough")
    wait_until(lambda: job.state == "paused")
    job.join(60)
    assert "enough" in " ".join(job.events()["cause"])
    with pytest.raises(JobOfOtherRole):
        workspace.resume(job.id)
    taken = workspace.resume(job.id, take_over=True)
    with pytest.raises(TaskwidgetsError, match="permission denied"):
        taken.wait(60)
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        operator("UPDATE taskwidgets.jobs SET plan = '{}'")
    assert look.state(job.id) == "paused"


def test_the_documentation_has_the_same_grants():
    """The page has each statement as doctor prints it."""
    words = " ".join((ROOT / "docs" / "how-to" / "shared-database.md").read_text().split())
    for statement in role_grants():
        assert f"{statement};" in words


def test_what_doctor_prints_makes_the_roles(victim, role, database_url, look):
    """Each statement runs as it is printed; afterwards a member has jobs of its own."""
    (check,) = [one for one in all_checks(database_url) if one.name == "roles"]
    statements = [line.removesuffix(";") for line in check.advice.splitlines() if line]
    assert statements
    try:
        for statement in statements:
            look(statement)
        member = role("member", shares=False)
        look(f"GRANT taskwidgets_owner TO {member.name}")
        assert member.workspace().jobs().to_dataframe().empty
    finally:
        for name in ("operator", "viewer", "owner"):
            look(f"DROP OWNED BY taskwidgets_{name}")
            look(f"DROP ROLE taskwidgets_{name}")


# ---------------------------------------------------------------------- taking a job over


def test_a_job_of_another_role_is_shown_before_it_is_run(victim, workspace, look, tmp_path):
    """resume() and the same call refuse, with what would run; take_over=True runs it."""
    victim("CREATE TABLE t AS SELECT generate_series(1, 5000) AS a")
    call = ("SELECT a, 'theirs' AS whose FROM t", tmp_path / "t.csv")
    own = victim.workspace()
    job = own.download(*call, max_rate=2e3)
    wait_until(lambda: job.progress.rows > 0 or job.error)
    job.pause()
    wait_until(lambda: job.state == "paused")
    job.join(60)
    own.close()
    for act in (lambda: workspace.resume(job.id), lambda: workspace.download(*call)):
        with pytest.raises(JobOfOtherRole) as caught:
            act()
        shown = str(caught.value)
        assert victim.name in shown
        assert "SELECT a, 'theirs' AS whose FROM t" in shown
        assert str(tmp_path / "t.csv") in shown
        assert f"tw.resume({job.id}, take_over=True)" in shown
    handle = workspace.job(job.id)
    handle.resume()
    wait_until(lambda: not handle.runs_here)
    assert "take_over=True" in handle.error
    assert look.state(job.id) == "paused"
    taken = workspace.resume(job.id, take_over=True)
    assert taken.wait(60).rows_loaded == 5000
    assert look("SELECT state, owner_role FROM taskwidgets.jobs") == [("completed", "postgres")]


def test_a_load_that_is_taken_over_keeps_its_rows(victim, workspace, many_rows, look):
    """The staging table becomes the new role's, and its old owner cannot reach it any more."""
    own = victim.workspace()
    job = paused_upload(own, many_rows(3000))
    own.close()
    taken = workspace.resume(job.id, take_over=True)
    assert taken.wait(60).rows_loaded == 3000
    assert (
        look.one("SELECT relowner::regrole::text FROM pg_class WHERE relname = 't'") == "postgres"
    )
    assert victim("SELECT * FROM taskwidgets.jobs") == []


def test_a_member_of_the_role_takes_its_job_over(victim, role, many_rows, look):
    """GRANT victim TO member: the member sees the job, and has to say that it wants it."""
    member = role("member")
    look(f"GRANT {victim.name} TO {member.name}")
    path = many_rows(3000)
    own = victim.workspace()
    job = paused_upload(own, path)
    own.close()
    workspace = member.workspace()
    assert [record.id for record in workspace.jobs()] == [job.id]
    with pytest.raises(JobOfOtherRole, match=str(path)):
        workspace.resume(job.id)
    assert workspace.resume(job.id, take_over=True).wait(60).rows_loaded == 3000


def test_a_job_without_a_role_is_somebodys_after_it_is_taken_up(victim, role, many_rows, look):
    """One that an earlier release recorded: all see it, and whoever wants it says so."""
    own = victim.workspace()
    job = paused_upload(own, many_rows(3000))
    own.close()
    look("UPDATE taskwidgets.jobs SET owner_role = NULL")
    assert len(role("other")("SELECT * FROM taskwidgets.jobs")) == 1
    workspace = victim.workspace()
    with pytest.raises(JobOfOtherRole, match="recorded by an earlier release"):
        workspace.resume(job.id)
    assert workspace.resume(job.id, take_over=True).wait(60).rows_loaded == 3000
    assert look.one("SELECT owner_role FROM taskwidgets.jobs") == victim.name


# ---------------------------------------------------------------------- code of others


def test_a_trigger_of_another_role_is_refused(victim, attacker, many_rows, look):
    """Who has the privilege TRIGGER could run code with the rights of all: connect() says so."""
    job = paused_upload(victim.workspace(), many_rows(3000))
    attacker("CREATE TABLE ran (who text)")
    attacker("GRANT ALL ON ran TO PUBLIC")
    attacker(
        "CREATE FUNCTION public.evil() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN INSERT INTO public.ran VALUES (CURRENT_USER); RETURN NEW; END'"
    )
    look(f"GRANT TRIGGER ON taskwidgets.jobs TO {attacker.name}")
    attacker(
        "CREATE TRIGGER evil BEFORE UPDATE ON taskwidgets.jobs FOR EACH ROW"
        " EXECUTE FUNCTION public.evil()"
    )
    job.resume()
    wait_until(lambda: not job.runs_here)
    assert "a trigger that is not its own (evil on taskwidgets.jobs" in job.error
    with pytest.raises(DatabaseError, match=r"evil on taskwidgets\.jobs"):
        victim.workspace()
    assert attacker("SELECT * FROM ran") == []
    checks = [one for one in all_checks(victim.url) if one.name == "grants"]
    assert [check.status for check in checks] == ["fail", "warn"]
    assert attacker.name in checks[1].text
    look("DROP TRIGGER evil ON taskwidgets.jobs")
    job.resume()
    assert job.wait(60).rows_loaded == 3000


def test_the_transition_trigger_has_a_path_of_its_own(look):
    """So no operator or function of another schema is called in it."""
    found = look(
        "SELECT proname, proconfig FROM pg_proc WHERE pronamespace = 'taskwidgets'::regnamespace"
    )
    assert len(found) == 4
    for name, config in found:
        assert config == ["search_path=pg_catalog, pg_temp"], name


def test_an_older_schema_is_brought_up_by_its_owner_only(victim, look):
    """A role with all grants is told which role has to connect once."""
    look("UPDATE taskwidgets.alembic_version SET version_num = '0006'")
    look("DROP VIEW taskwidgets.v_jobs")
    with pytest.raises(RightsMissing, match=r"run tw.connect\(\) once as the role postgres"):
        victim.workspace()
