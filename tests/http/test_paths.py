"""Files only below the server's root, however a path is written; answers are relative to it."""

from __future__ import annotations

import json
import os

import pytest
from fix_jupyter import SLOW, JupyterServer
from fix_servers import wait_until


@pytest.fixture
def outside(server: JupyterServer):
    """A file beside the root, and links below the root that lead there."""
    folder = server.root.parent / "outside"
    folder.mkdir(exist_ok=True)
    (folder / "secret.csv").write_text("a\nsecret\n")
    hidden = server.root / ".hidden"
    hidden.mkdir(exist_ok=True)
    (hidden / "secret.csv").write_text("a\nsecret\n")
    (server.root / "inside").mkdir(exist_ok=True)
    links = {
        "to-file.csv": folder / "secret.csv",
        "to-folder": folder,
        "relative": "../outside",
        "to-nothing": folder / "nothing.csv",
        "ring": "ring",
        "to-link": "to-folder",
        "to-hidden.csv": hidden / "secret.csv",
        "root": server.root.parent,
    }
    for name, target in links.items():
        if not os.path.lexists(server.root / name):
            (server.root / name).symlink_to(target)
    return folder


def spellings(server: JupyterServer, name: str) -> list[str]:
    """Ways to write a file that lies outside of the root, or is hidden in it."""
    whole = str(server.root.parent / "outside" / name)
    return [
        f"../outside/{name}",
        f"inside/../../outside/{name}",
        f"./../outside/{name}",
        f"inside/../inside/../../outside/{name}",
        f"..//outside/{name}",
        f"..\\outside\\{name}",
        f"%2e%2e/outside/{name}",
        f"..%2foutside%2f{name}",
        f"．．/outside/{name}",
        whole,
        f"/{whole}",
        f"file://{whole}",
        f"~/{name}",
        f"~root/{name}",
        "$HOME/" + name,
        f"to-folder/{name}",
        f"relative/{name}",
        f"to-link/{name}",
        f"root/outside/{name}",
        f"to-folder/../outside/{name}",
        f".hidden/{name}",
        f"./.hidden/{name}",
        f"inside/../.hidden/{name}",
        f"ring/{name}",
        f"../outside/{name}\0.csv",
        "..",
        ".",
        "/",
        "inside",
        "x" * 300,
        "x/" * 3000 + name,
    ]


def test_nothing_is_read_outside_of_the_root(server: JupyterServer, outside, seen):
    """No spelling of a file outside, of a link to it, or of a hidden file, is loaded."""
    before = seen.one("SELECT count(*) FROM taskwidgets.jobs")
    for source in [*spellings(server, "secret.csv"), "to-file.csv", "to-hidden.csv"]:
        answer = server.post("upload/start", {"source": source, "table": "stolen"})
        assert (answer.status, answer.error["field"]) == (422, "source"), (source, answer)
        assert "secret\n" not in answer.error["message"]
    # Whether a file outside is there is not told either.
    there, absent = (
        server.post("upload/start", {"source": f"to-folder/{name}", "table": "stolen"})
        for name in ("secret.csv", "nothing.csv")
    )
    assert there.error == absent.error
    assert seen.one("SELECT count(*) FROM taskwidgets.jobs") == before
    assert not seen.exists("stolen")


def test_nothing_is_written_outside_of_the_root(server: JupyterServer, outside, seen):
    """No spelling makes a file, or a partial one, outside of the root or among hidden files."""
    before = sorted(path.name for path in outside.iterdir())
    for path in [
        *spellings(server, "new.csv"),
        "to-file.csv",
        "to-nothing",
        "to-hidden.csv",
        "ring",
    ]:
        for if_exists in ("fail", "replace"):
            answer = server.post(
                "download/start", {"source": "SELECT 1", "path": path, "if_exists": if_exists}
            )
            assert answer.error["field"] == "path", (path, answer)
            assert answer.status == 422 or path == "inside", (path, answer)
    assert sorted(path.name for path in outside.iterdir()) == before
    assert (outside / "secret.csv").read_text() == "a\nsecret\n"
    assert [path.name for path in (server.root / ".hidden").iterdir()] == ["secret.csv"]


