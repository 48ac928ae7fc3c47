"""The magics in a real kernel: what they do, show, complete, and say when they are used wrongly."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from fix_scripts import environment
from jupyter_client.manager import KernelManager

PATIENCE = 120  # seconds; a hang guard


class Kernel:
    """An IPython kernel, and one who types into it."""

    def __init__(self, folder: Any, url: str) -> None:
        self.manager = KernelManager(kernel_name="python3")
        self.manager.start_kernel(cwd=str(folder), env=environment(TASKWIDGETS_DATABASE_URL=url))
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=PATIENCE)

    def run(self, code: str) -> tuple[dict[str, Any], str]:
        """Run a cell: the reply, and all texts that it showed."""
        shown: list[str] = []

        def hear(message: dict[str, Any]) -> None:
            content = message["content"]
            shown.append(content.get("text") or content.get("data", {}).get("text/plain", ""))
            shown.extend(content.get("traceback", []))

        reply = self.client.execute_interactive(code, timeout=PATIENCE, output_hook=hear)
        return reply["content"], re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(shown))

    def good(self, code: str) -> str:
        content, shown = self.run(code)
        assert content["status"] == "ok", shown
        return shown

    def bad(self, code: str) -> tuple[str, str]:
        """A cell that fails: the error's name, and what is shown of it."""
        content, shown = self.run(code)
        assert content["status"] == "error", shown
        return content["ename"], shown

    def complete(self, code: str) -> list[str]:
        """What the kernel offers at the end of the code."""
        reply = self.client.complete(code, reply=True, timeout=PATIENCE)
        content = reply["content"]
        start = content["cursor_start"]
        return [code[:start] + match for match in content["matches"]]

    def end(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)
        self.manager.cleanup_resources()


@pytest.fixture
def kernel(tmp_path, database_url) -> Iterator[Kernel]:
    """A kernel in the test's folder that has loaded the extension."""
    started = Kernel(tmp_path, database_url)
    try:
        started.good("%load_ext taskwidgets")
        yield started
    finally:
        started.end()


def test_files_go_in_and_out(kernel, many_rows, csv_file, look, tmp_path):
    """%upload, %download and %%download do what the functions do, and give back the job."""
    many_rows(2000, name="two words.csv")
    shown = kernel.good('job = %upload "two words.csv" t --workers 1\nawait job')
    assert "job 1 (two words.csv → t)" in shown
    assert look.contents("t")[0] == 2000
    # The same line again finds it done; {...} is a variable's value; a job that is last is shown.
    shown = kernel.good('name = "two words.csv"\n%upload "{name}" t --workers 1')
    assert "job 1 (two words.csv → t): completed" in shown
    csv_file("a;b", "1,5;ja", "x;nein", name="odd.txt")
    kernel.good(
        'await get_ipython().run_line_magic("upload", \'odd.txt "My Table" --on-error reject '
        "--types a=numeric --delimiter ; --decimal , --booleans b=ja,nein --if-exists append')"
    )
    assert look.rows("My Table")[0][1] is True
    kernel.good("job = %download t copy.csv\nawait job")
    assert (tmp_path / "copy.csv").stat().st_size > 2000
    kernel.good('job = %download \'"My Table"\' "quoted name.csv"\nawait job')
    assert (tmp_path / "quoted name.csv").read_text() == "a,b\n1.5,t\n"
    shown = kernel.good("%jobs completed --search two")
    assert "two words.csv" in shown
    assert "copy.csv" not in shown
    shown = kernel.good("%job 1")
    assert "job 1 (two words.csv → t): completed" in shown


def test_a_query_is_passed_on_as_it_is(kernel, tmp_path):
    """Quotes, percent signs, comments, braces and dollars of the cell stay what they are."""
    shown = kernel.good(
        "%%download out.csv\n"
        "-- {nothing} of this % is $expanded\n"
        "SELECT '{x}' AS \"a b\", 'it''s 100%' AS c, E'\\n$y' AS d /* ? :z */"
    )
    assert "out.csv" in shown
    kernel.good("for one in __import__('taskwidgets').jobs(): job = %job {one.id}\nawait job")
    assert (tmp_path / "out.csv").read_text() == 'a b,c,d\n{x},it\'s 100%,"\n$y"\n'


