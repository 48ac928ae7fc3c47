"""The endpoints end to end, with real files and a real server."""

from __future__ import annotations

import csv

import pytest
from fix_jupyter import SLOW, JupyterServer

from taskwidgets import JobTerminated, Workspace


def contents(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_an_upload_is_started_paused_resumed_and_watched(server: JupyterServer, rows_file, seen):
    """Each verb of an upload does what it says; in the end every row is there, once."""
    source = rows_file("verbs/one.csv", 4000)
    job = server.upload(source, "verbs_one", workers=1, max_rate=SLOW, types="text")
    assert (job["state"], job["source"], job["target"]) == ("running", source, "public.verbs_one")
    assert job["owner"]["here"]
    job_id = job["id"]
    assert server.upload(source, "verbs_one", types="text")["id"] == job_id  # attached

    server.ok(server.post("upload/pause", {"job_id": job_id}))
    server.wait_for(job_id, "paused")
    server.ok(server.post("upload/pause", {"job_id": job_id}))  # once more does no harm
    progress = server.ok(server.get(f"upload/progress?job_id={job_id}"))
    assert progress["state"] == "paused"
    assert progress["progress"]["total"] > 100_000
    assert 0 <= progress["percentage"] < 100

    resumed = server.ok(server.post("upload/resume", {"job_id": job_id, "max_rate": 1e9}))
    assert resumed["state"] in ("running", "completed")
    assert resumed["remark"].startswith(f"resuming job {job_id}")
    done = server.wait_for(job_id, "completed")
    assert done["percentage"] == 100
    assert done["receipt"]["rows_loaded"] == 4000
    assert done["receipt"]["source"] == source
    assert seen.one("SELECT count(*) FROM verbs_one") == 4000

    again = server.upload(source, "verbs_one", types="text")
    assert (again["id"], again["remark"]) == (job_id, f"already loaded: job {job_id}")

    second = server.upload(rows_file("verbs/two.csv"), "verbs_two", workers=1, max_rate=SLOW)
    server.ok(server.post("upload/terminate", {"job_id": second["id"]}))
    server.wait_for(second["id"], "terminated")
    assert not seen.exists("verbs_two")
    assert not seen.staging()


def test_a_download_is_started_paused_resumed_and_watched(
    server: JupyterServer, numbers_table, seen
):
    """Each verb of a download does what it says; the file is whole, and the bytes are COPY's."""
    table = numbers_table("export_one", 30_000)
    (server.root / "out").mkdir()
    job = server.download(table, "out/one.csv", workers=1, max_rate=SLOW)
    assert (job["state"], job["source"], job["target"]) == ("running", table, "out/one.csv")
    job_id = job["id"]
    server.ok(server.post("download/pause", {"job_id": job_id}))
    server.wait_for(job_id, "paused")
    assert not (server.root / "out" / "one.csv").exists()
    assert server.ok(server.get(f"download/progress?job_id={job_id}"))["state"] == "paused"
    server.ok(server.post("download/resume", {"job_id": job_id, "max_rate": 1e9}))
    done = server.wait_for(job_id, "completed")
    assert done["receipt"]["target"] == "out/one.csv"
    made = contents(server.root / "out" / "one.csv")
    assert made[0] == ["n", "t"]
    assert [row[0] for row in made[1:]] == [str(n) for n in range(1, 30_001)]

    query = server.download(
        "SELECT n FROM export_one WHERE n <= 3 ORDER BY n", "out/few.csv", header=False
    )
    server.wait_for(query["id"], "completed")
    assert (server.root / "out" / "few.csv").read_text() == "1\n2\n3\n"

    third = server.download(table, "out/three.csv", workers=1, max_rate=SLOW)
    server.ok(server.post("download/terminate", {"job_id": third["id"]}))
    server.wait_for(third["id"], "terminated")
    assert sorted(path.name for path in (server.root / "out").iterdir()) == ["few.csv", "one.csv"]


def test_a_folder_of_part_files_is_exported(server: JupyterServer) -> None:
    """A path that ends in / is a folder below the root, whatever it looks like."""
    for path in ("parts/", "s3:/bucket/"):
        (server.root / path).parent.mkdir(exist_ok=True)
        job = server.download("SELECT n FROM generate_series(1, 3) AS n", path, format="csv.gz")
        done = server.wait_for(job["id"], "completed")
        assert done["receipt"]["rows_loaded"] == 3
        names = {one.name for one in (server.root / path).iterdir()}
        assert names == {"_manifest.json", "part-00000.csv.gz"}


def test_the_jobs_and_their_events_are_listed(server: JupyterServer, rows_file):
    """All jobs newest first, by state and by text; one job; what happened to it."""
    ids = [
        server.upload(rows_file(f"list/{name}.csv", 5), f"list_{name}")["id"]
        for name in ("able", "baker")
    ]
    for job_id in ids:
        server.wait_for(job_id, "completed")
    found = server.ok(server.get("jobs?search=list_&state=completed&state=failed"))["jobs"]
    assert [job["id"] for job in found] == ids[::-1]
    assert found[0] == server.job(ids[1])
    page = server.ok(server.get("jobs?search=list_&limit=1&offset=1"))["jobs"]
    assert [job["id"] for job in page] == ids[:1]
    assert server.ok(server.get("jobs?search=list_&state=paused"))["jobs"] == []
    history = server.ok(server.get(f"jobs/{ids[0]}/events"))["events"]
    moves = [event["to_state"] for event in history if event["kind"] == "transition"]
    assert moves == ["pending", "running", "completed"]
    last = server.ok(server.get(f"jobs/{ids[0]}/events?limit=1"))["events"]
    assert last == history[-1:]


def test_a_job_of_another_process_is_seen_and_controlled(
    server: JupyterServer, rows_file, elsewhere: Workspace
):
    """A job that a kernel runs is followed and paused over HTTP; resuming it says who has it."""
    path = server.root / rows_file("other/process.csv", 4000)
    job = elsewhere.upload(path, "other_process", workers=1, max_rate=SLOW)
    seen = server.wait_for(job.id, "running")
    assert not seen["owner"]["here"]
    assert seen["source"] == "other/process.csv"
    refused = server.post("upload/resume", {"job_id": job.id})
    assert refused.status == 409
    assert (refused.error["code"], refused.error["state"]) == ("job_owned", "running")
    server.ok(server.post("upload/pause", {"job_id": job.id}))
    server.wait_for(job.id, "paused")
    job.join(None)
    assert str(job.state) == "paused"
    server.ok(server.post("upload/terminate", {"job_id": job.id}))
    server.wait_for(job.id, "terminated")
    with pytest.raises(JobTerminated):
        job.wait(60)


def test_what_a_state_forbids_is_409_and_names_the_state(server: JupyterServer, rows_file):
    """A completed job is neither paused nor resumed nor terminated, and stays what it is."""
    job_id = server.upload(rows_file("over.csv", 3), "over")["id"]
    server.wait_for(job_id, "completed")
    for verb in ("pause", "resume", "terminate"):
        answer = server.post(f"upload/{verb}", {"job_id": job_id})
        assert answer.status == 409, verb
        assert answer.error["state"] == "completed"
        assert answer.error["job_id"] == job_id
        assert answer.error["code"] == "illegal_transition"
    exists = server.post("upload/start", {"source": "over.csv", "table": "over", "types": "text"})
    assert (exists.status, exists.error["code"], exists.error["field"]) == (
        409, "target_exists", "table",
    )  # fmt: skip


def test_there_is_no_such_job(server: JupyterServer, rows_file, numbers_table):
    """404 for a number that no job has, or a job of the other kind, at every endpoint."""
    upload = server.upload(rows_file("kind.csv", 3), "kind_of_upload")["id"]
    download = server.download(numbers_table("kind_of_download", 3), "kind-out.csv")["id"]
    for kind, other in (("upload", download), ("download", upload)):
        for number in (other, 987_654_321, 2**63 - 1):
            for verb in ("pause", "resume", "terminate"):
                answer = server.post(f"{kind}/{verb}", {"job_id": number})
                assert (answer.status, answer.error["code"]) == (404, "job_not_found")
            assert server.get(f"{kind}/progress?job_id={number}").status == 404
    for number in ("987654321", "0", "-1", "1e3", "x", str(2**63), "9" * 40, "%201", "%D9%A1"):
        for path in (f"jobs/{number}", f"jobs/{number}/events"):
            answer = server.get(path)
            assert answer.status == 404, path
            assert answer.error["message"]


BAD = [
    ("upload/start", {}, 422, "source"),
    ("upload/start", {"source": "kind.csv"}, 422, "table"),
    ("upload/start", {"source": 7, "table": "t"}, 422, "source"),
    ("upload/start", {"source": "nowhere.csv", "table": "t"}, 422, "source"),
    ("upload/start", {"source": "good.csv", "table": ""}, 422, "table"),
    ("upload/start", {"source": "good.csv", "table": "t" * 64}, 422, "table"),
    ("upload/start", {"source": "good.csv", "table": "t\0"}, 422, "table"),
    ("upload/start", {"source": "good.csv", "table": "t", "colour": "red"}, 422, "colour"),
    ("upload/start", {"source": "good.csv", "table": "t", "if_exists": "maybe"}, 422, "if_exists"),
    ("upload/start", {"source": "good.csv", "table": "t", "workers": 0}, 422, "workers"),
    ("upload/start", {"source": "good.csv", "table": "t", "workers": True}, 422, "workers"),
    ("upload/start", {"source": "good.csv", "table": "t", "workers": "2"}, 422, "workers"),
    ("upload/start", {"source": "good.csv", "table": "t", "max_rate": 0}, 422, "max_rate"),
    ("upload/start", {"source": "good.csv", "table": "t", "max_rejects": 3}, 422, "max_rejects"),
    ("upload/start", {"source": "good.csv", "table": "t", "types": "int"}, 422, "types"),
    ("upload/start", {"source": "good.csv", "table": "t", "types": {"id": 4}}, 422, "types"),
    ("upload/start", {"source": "good.csv", "table": "t", "types": {"no": "int"}}, 422, "types"),
    ("upload/start", {"source": "good.csv", "table": "t", "types": {"id": "nix"}}, 422, "types"),
    ("upload/start", {"source": "good.csv", "table": "t", "encoding": "nix"}, 422, "encoding"),
    ("upload/start", {"source": "good.csv", "table": "t", "delimiter": '"'}, 422, "delimiter"),
    ("upload/start", [], 422, None),
    ("upload/start", "text", 422, None),
    ("upload/start", b'{"source": "good.csv", ', 400, None),
    ("upload/start", b'{"source": "\xff", "table": "t"}', 400, None),
    ("upload/start", rb'{"source": "\ud800", "table": "t"}', 400, None),
    ("upload/start", b'{"source": "good.csv", "table": "t", "max_rate": NaN}', 400, None),
    ("upload/start", b'{"source": "good.csv", "table": "t", "max_rate": 1e999}', 400, None),
    ("upload/start", b"[" * 100_000, 400, None),
    ("upload/start", b'{"a": "' + b"x" * (1 << 20) + b'"}', 413, None),
    ("upload/pause", {}, 422, "job_id"),
    ("upload/pause", {"job_id": "7"}, 422, "job_id"),
    ("upload/pause", {"job_id": 2**63}, 422, "job_id"),
    ("upload/resume", {"job_id": 1, "workers": 65}, 422, "workers"),
    ("upload/pause?job_id=7", {}, 422, "job_id"),
    ("download/start", {"source": "good", "path": "x/y.csv"}, 422, "path"),
    ("download/start", {"source": "nowhere", "path": "y.csv"}, 422, "source"),
    ("download/start", {"source": "SELECT nix", "path": "y.csv"}, 422, "source"),
    ("download/start", {"source": "DELETE FROM good", "path": "y.csv"}, 422, "source"),
    ("download/start", {"source": "SELECT 1", "path": "y.csv", "delimiter": ""}, 422, "delimiter"),
    ("download/start", {"source": "SELECT 1", "path": "y.csv", "header": 1}, 422, "header"),
    ("download/start", {"source": "SELECT 1", "path": "y/", "format": "xml"}, 422, "format"),
    ("download/start", {"source": "SELECT 1", "path": "y.csv", "format": "csv"}, 422, "format"),
    ("download/start", {"source": "SELECT 1", "path": "y.csv", "if_exists": "append"}, 422,
     "if_exists"),
    ("download/progress", None, 422, "job_id"),
    ("download/progress?job_id=seven", None, 422, "job_id"),
    ("download/progress?job_id=1&job_id=2", None, 422, "job_id"),
    ("jobs?state=lost", None, 422, "state"),
    ("jobs?limit=0", None, 422, "limit"),
    ("jobs?limit=1_0", None, 422, "limit"),
    ("jobs?offset=-1", None, 422, "offset"),
    ("jobs?colour=red", None, 422, "colour"),
    ("jobs?search=%00", None, 422, "search"),
    ("jobs?search=%ff", None, 400, None),
]  # fmt: skip


def test_bad_input_is_told_by_field(server: JupyterServer, rows_file, seen):
    """Whatever is wrong with a request, the answer names the field, and nothing is created."""
    rows_file("good.csv", 3)
    before = seen.one("SELECT count(*) FROM taskwidgets.jobs")
    for path, body, status, field in BAD:
        answer = server.get(path) if body is None else server.post(path, body)
        assert answer.status == status, (path, body, answer)
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.error["message"]
        if field is not None:
            assert answer.error["field"] == field, (path, body, answer)
    assert seen.one("SELECT count(*) FROM taskwidgets.jobs") == before
    assert not seen.staging()


def test_other_methods_are_refused(server: JupyterServer):
    """405 for a method that an address does not know, with the ones that it does."""
    for method, path, allowed in (
        ("GET", "upload/start", "POST"),
        ("POST", "jobs", "GET"),
        ("DELETE", "jobs/1", "GET"),
        ("PUT", "openapi.json", "GET"),
    ):
        answer = server.request(method, f"/taskwidgets/{path}")
        assert (answer.status, answer.headers["Allow"]) == (405, allowed)
        assert answer.error["code"] == "method_not_allowed"
