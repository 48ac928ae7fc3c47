"""A database that goes away, a server that is stopped and started again."""

from __future__ import annotations

import urllib.parse
from concurrent.futures import ThreadPoolExecutor

import pytest
from fix_databases import Look
from fix_files import write_many
from fix_jupyter import SLOW, JupyterServer
from fix_servers import PrivateServer


def test_a_database_that_is_away_is_503_until_it_is_back(served, private_server: PrivateServer):
    """While Postgres is down every endpoint says 503 with Retry-After; then all works again.

    So it does where the server was started before its Postgres.

    Slow: a Jupyter server and a Postgres are started for it.
    """
    private_server.stop()
    server = served(private_server.url())
    assert server.get("jobs").status == 503
    private_server.start()
    assert server.ok(server.get("jobs")) == {"jobs": []}
    write_many(server.root / "a.csv", 3000)
    job_id = server.upload("a.csv", "a", workers=1, max_rate=SLOW)["id"]
    server.wait_for_rows(job_id)
    server.ok(server.post("upload/pause", {"job_id": job_id}))
    server.wait_for(job_id, "paused")
    private_server.stop()
    asked = [
        server.get("jobs"),
        server.get("status"),
        server.get(f"jobs/{job_id}/events"),
        server.get(f"upload/progress?job_id={job_id}"),
        server.post("upload/start", {"source": "a.csv", "table": "b"}),
        server.post("download/start", {"source": "a", "path": "b.csv"}),
        *(server.post(f"upload/{verb}", {"job_id": job_id})
          for verb in ("pause", "resume", "terminate")),
    ]  # fmt: skip
    for answer in asked:
        assert (answer.status, answer.error["code"]) == (503, "server_unreachable"), answer
        assert int(answer.headers["Retry-After"]) > 0
    # What is wrong with the request itself is told all the same.
    assert server.post("upload/start", {"source": "../a.csv", "table": "b"}).status == 422
    assert server.request("GET", "/taskwidgets/openapi.json").status == 200
    private_server.start()
    assert server.job(job_id)["state"] == "paused"
    server.ok(server.post("upload/resume", {"job_id": job_id, "max_rate": 1e9}))
    assert server.wait_for(job_id, "completed")["receipt"]["rows_loaded"] == 3000


def test_a_stopped_server_pauses_its_jobs_and_the_next_one_goes_on(
    served, database_url, look: Look
):
    """Stopped, a server leaves its jobs paused; killed, interrupted. Both are resumed.

    Slow: two Jupyter servers are started, one after the other.
    """
    server = served(database_url)
    write_many(server.root / "many.csv", 30_000)
    job_id = server.upload("many.csv", "many", workers=1, max_rate=SLOW)["id"]
    server.wait_for_rows(job_id)
    server.stop()
    assert look.state(job_id) == "paused"
    loaded = look.ledger(job_id)[1]
    assert 0 < loaded < 30_000

    server.start()
    assert server.job(job_id)["state"] == "paused"
    resumed = server.ok(server.post("upload/resume", {"job_id": job_id, "max_rate": SLOW}))
    assert resumed["state"] == "running"
    assert resumed["progress"]["rows"] >= loaded
    server.wait_for_rows(job_id, loaded + 1)
    server.kill()

    server.start()
    assert server.job(job_id)["state"] == "interrupted"
    again = server.upload("many.csv", "many", max_rate=1e9)  # the same request takes it up
    assert again["id"] == job_id
    assert server.wait_for(job_id, "completed")["receipt"]["rows_loaded"] == 30_000
    look.copy(server.root / "many.csv", "reference", like="many")
    assert look.contents("many") == look.contents("reference")


@pytest.mark.slow
def test_the_password_is_in_no_answer_and_in_no_log(served, password_server: PrivateServer):
    """A URL with a password works from the configuration, and nothing ever repeats it."""
    url = password_server.url(password="hunter2xyz")
    # Only the file has it: the server's own setting is taken before the variable.
    server = served("postgresql://nobody@127.0.0.1:1/nowhere", start=False)
    (server.root.parent / "config" / "jupyter_taskwidgets_config.json").write_text(
        f'{{"TaskwidgetsExtension": {{"database_url": "{url}"}}}}'
    )
    server.start()
    write_many(server.root / "a.csv", 5)
    job_id = server.upload("a.csv", "a", again=True)["id"]
    server.wait_for(job_id, "completed")
    wrong = urllib.parse.quote("hunter2xyz")
    answers = [
        server.get("status"),
        server.get("jobs"),
        server.get(f"jobs/{job_id}"),
        server.get(f"jobs/{job_id}/events"),
        server.get(f"jobs?search={wrong}"),
        server.post("upload/start", {"source": "none.csv", "table": "t"}),
        server.post("download/start", {"source": "SELECT nix", "path": "x.csv"}),
    ]
    password_server.stop()
    try:
        away = server.get("jobs")
        assert away.status == 503
        answers.append(away)
    finally:
        password_server.start()
    for answer in answers:
        assert "hunter2xyz" not in repr(answer)
    assert "hunter2xyz" not in server.log.read_text().replace(f"search={wrong}", "")


def test_many_requests_at_once_are_all_answered(server: JupyterServer, seen: Look):
    """Two hundred at once, of all kinds: each is answered, none by a fault of the server's."""
    before = len(server.log.read_text(errors="replace"))
    for number in range(4):
        write_many(server.root / f"once{number}.csv", 400, start=1000 * number)
    started = server.upload("once0.csv", "once_0", types="text")["id"]
    bodies = [
        *[("POST", "upload/start", {"source": f"once{n % 4}.csv", "table": f"once_{n % 4}",
                                    "types": "text"}) for n in range(60)],
        *[("POST", "download/start", {"source": "VALUES (1), (2)", "path": f"once-out{n % 3}.csv"})
          for n in range(20)],
        *[("GET", "jobs", None) for _ in range(40)],
        *[("GET", f"upload/progress?job_id={started}", None) for _ in range(40)],
        *[("GET", f"jobs/{started}/events", None) for _ in range(20)],
        *[("POST", "upload/pause", {"job_id": 10**6}) for _ in range(10)],
        *[("POST", "upload/start", {"source": "none.csv"}) for _ in range(10)],
    ]  # fmt: skip
    assert len(bodies) == 200
    bodies = bodies[::7] + [body for place, body in enumerate(bodies) if place % 7]  # mixed
    with ThreadPoolExecutor(200) as threads:
        answers = list(
            threads.map(
                lambda one: server.request(one[0], f"/taskwidgets/{one[1]}", one[2]), bodies
            )
        )
    wanted = {"none.csv": 422, "10000": 404}
    for (_, _, body), answer in zip(bodies, answers, strict=True):
        status = next((wanted[text] for text in wanted if text in repr(body)), 200)
        assert answer.status == status, (body, answer)
    ids = {answer.body["id"] for answer in answers if "id" in (answer.body or {})}
    assert len(ids) == 7  # the same request is the same job, however often it comes
    for job_id in ids:
        server.wait_for(job_id, "completed")
    for number in range(4):
        assert seen.one(f"SELECT count(*) FROM once_{number}") == 400
    assert "Traceback" not in server.log.read_text(errors="replace")[before:]
