"""Files at URLs: fetched into the spool, resumed by ranges, and no secret anywhere."""

import gzip
import json
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fix_files import write_many
from fix_servers import wait_until

from taskwidgets import JobFailed, JobTerminated
from taskwidgets.errors import OptionError, SourceError
from taskwidgets.transfers.origins.masks import masked_url

# A server of files in a process of its own: what it does, its control file says.
SERVER = """
    import hashlib, http.server, json, os, sys, time
    folder, control, log = sys.argv[1:]

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def do_HEAD(self):
            self.answer(False)

        def do_GET(self):
            self.answer(True)

        def answer(self, with_body):
            how = json.load(open(control))
            with open(log, "a") as lines:
                print(json.dumps([self.command, self.headers.get("Range"),
                                  self.headers.get("Authorization")]), file=lines, flush=True)
            if how.get("status"):
                self.send_response(how["status"])
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            path = os.path.join(folder, os.path.basename(self.path.partition("?")[0]))
            if not os.path.exists(path):
                self.send_response(404)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            data = open(path, "rb").read()
            tag = '"' + hashlib.md5(data).hexdigest() + '"'
            start, status = 0, 200
            wanted = self.headers.get("Range")
            if how.get("ranges") and wanted and self.headers.get("If-Range", tag) == tag:
                start, status = int(wanted[6:].split("-")[0]), 206
            stop = int(wanted.split("-")[1] or len(data)) + 1 if status == 206 else len(data)
            body = data[start:stop]
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            if how.get("tags", True):
                self.send_header("ETag", tag)
            if status == 206:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            self.end_headers()
            if with_body:
                most = how.get("most")
                self.wfile.write(body if most is None else body[:most])
                self.wfile.flush()
                if most is not None and len(body) > most:
                    while not json.load(open(control)).get("cut"):
                        time.sleep(0.01)
                    self.close_connection = True
                    self.connection.shutdown(2)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    print(server.server_address[1], flush=True)
    import threading
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()  # until whoever started it is gone
"""


class Server:
    def __init__(self, script, tmp_path):
        self.folder = tmp_path / "served"
        self.folder.mkdir()
        self._control = tmp_path / "control.json"
        self._log = tmp_path / "requests.log"
        self._log.touch()
        self.set(ranges=True)
        self.process = script(SERVER, str(self.folder), str(self._control), str(self._log))
        self.host = f"127.0.0.1:{self.process.line()}"

    def set(self, **how):
        part = self._control.with_suffix(".part")
        part.write_text(json.dumps(how))
        part.replace(self._control)

    def url(self, name, user=""):
        return f"http://{user}{self.host}/{name}"

    def requests(self):
        """(method, Range, Authorization) of each so far."""
        return [tuple(json.loads(line)) for line in self._log.read_text().splitlines()]


@pytest.fixture
def server(script, tmp_path):
    return Server(script, tmp_path)


def kinds_of_events(job):
    return "\n".join(job.events().cause)


def test_a_url_is_loaded_like_a_file(workspace, home, server, look, spooled):
    """Dialect, types and receipt are the file's; the same call again finds it loaded."""
    path = write_many(server.folder / "many.csv", 3000)
    job = workspace.upload(server.url("many.csv?page=2"), "t", source_column=True)
    receipt = job.wait()
    workspace.upload(path, "truth", source_column=True).wait()
    assert look.contents("t") == look.contents("truth")
    assert look.types("t") == look.types("truth")
    assert receipt.source == server.url("many.csv?page=2")
    assert job.name == "many.csv → t"
    assert receipt.bytes == path.stat().st_size
    assert spooled() == []
    before = len(server.requests())
    assert workspace.upload(server.url("many.csv?page=2"), "t", source_column=True) is job
    assert [method for method, _, _ in server.requests()[before:]] == ["HEAD"]
    server.process.kill()
    again = workspace.upload(server.url("many.csv?page=2"), "t", source_column=True)
    assert "already loaded" in again.remark


def test_urls_that_are_shown_alike_are_two_jobs(workspace, home, server, look):
    """What is masked counts all the same: the second file is loaded, not taken for the first."""
    (server.folder / "x.csv").write_text("a\n1\n")
    first = workspace.upload(server.url("x.csv?country_code=AAA"), "t")
    assert first.wait().source == server.url("x.csv?country_code=***")
    (server.folder / "x.csv").write_text("a\n2\n")
    second = workspace.upload(server.url("x.csv?country_code=BBB"), "u")
    assert second is not first
    second.wait()
    third = workspace.upload(server.url("x.csv?country_code=BBB"), "t", if_exists="replace")
    third.wait()
    assert (look.rows("t"), look.rows("u")) == ([(2,)], [(2,)])
    fourth = workspace.upload(server.url("x.csv?country_code=AAA"), "t", if_exists="replace")
    assert fourth is not third
    stored = str(look("SELECT j::text FROM taskwidgets.jobs j"))
    assert "AAA" not in stored
    assert "BBB" not in stored