def test_links_within_the_root_are_followed(server: JupyterServer, rows_file):
    """A link to a file below the root is that file."""
    rows_file("real/data.csv", 10)
    (server.root / "linked").symlink_to("real")
    job = server.upload("linked/data.csv", "by_link")
    assert job["source"] == "real/data.csv"
    server.wait_for(job["id"], "completed")


def test_a_job_with_a_file_outside_is_seen_but_not_run(
    server: JupyterServer, outside, elsewhere, numbers_table, rows_file
):
    """A kernel's job on a file outside is listed without its path, and not touched from here."""
    job = elsewhere.upload(outside / "secret.csv", "by_kernel", types={"a": "integer"})
    wait_until(lambda: str(job.state) == "failed")
    shown = server.job(job.id)
    assert (shown["source"], shown["state"]) == (None, "failed")
    refused = server.post("upload/resume", {"job_id": job.id})
    assert (refused.status, refused.error["code"]) == (403, "outside_root")

    rows_file("inside.csv", 5)
    both = [server.root / "inside.csv", outside / "secret.csv"]
    several = elsewhere.upload(both, "by_kernel_too")
    wait_until(lambda: str(several.state) == "failed")  # they have other columns
    refused = server.post("upload/resume", {"job_id": several.id})
    assert (refused.status, refused.error["code"]) == (403, "outside_root")

    table = numbers_table("kept_outside", 30_000)
    export = elsewhere.download(table, outside / "kernel.csv", max_rate=SLOW, workers=1)
    wait_until(lambda: export.progress.rows > 0)
    export.pause()
    export.join(None)
    partial = [path for path in outside.iterdir() if path.name.endswith(".partial")]
    assert partial
    assert server.job(export.id)["target"] is None
    for verb in ("resume", "terminate"):
        answer = server.post(f"download/{verb}", {"job_id": export.id})
        assert (answer.status, answer.error["code"]) == (403, "outside_root")
    assert partial[0].exists()
    export.terminate()
    export.join(None)


def test_a_folder_that_became_a_link_is_not_followed_on_resume(
    server: JupyterServer, outside, rows_file, seen
):
    """Where a paused job's folder now leads outside, the job is not resumed."""
    rows_file("moving/data.csv", 3000)
    job_id = server.upload("moving/data.csv", "moved", workers=1, max_rate=SLOW)["id"]
    server.ok(server.post("upload/pause", {"job_id": job_id}))
    server.wait_for(job_id, "paused")
    (server.root / "moving").rename(outside / "moved")
    (server.root / "moving").symlink_to(outside / "moved")
    answer = server.post("upload/resume", {"job_id": job_id})
    assert (answer.status, answer.error["code"]) == (403, "outside_root")
    server.ok(server.post("upload/terminate", {"job_id": job_id}))
    server.wait_for(job_id, "terminated")


def test_answers_know_no_absolute_path(server: JupyterServer, rows_file):
    """Jobs, events, receipts and errors have paths relative to the root, and no other ones."""
    rows_file("plain/file.csv", 20)
    done = server.upload("plain/file.csv", "plain_file")["id"]
    server.wait_for(done, "completed")
    export = server.download("plain_file", "plain/out.csv")["id"]
    server.wait_for(export, "completed")
    failing = server.upload("plain/file.csv", "plain_fails", types={"note": "integer"})["id"]
    server.wait_for(failing, "failed")
    (server.root / "plain" / "file.csv").write_text("other\n")
    answers = [
        server.get("jobs"),
        *(server.get(f"jobs/{job_id}") for job_id in (done, export, failing)),
        *(server.get(f"jobs/{job_id}/events") for job_id in (done, export, failing)),
        server.get(f"upload/progress?job_id={failing}"),
        server.post("upload/resume", {"job_id": failing}),
        server.post("upload/start", {"source": "plain/none.csv", "table": "t"}),
        server.post("download/start", {"source": "plain_file", "path": "plain/out.csv"}),
        server.post("download/start", {"source": "plain_file", "path": "none/out.csv"}),
    ]
    for answer in answers:
        assert str(server.root) not in json.dumps(answer.body), answer
    assert "plain/file.csv" in server.job(failing)["error"]