def test_wrong_usage_is_a_line(kernel, csv_file):
    """What is wrong is said as IPython says it, without a traceback; errors keep their class."""
    csv_file("a", "x", name="f.csv")
    for code, words in {
        "%upload f.csv": "TABLE",
        "%upload f.csv t --if-exists maybe": "--if-exists 'maybe'",
        "%upload f.csv t --nonsense": "--nonsense",
        "%upload f.csv t --workers 0": "workers",
        "%download t": "%%download FILE",
        "%%download f.csv\n \n": "query",
        "%job seven": "seven",
        "%jobs done": "there is no state",
    }.items():
        name, shown = kernel.bad(code)
        assert name == "UsageError"
        assert words in shown
        assert "Traceback" not in shown
        assert sum(bool(line.strip()) for line in shown.splitlines()) < 4
    name, shown = kernel.bad("%upload absent.csv t")
    assert name == "SourceError"
    assert re.fullmatch(r"SourceError: \S+absent.csv does not exist", shown.strip())
    name, shown = kernel.bad("%job 99")
    assert name == "JobNotFound"
    assert shown.strip().startswith("JobNotFound: there is no job 99")
    kernel.good(
        "import taskwidgets as tw\n"
        "try:\n    %upload absent.csv t\nexcept tw.TaskwidgetsError as error:\n    print(error)"
    )


def test_help(kernel):
    """%upload? shows the options."""
    content, _ = kernel.run("%upload?")
    text = " ".join(content["payload"][0]["data"]["text/plain"].split())
    assert "%upload [--if-exists WHAT]" in text
    assert "%%upload" not in text
    assert "fail, replace or append" in text
    assert "100, 0.05 or 5%." in text
    content, _ = kernel.run("%download?")
    assert "%%download" in content["payload"][0]["data"]["text/plain"]


def test_completion(kernel, csv_file, look, tmp_path):
    """Files, tables, options and their values are offered where they belong."""
    csv_file("a", "1", name="flights.csv")
    csv_file("a", "1", name="it is.csv")
    (tmp_path / "folder").mkdir()
    look('CREATE TABLE flights_2013 (a int); CREATE TABLE "Big" (a int)')
    look("CREATE SCHEMA s; CREATE TABLE s.flights_2014 (a int)")
    # Before there is a connection, a key press makes none.
    assert "%upload flights.csv flights_2013" not in kernel.complete("%upload flights.csv fli")
    kernel.good("import taskwidgets as tw; tw.connect()")
    assert "%upload flights.csv" in kernel.complete("%upload fl")
    assert "%upload ./folder/" in kernel.complete("%upload ./fo")
    assert "%upload it is.csv" not in kernel.complete("%upload ")
    tables = "%upload flights.csv "
    assert set(kernel.complete(tables)) >= {  # and, of jedi, what Python would have there
        f"{tables}flights_2013", f"{tables}s.flights_2014", f'{tables}"Big"'
    }  # fmt: skip
    assert f"{tables}s.flights_2014" in kernel.complete(f"{tables}s.fl")
    assert f"{tables}t --if-exists " in kernel.complete(f"{tables}t --if-ex")
    assert f"{tables}t --if-exists replace" in kernel.complete(f"{tables}t --if-exists rep")
    assert "x = 3\n%download flights_2013" in kernel.complete("x = 3\n%download fli")
    assert "%download flights_2013 flights.csv" in kernel.complete("%download flights_2013 fl")
    assert "%%download flights.csv" in kernel.complete("%%download fl")
    assert "%jobs interrupted" in kernel.complete("%jobs inter")


def test_completion_does_not_wait_for_a_database(kernel, look):
    """Where the database does not answer, the names of the last time are offered."""
    look("CREATE TABLE flights (a int)")
    kernel.good("import taskwidgets as tw; tw.connect()")
    assert "%download flights" in kernel.complete("%download fl")
    # From here on, no connection comes out of the pool: all are taken.
    kernel.good(
        "taken = []\n"
        "pool = tw.connect().engine.pool\n"
        "pool._timeout = 1e6\n"  # so long would one wait who waits
        "while pool.checkedout() < pool.size() + pool._max_overflow:\n"
        "    taken.append(tw.connect().engine.connect())"
    )
    assert "%download flights" in kernel.complete("%download fl")
    kernel.good("for one in taken: one.close()")