def test_packed_text_and_tables_behind_a_url(workspace, home, server, look, spooled):
    """A .csv.gz, a Parquet file and JSON lines; a sheet of none of them."""
    (server.folder / "x.csv.gz").write_bytes(gzip.compress(b"a;b\n1;x\n2;y\n"))
    pq.write_table(pa.table({"a": [1, None]}), server.folder / "x.parquet")
    (server.folder / "x.jsonl").write_text('{"a": [1]}\n')
    workspace.upload(server.url("x.csv.gz"), "packed").wait()
    assert look.rows("packed") == [(1, "x"), (2, "y")]
    receipt = workspace.upload(server.url("x.parquet"), "parquet").wait()
    assert receipt.bytes == (server.folder / "x.parquet").stat().st_size
    assert look.rows("parquet") == [(None,), (1,)]
    workspace.upload(server.url("x.jsonl"), "lines").wait()
    assert look.rows("lines") == [([1],)]
    job = workspace.upload(server.url("x.jsonl"), "other", sheet=2)
    with pytest.raises(JobFailed, match="sheet goes with an Excel workbook"):
        job.wait()
    job.terminate()
    job.join(None)
    assert spooled() == []


@pytest.mark.sample(1)
@pytest.mark.parametrize("ranges", [True, False])
def test_a_connection_that_is_cut_goes_on(workspace, home, server, look, ranges):
    """Cut off in the middle, the rest is fetched by ranges; without them, all of it again."""
    path = write_many(server.folder / "many.csv", 20_000)
    size = path.stat().st_size
    server.set(ranges=ranges, most=size // 3)
    job = workspace.upload(server.url("many.csv"), "t")
    wait_until(lambda: [*home.rglob("download.part")] != [])
    (part,) = home.rglob("download.part")
    wait_until(lambda: part.stat().st_size == size // 3)
    server.set(ranges=ranges, cut=True, **({"most": size // 3} if ranges else {}))
    assert job.wait().rows_loaded == 20_000
    asked = [wanted for method, wanted, _ in server.requests() if method == "GET"]
    assert asked[:2] == [None, f"bytes={size // 3}-"]
    assert ("the server gives no parts" in kinds_of_events(job)) == (not ranges)
    if ranges:
        starts = [int(re.findall(r"\d+", one)[0]) for one in asked[1:]]
        assert starts == sorted(starts)
        assert starts[-1] >= 2 * (size // 3)
    workspace.upload(path, "truth").wait()
    assert look.contents("t") == look.contents("truth")


CELL = """
    import sys
    import taskwidgets as tw
    ws = tw.Workspace(sys.argv[1])
    job = ws.upload(sys.argv[2], "t")
    print(job.id, flush=True)
    print(job.wait().rows_loaded, flush=True)
    ws.close()
"""


@pytest.mark.sample(1)
@pytest.mark.parametrize("then", ["same", "changed", "no tags"])
def test_killed_while_it_is_fetched(
    script, run_script, database_url, home, server, points, look, spooled, workspace, then
):
    """SIGKILL in the middle: the next process asks for the rest, or begins with the new file."""
    path = write_many(server.folder / "many.csv", 40_000)
    if then == "no tags":
        server.set(ranges=True, tags=False)
    points.arm("while fetching")
    killed = script(CELL, database_url, server.url("many.csv"), TASKWIDGETS_HOME=str(home),
                    TASKWIDGETS_FAILPOINTS=str(points.folder))  # fmt: skip
    number = killed.line()
    points.reached("while fetching")
    killed.kill()
    points.let_go("while fetching")
    assert "download.part" in spooled()
    if then == "changed":
        write_many(path, 30_000, start=7)
    rows = 30_000 if then == "changed" else 40_000
    before = len(server.requests())
    out, _ = run_script(CELL, database_url, server.url("many.csv"), TASKWIDGETS_HOME=str(home))
    assert out.split() == [number, str(rows)]
    ranges = [wanted for method, wanted, _ in server.requests()[before:] if method == "GET"]
    assert len(ranges) == 1
    assert (ranges[0] is not None) == (then == "same")
    words = kinds_of_events(workspace.job(int(number)))
    assert ("it has changed" in words) == (then == "changed")
    assert ("nothing tells it from another" in words) == (then == "no tags")
    workspace.upload(path, "truth").wait()
    assert look.contents("t") == look.contents("truth")
    assert spooled() == []


def test_changed_while_it_is_fetched(workspace, home, server, points, look):
    """A file that is replaced in between is fetched anew: never a mixture of two."""
    path = write_many(server.folder / "many.csv", 40_000)
    points.arm("while fetching")
    job = workspace.upload(server.url("many.csv"), "t")
    points.reached("while fetching")
    write_many(path, 30_000, start=7)
    points.let_go("while fetching")
    assert job.wait().rows_loaded == 30_000
    workspace.upload(path, "truth").wait()
    assert look.contents("t") == look.contents("truth")


def test_paused_and_terminated_while_it_is_fetched(workspace, home, server, points, spooled, look):
    """A pause keeps what is fetched, a resume asks for the rest, terminate leaves nothing."""
    write_many(server.folder / "many.csv", 40_000)
    points.arm("while fetching")
    job = workspace.upload(server.url("many.csv"), "t")
    points.reached("while fetching")
    job.pause()
    points.let_go("while fetching")
    job.join(None)
    assert job.state == "paused"
    assert "download.part" in spooled()
    points.arm("while fetching")
    job.resume()
    points.reached("while fetching")
    assert server.requests()[-1][1] is not None
    job.terminate()
    points.let_go("while fetching")
    with pytest.raises(JobTerminated):
        job.wait()
    assert spooled() == []
    assert look.staging() == []


def test_secrets_are_kept_nowhere(workspace, run_script, database_url, home, server, look):
    """Password, token and header reach the server, and no table, panel, error or repr."""
    write_many(server.folder / "many.csv", 100)
    url = server.url("many.csv?token=t0ken&page=1", user="me:pa55word@")
    options = {"headers": {"X-Key": "k3y-k3y"}}
    server.set(status=401)
    job = workspace.upload(url, "t", storage_options=options)
    with pytest.raises(JobFailed, match="401") as error:
        job.wait()
    out, _ = run_script(
        """
        import sys
        import taskwidgets as tw
        ws = tw.Workspace(sys.argv[1])
        try:
            ws.resume(int(sys.argv[2]))
        except tw.TaskwidgetsError as error:
            print(error)
        ws.close()
        """,
        database_url, str(job.id), TASKWIDGETS_HOME=str(home),
    )  # fmt: skip
    assert "with secrets that are kept nowhere; run the call again" in out
    server.set(ranges=True)
    again = workspace.upload(url, "t", storage_options=options)
    assert again is job
    assert again.wait().rows_loaded == 100
    authorizations = {given for _, _, given in server.requests()}
    assert authorizations == {"Basic bWU6cGE1NXdvcmQ="}
    stored = "".join(
        look.one(f"SELECT coalesce(string_agg(x::text, ''), '') FROM taskwidgets.{table} x")
        for table in ("jobs", "events", "requests", "checkpoints")
    )
    shown = f"{stored} {error.value} {job!r} {job.receipt} {job.source} {job.error}"
    for secret in ("pa55word", "t0ken", "k3y-k3y"):
        assert secret not in shown
    assert f"http://***@{server.host}/many.csv?token=***&page=1" in shown


def test_what_is_not_there_is_said(workspace, home, server, monkeypatch):
    """404, an unknown protocol, several URLs, a protocol whose package is missing."""
    job = workspace.upload(server.url("nothing.csv"), "t")
    with pytest.raises(JobFailed, match=r"nothing\.csv does not exist"):
        job.wait()
    job.terminate()
    with pytest.raises(OptionError, match="knows no protocol 'nosuch'"):
        workspace.upload("nosuch://x/y.csv", "t")
    with pytest.raises(OptionError, match="one at a time"):
        workspace.upload([server.url("a.csv")], "t")
    monkeypatch.setitem(__import__("sys").modules, "s3fs", None)
    with pytest.raises(SourceError, match=r"s3fs: pip install 'taskwidgets\[s3\]'"):
        workspace.upload("s3://bucket/x.csv", "t")


def test_other_protocols_of_fsspec(workspace, home, look):
    """What fsspec reads is loaded: here, a file that is kept in memory."""
    import fsspec

    fsspec.filesystem("memory").pipe_file("/folder/x.csv", b"a,b\n1,x\n")
    job = workspace.upload("memory://folder/x.csv", "t")
    assert job.wait().rows_loaded == 1
    assert workspace.upload("memory://folder/x.csv", "t") is job
    fsspec.filesystem("memory").rm("/folder/x.csv")


def test_urls_are_masked():
    """User, password and what may be a key; all else stays."""
    assert masked_url("s3://bucket/a b.csv") == "s3://bucket/a b.csv"
    url = "https://u:p@h:8/x.csv?X-Amz-Signature=a&page=2&sig=b&q=c%20d#part"
    assert masked_url(url) == "https://***@h:8/x.csv?X-Amz-Signature=***&page=2&sig=***&q=c+d"
