"""upload, download and preview as commands: options, output in a pipe, JSON, exit codes."""

from __future__ import annotations

import inspect
import json
import re
import signal
import socket
import subprocess

import pytest
from fix_exports import copied
from fix_scripts import ROOT

import taskwidgets as tw
from taskwidgets.options import DOWNLOAD, PREVIEW, RESUME, UPLOAD, arguments
from taskwidgets.tabular.detection.overrides import OVERRIDES


def test_there_and_back(run, many_rows, look, tmp_path):
    """A file goes into a table and out again; each says what it did; once more does nothing."""
    path = many_rows(2000)
    code, out, err = run("upload", path, "t")
    assert (code, err) == (0, "")
    assert re.search(r"job 1 \(many\.csv → t\): 2,000 rows, [\d.]+ kB in .* s, sha256 \w{12}…", out)
    assert look.contents("t")[0] == 2000
    code, out, err = run("download", "t", "copy.csv")
    assert (code, err) == (0, "")
    assert (tmp_path / "copy.csv").read_bytes() == copied(look.url, "SELECT * FROM t")
    code, out, err = run("upload", path, "t")
    assert (code, err) == (0, "")
    assert "already loaded: job 1" in out
    assert look.contents("t")[0] == 2000


def test_a_query_from_standard_input(start, look, tmp_path):
    """- reads the query, as it is, from standard input."""
    query = "-- what \"percent\" 100%\nSELECT 'it''s' AS \"a b\", 50 % 7 AS rest\n"
    code, _, err = start("download", "-", "q.csv.gz", stdin=subprocess.PIPE).end(query)
    assert (code, err) == (0, "")
    code, _, err = start("download", "--", query, "q.csv").end()
    assert (code, err) == (0, "")
    assert (tmp_path / "q.csv").read_text() == "a b,rest\nit's,1\n"
    assert (tmp_path / "q.csv.gz").exists()


def test_options_reach_the_job(run_json, csv_file, look):
    """Options become the arguments of the same names."""
    path = csv_file("a;b;c", "1,5;ja;01.02.2024", "-;nein;", "x;ja;", name="odd.txt")
    document = run_json(
        "upload", path, "public.odd", "--on-error", "reject", "--max-rejects", "50%", "--types",
        "a=numeric(4,1)", "--delimiter", ";", "--decimal", ",", "--null-values", "-",
        "--null-values", "", "--booleans", "b=ja,nein", "--date-formats", "c=%d.%m.%Y",
        "--header", "1", "--workers", "2", "--max-rate", "5MB",
    )  # fmt: skip
    assert document["state"] == "completed"
    assert document["exit_code"] == 0
    assert document["receipt"]["rows_rejected"] == 1
    assert look.types("odd") == {"a": "numeric(4,1)", "b": "boolean", "c": "date"}
    assert sorted([str(cell) for cell in row] for row in look.rows("odd")) == [
        ["1.5", "True", "2024-02-01"],
        ["None", "False", "None"],
    ]


def test_json_lines_tell_how_far_it_is(start, many_rows):
    """Each line is a document; the last one has the receipt."""
    command = start("upload", many_rows(4000), "t", "--json-lines", "--max-rate", "1.5e5")
    _, out, err = command.end()
    lines = [json.loads(line) for line in out.splitlines()]
    assert err == ""
    assert {line["job"] for line in lines} == {1}
    assert "running" in {line["state"] for line in lines[:-1]}
    assert lines[-1]["receipt"]["rows_loaded"] == lines[-1]["progress"]["rows"] == 4000


def test_a_pipe_gets_plain_lines(start, many_rows):
    """Without a terminal, progress is whole lines, without a cursor's movements or colours."""
    command = start("upload", many_rows(4000), "t", "--max-rate", "1.5e5")
    code, out, _ = command.end()
    assert code == 0
    assert "\x1b" not in out
    assert "\r" not in out
    assert all(line.startswith("job 1 (many.csv → t)") for line in out.splitlines())
    assert len(out.splitlines()) >= 3


def test_a_reader_that_leaves_does_not_stop_it(start, many_rows, look):
    """Behind `| head`, the load goes on to its end."""
    command = start("upload", many_rows(4000), "t", "--max-rate", "1.5e5")
    command.line()
    command.process.stdout.close()
    assert command.process.wait(120) == 0
    assert command.process.stderr.read() == ""
    command.process.stdout = None
    assert look.contents("t")[0] == 4000


