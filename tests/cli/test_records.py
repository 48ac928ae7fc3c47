"""jobs, show, rejects and prune; lab and demo; and what doctor finds."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys

import pytest
from fix_databases import run_sql
from fix_scripts import environment
from fix_servers import plain

from taskwidgets import JobFailed
from taskwidgets.cli.checks import all_checks
from taskwidgets.cli.output import in_terminal
from taskwidgets.tabular import boundaries
from taskwidgets.transfers import binary_copy, csv_rows


@pytest.fixture
def two(workspace, csv_file):
    """A completed job with a reject, and a failed one."""
    path = csv_file("a,b", "1,2", 'x,"c\nd"', "3,4", name="good.csv")
    workspace.upload(path, "t", on_error="reject", types={"a": "integer"}).wait()
    path = csv_file("a", "x", name="bad.csv")
    with pytest.raises(JobFailed):
        workspace.upload(path, "u", types={"a": "integer"}).wait()


def test_jobs(run, run_json, two):
    """The list as a table and as JSON, filtered and searched; an empty one is a list, too."""
    code, out, err = run("jobs")
    assert (code, err) == (0, "")
    assert re.search(r"1 +good\.csv → t +upload +completed", out)
    assert re.search(r"2 +bad\.csv → u +upload +failed", out)
    assert [job["job"] for job in run_json("jobs")] == [2, 1]
    (failed,) = run_json("jobs", "failed", "paused", "--search", "BAD")
    assert failed["state"] == "failed"
    assert "line 2" in failed["error"]
    assert failed["owner"]["pid"] > 0
    assert len(run_json("jobs", "--limit", 1)) == 1


def test_show(run, run_json, two):
    """One job with its receipt or error, its last events, and how to go on."""
    code, out, err = run("show", 1)
    assert (code, err) == (0, "")
    assert re.search(r"^rows +3 read, 2 loaded, 1 rejected$", out, re.M)
    assert re.search(r"^sha256 +\w{64}$", out, re.M)
    assert "→ running" in out
    assert re.search(r"^to go on +taskwidgets resume 2$", run("show", 2)[1], re.M)
    document = run_json("show", 2, "--events", 1)
    assert [event["to_state"] for event in document["events"]] == ["failed"]
    assert document["receipt"] is None


def test_rejects(run, run_json, two, tmp_path):
    """Listed in words, as JSON, and whole into a file, which is not overwritten unasked."""
    code, out, _ = run("rejects", 1)
    assert code == 0
    assert re.search(r"^line 3, column a: .*\n    x,\"c\N{REPLACEMENT CHARACTER}d\"$", out, re.M)
    (reject,) = run_json("rejects", 1)["rejects"]
    assert (reject["line"], reject["column"], reject["raw"]) == (3, "a", 'x,"c\nd"')
    assert reject["replayed_at"] is None
    code, out, _ = run("rejects", 1, "--csv", "bad-rows.csv")
    assert (code, out) == (0, "1 rejects of job 1 in bad-rows.csv\n")
    with (tmp_path / "bad-rows.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["line"], row["raw"]) == ("3", 'x,"c\nd"')
    assert run("rejects", 1, "--csv", "-")[1] == (tmp_path / "bad-rows.csv").read_text()
    code, out, err = run("rejects", 1, "--csv", "bad-rows.csv")
    assert (code, out) == (1, "")
    assert "--if-exists replace" in err
    assert "rejected nothing" in run("rejects", 2)[1]


def test_prune(run, run_json, two, look):
    """Finished jobs older than that are forgotten; what they loaded stays, others are kept."""
    look("UPDATE taskwidgets.jobs SET updated_at = now() - interval '8 days'")
    assert run_json("prune", "--older-than", "2w") == {"deleted": 0}
    code, out, err = run("prune", "--older-than", "7d")
    assert (code, out, err) == (0, "1 job deleted\n", "")
    assert [job["state"] for job in run_json("jobs")] == ["failed"]
    assert look.contents("t")[0] == 2


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("tw.resume(7, take_over=True) takes", "taskwidgets resume 7 --take-over takes"),
        ("or tw.resume(12).", "or taskwidgets resume 12."),
        ('t exists; if_exists="replace" or', "t exists; --if-exists replace or"),
        ("again=True in the call that made it starts a new one",
         "--again to the command that made it starts a new one"),
        ("the column again=TRUE", "the column again=TRUE"),
    ],
)  # fmt: skip
def test_errors_speak_of_commands(said, meant):
    """A Python call in an error's text becomes the command that does the same."""
    assert in_terminal(said) == meant


# ---------------------------------------------------------------------- lab, demo


def test_lab_without_jupyterlab(run_script):
    """Where JupyterLab is absent, the extra is named."""
    out, err = run_script(
        """
        import importlib.util, sys
        found = importlib.util.find_spec
        importlib.util.find_spec = lambda name: None if name == "jupyterlab" else found(name)
        from taskwidgets.cli import main
        sys.argv = ["taskwidgets", "lab"]
        try:
            main()
        except SystemExit as end:
            print(end.code)
        """,
        fresh=True,
    )
    assert out == "1\n"
    assert err == "taskwidgets: JupyterLab is not installed: pip install 'taskwidgets[lab]'\n"


def test_lab_starts_jupyterlab(run, tmp_path):
    """Its options are JupyterLab's own."""
    code, out, err = run("lab", "--", "--version")
    assert code == 0, err
    assert re.match(r"4\.\d+", out)