def test_a_bad_row_is_exit_code_one(run, csv_file, look):
    """A failed job says line and column, and how to go on with it; resume does, when mended."""
    path = csv_file("a,b", "1,2", "x,4")
    code, _, err = run("upload", path, "t", "--types", "a=integer")
    assert code == 1
    assert err.startswith("taskwidgets: job 1 (file.csv → t) failed: ")
    assert "line 3" in err
    assert "taskwidgets resume 1" in err
    assert not look.exists("t")
    path.write_text(path.read_text().replace("x", "3"))
    assert run("resume", 1)[0] == 0
    assert look.rows("t") == [(1, 2), (3, 4)]


def test_errors_are_one_sentence(run, run_json, csv_file, look, tmp_path):
    """What is refused before there is a job: one message, no traceback, options in its words."""
    code, out, err = run("upload", "absent.csv", "t")
    assert (code, out) == (1, "")
    assert err == f"taskwidgets: {tmp_path / 'absent.csv'} does not exist\n"
    look("CREATE TABLE t (a int)")
    code, out, err = run("upload", csv_file("a", "1"), "t")
    assert code == 1
    assert "--if-exists" in err
    assert "if_exists" not in err
    document = run_json("upload", "absent.csv", "t", code=1)
    assert document["error"]["type"] == "SourceError"


@pytest.mark.sample(6)
@pytest.mark.parametrize(
    ("arguments_", "words"),
    [
        (["upload", "f.csv"], "Missing argument"),
        (["upload", "f.csv", "t", "--if-exists", "maybe"], "--if-exists 'maybe'"),
        (["upload", "f.csv", "t", "--max-rate", "fast"], "bytes per second"),
        (["upload", "f.csv", "t", "--types", "integer"], "column=type"),
        (["upload", "f.csv", "t", "--booleans", "a=ja"], "paid=ja,nein"),
        (["upload", "f.csv", "t", "--header", "perhaps"], "number of header rows"),
        (["upload", "f.csv", "t", "--workers", "0"], "workers"),
        (["upload", "f.csv", "t", "--max-rejects", "5"], "--on-error"),
        (["download", "t", "f.csv", "--delimiter", "ab"], "delimiter"),
        (["preview", "f.csv", "--rows", "many"], "whole number"),
        (["prune", "--older-than", "soon"], "30d"),
        (["jobs", "done"], "there is no state"),
        (["resume", "seven"], "integer"),
        (["terminate", "1"], "--yes"),
        (["unload"], "unload"),
    ],
)
def test_wrong_usage_is_exit_code_two(run, csv_file, arguments_, words):
    """An option that makes no sense is named on standard error."""
    csv_file("a", "1", name="f.csv")
    code, out, err = run(*arguments_)
    assert (code, out) == (2, "")
    assert words in err


def test_preview_needs_no_database(run, csv_file):
    """Decisions and rows, as text and as JSON, with no server anywhere."""
    path = csv_file("a;b", "1;x", "2;y")
    code, out, err = run("preview", path, url="postgresql://nobody@127.0.0.1:1/none")
    assert (code, err) == (0, "")
    assert "delimiter: semicolon" in out
    code, out, _ = run("preview", path, "--rows", 1, "--full", "--json")
    document = json.loads(out)
    assert document["columns"] == [
        {"name": "a", "type": "integer"},
        {"name": "b", "type": "text"},
    ]
    assert (document["rows"], document["total"]) == ([["1", "x"]], 2)
    assert document["decisions"]["delimiter"]["value"] == ";"


def test_a_password_is_masked(run, csv_file, password_server):
    """Neither a refused login nor a list says it."""
    url = password_server.url(password="wrong-secret")
    code, out, err = run("jobs", "--database", url)
    assert code == 1
    assert "refused the login" in err
    url = password_server.url(password="hunter2xyz")
    for command in (["jobs"], ["doctor"], ["doctor", "--json"],
                    ["upload", str(csv_file("a", "1")), "secret_t", "--again", "--if-exists",
                     "replace", "--json"]):  # fmt: skip
        code, out_, err_ = run(*command, url=url)
        assert code == 0, (out_, err_)
        out, err = out + out_, err + err_
    assert "hunter2xyz" not in out + err
    assert "wrong-secret" not in out + err


EVIL = "[red]<img src=x onerror=alert(1)>\x1b[2J\n'\"\u202e.csv"


def test_names_stay_text(run, csv_file, look):
    """Markup and control signs in the names of files and tables do nothing to a terminal."""
    path = csv_file("a", "1", "x", name=EVIL)
    table = '"[b]t\x1b[31m\nx"'
    said = [
        run("upload", path, table, "--types", "a=integer"),
        run("show", 1),
        run("jobs"),
        run("upload", path, table, "--types", "a=integer", "--on-error", "reject"),
        run("rejects", 2),
        run("terminate", 1, "--yes"),
        run("preview", path),
        run("upload", "absent" + EVIL, "t"),
    ]
    assert [code for code, _, _ in said] == [1, 0, 0, 0, 0, 0, 0, 1]
    everything = "".join(out + err for _, out, err in said)
    assert not re.findall(r"[\x00-\x09\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", everything)
    assert "[red]<img src=x onerror=alert(1)>" in everything
    assert "[b]t" in everything
    assert look.rows("[b]t\x1b[31m\nx") == [(1,)]


# ---------------------------------------------------------------------- options and arguments


@pytest.mark.parametrize(
    ("function", "options", "beside"),
    [
        # No kernel hands a command's job over, and no secret is to be seen in a list of processes.
        (
            tw.upload,
            UPLOAD,
            {"source", "table", "storage_options", "client", "where", "workspace", "reading"},
        ),
        (
            tw.download,
            DOWNLOAD,
            {"source", "path", "storage_options", "client", "where", "workspace"},
        ),
        (tw.preview, PREVIEW, {"source"}),
        (tw.resume, RESUME, {"job_id", "client", "where", "workspace"}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_each_argument_is_an_option(run, function, options, beside):
    """What the Python function takes, the command takes, and its help has it."""
    wanted = set(inspect.signature(function).parameters) - beside
    if function is tw.upload:  # **reading: how the file is written
        wanted |= set(OVERRIDES)
    assert {option.name for option in options} == wanted
    code, out, _ = run(function.__name__, "--help")
    assert code == 0
    assert all(re.search(rf"{option.flag}\b", out) for option in options)


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ({"max_rate": "500"}, {"max_rate": 500}),
        ({"max_rate": "2e6"}, {"max_rate": 2e6}),
        ({"max_rate": "1.5 MB/s"}, {"max_rate": 1.5e6}),
        ({"delimiter": "\\t", "line_terminator": "\\r\\n"},
         {"delimiter": "\t", "line_terminator": "\r\n"}),
        ({"header": "no"}, {"header": False}),
        ({"header": "2", "skip_initial_space": "yes"}, {"header": 2, "skip_initial_space": True}),
        ({"max_rejects": "100"}, {"max_rejects": 100}),
        ({"max_rejects": "0.5"}, {"max_rejects": 0.5}),
        ({"types": ["text"]}, {"types": "text"}),
        ({"types": ["a=b=integer", "c=numeric(4,1)"]},
         {"types": {"a=b": "integer", "c": "numeric(4,1)"}}),
        ({"again": False, "types": [], "null_values": None, "encoding": None}, {}),
        ({"again": True, "null_values": ["", "NA"]}, {"again": True, "null_values": ["", "NA"]}),
    ],
)  # fmt: skip
def test_texts_become_values(given, made):
    """Each option's text is read as the function's argument."""
    assert arguments(UPLOAD, given) == made


def test_the_exit_codes_are_in_the_help_and_the_readme(run):
    """--help lists each exit code with its meaning; README names them all."""
    from taskwidgets.cli.exits import MEANINGS, Exit

    code, out, _ = run("--help")
    assert code == 0
    assert set(MEANINGS) == set(Exit)
    assert all(re.search(rf"^ +{int(one)} +{re.escape(MEANINGS[one])}$", out, re.M) for one in Exit)
    (told,) = re.findall(r"Exit codes:([^.]+)\.", (ROOT / "README.md").read_text())
    assert [int(number) for number in re.findall(r"\d+", told)] == sorted(Exit)


def test_help_imports_nothing_heavy(run_script):
    """Help comes at once: without pandas, SQLAlchemy, rich or the widgets."""
    out, err = run_script(
        """
        import sys
        from taskwidgets.cli import main
        sys.argv = ["taskwidgets", "--help"]
        try:
            main()
        except SystemExit:
            pass
        heavy = {"pandas", "numpy", "sqlalchemy", "psycopg2", "rich", "ipywidgets", "IPython"}
        print(sorted(heavy & set(sys.modules)))
        """,
        fresh=True,
    )
    assert err == ""
    assert out.splitlines()[-1] == "[]"


@pytest.mark.parametrize("command", [["jobs"], ["upload", "f.csv", "t"]])
def test_ctrl_c_before_there_is_a_job(start, command):
    """A server that takes connections and says nothing can be left at once."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        url = f"postgresql://nobody@127.0.0.1:{deaf.getsockname()[1]}/none"
        begun = start(*command, url=url)
        with deaf.accept()[0]:
            begun.process.send_signal(signal.SIGINT)
            assert begun.end() == (130, "", "taskwidgets: stopped\n")