def test_demo(run, look):
    """The demonstration loads and exports the flights, and leaves no table behind."""
    code, out, err = run("demo")
    assert (code, err) == (0, "")
    assert out.count("336,776 rows") >= 2
    assert re.search(r"JFK: [\d,]+ flights", out)
    assert not look.exists("taskwidgets_demo_flights")


# ---------------------------------------------------------------------- doctor


def found(document):
    """The checks by name; several of one name in a list."""
    checks = {}
    for check in document["checks"]:
        checks.setdefault(check["name"], []).append((check["status"], check["text"]))
    return checks


def test_doctor_on_a_good_database(run, run_json, empty_url, database_url):
    """All is well, in lines and as JSON; nothing is made in the database by looking."""
    code, out, err = run("doctor", url=empty_url)
    assert (code, err) == (0, "")
    assert re.search(r"^ok +database +database \"test_\d+\".*Postgres \d+", out, re.M)
    assert re.search(r"^ok +metadata .*is made by the first connect", out, re.M)
    assert run_sql(empty_url, "SELECT FROM pg_namespace WHERE nspname = 'taskwidgets'") == []
    document = run_json("doctor", url=database_url)
    checks = found(document)
    assert document["ok"] is True
    assert "up to this release" in checks["metadata"][0][1]
    for name in ("python", "clicks", "embedded", "rights", "connections", "disk"):
        assert checks[name][0][0] in ("ok", "warn")
    assert "ipykernel" in checks["packages"][0][1]
    assert checks["compiled"] == [("ok", "the parts in C are compiled")]


@pytest.mark.parametrize(
    ("module", "name"),
    [(binary_copy, "encoder"), (csv_rows, "converter"), (boundaries, "compiled")],
)
def test_doctor_where_there_was_no_compiler(module, name, monkeypatch):
    """It is no fault, but told, with what helps."""
    monkeypatch.setattr(module, name, None)
    (check,) = [check for check in all_checks(None) if check.name == "compiled"]
    assert (check.status, "gcc" in check.advice) == ("warn", True)


def test_doctor_on_a_database_without_rights(run_json, run, empty_url):
    """A role that may make nothing fails, with the statements that help."""
    run_sql(empty_url, "CREATE ROLE poor LOGIN")
    try:
        url = re.sub("//[^@]*@", "//poor@", plain(empty_url))
        code, out, _ = run("doctor", url=url)
        assert code == 1
        assert re.search(r"^fail +metadata .*poor may not make it", out, re.M)
        assert "CREATE SCHEMA taskwidgets AUTHORIZATION poor" in out
        assert re.search(r"^warn +rights +poor may not make tables in the schema public", out, re.M)
        run_sql(empty_url, "CREATE SCHEMA taskwidgets; CREATE TABLE taskwidgets.jobs ()")
        checks = found(run_json("doctor", url=url, code=1))
        assert checks["metadata"][0][0] == "fail"
        assert "permission denied" in checks["metadata"][0][1]
    finally:
        run_sql(empty_url, "DROP ROLE poor")


def test_doctor_on_a_later_schema(run_json, database_url, look):
    """A database that a later release has migrated is told, with what to do."""
    look("UPDATE taskwidgets.alembic_version SET version_num = '9999'")
    checks = found(run_json("doctor", url=database_url, code=1))
    assert checks["metadata"][0][0] == "fail"
    assert "newer release" in checks["metadata"][0][1]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql://ann:secret-word@127.0.0.1:1/none", "does not answer"),
        ("sqlite:///x.db", "needs Postgres"),
    ],
)
def test_doctor_without_a_database(run_json, url, words):
    """A database that is not there fails, and the rest is checked all the same."""
    document = run_json("doctor", url=url, code=1)
    checks = found(document)
    assert checks["database"][0][0] == "fail"
    assert words in checks["database"][0][1]
    assert "disk" in checks
    assert "secret-word" not in json.dumps(document)


def test_doctor_on_other_versions(tmp_path, database_url):
    """Versions that do not go with this release fail, each with the command that helps."""
    for name, version in (("ipykernel", "7.0.1"), ("jupyterlab", "3.6"), ("taskwidgets", "0.1.0")):
        folder = tmp_path / f"{name}-{version}.dist-info"
        folder.mkdir()
        lines = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}"]
        if name == "taskwidgets":
            lines += [
                "Requires-Dist: ipykernel!=7.0.*,>=6.29.5",
                "Requires-Dist: absent-package>=1",
                "Requires-Dist: jupyterlab<5,>=4.2; extra == 'lab'",
            ]
        (folder / "METADATA").write_text("\n".join(lines) + "\n\n")
    variables = environment(TASKWIDGETS_DATABASE_URL=database_url)
    variables["PYTHONPATH"] = os.pathsep.join([str(tmp_path), variables["PYTHONPATH"]])
    done = subprocess.run(
        [sys.executable, "-m", "taskwidgets.cli", "doctor", "--json"],
        env=variables, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    checks = found(json.loads(done.stdout))
    assert checks["ipykernel"] == [("fail", "ipykernel 7.0.1 does not go with this release")]
    assert checks["absent-package"] == [("fail", "is not installed")]
    assert checks["jupyterlab"] == [("warn", "jupyterlab 3.6 does not go with this release")]
    assert "no subshells" in checks["clicks"][0][1]
