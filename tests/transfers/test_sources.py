"""What is refused before anything is created: with a class of error and a text that helps."""

import time

import pytest
from fix_databases import Look

from taskwidgets import Workspace
from taskwidgets.errors import (
    DatabaseError,
    JobFailed,
    OptionError,
    RightsMissing,
    SourceError,
    TargetError,
    TargetExists,
    TaskwidgetsError,
)
from taskwidgets.transfers.sources import _PIECES, _without_end, is_query


@pytest.fixture
def table(look: Look):
    look("CREATE TABLE flights AS SELECT n AS id, n AS origin FROM generate_series(1, 9) AS n")
    look("CREATE TABLE wall (line text)")
    look(
        "CREATE FUNCTION scribble() RETURNS int LANGUAGE plpgsql AS"
        " $$BEGIN INSERT INTO wall VALUES ('was here'); RETURN 1; END$$"
    )


@pytest.fixture
def refused(workspace: Workspace, look: Look, tmp_path, table):
    """A function: the call raises such an error, and nothing is created; gives its text."""

    def check(source, kind, path="out.csv", **options):
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(TaskwidgetsError) as caught:
            workspace.download(source, tmp_path / path, **options)
        assert type(caught.value) is kind, repr(caught.value)
        assert look.untouched()
        assert sorted(tmp_path.rglob("*")) == before
        assert look.one("SELECT count(*) FROM wall") == 0
        assert look.one("SELECT count(*) FROM flights") == 9
        return str(caught.value)

    return check


@pytest.mark.parametrize(
    ("source", "near"),
    [("flihgts", "flights"), ("FLIGHTS", "flights"), ("salse.orders", "sales.orders"), ("zzz", "")],
)
def test_a_table_that_is_not_there_is_named_with_the_nearest(refused, look, source, near):
    """The error names what was asked for, and what is there under a name much like it."""
    look("CREATE SCHEMA sales")
    look("CREATE TABLE sales.orders (a int)")
    text = refused(source, SourceError)
    assert repr(source) in text
    assert ("did you mean" in text) is bool(near)
    assert near in text


def test_a_table_or_column_that_may_not_be_read_is_told(reader, look, table):
    """Without SELECT on a table, one of its columns, or what a query reads: RightsMissing."""
    role, exports = reader
    for source in ("flights", "SELECT * FROM flights", "SELECT 1 FROM flights"):
        with pytest.raises(RightsMissing, match="flights"):
            exports.start(source)
    look(f"GRANT SELECT (id) ON flights TO {role}")
    for source in ("flights", "SELECT * FROM flights", "SELECT origin FROM flights"):
        with pytest.raises(RightsMissing, match="flights"):
            exports.start(source)
    assert look.untouched()
    assert list(exports.folder.iterdir()) == []
    assert exports.run("SELECT id FROM flights WHERE id < 3") == b"id\n1\n2\n"


@pytest.mark.parametrize(
    ("query", "line", "under"),
    [
        ("SELECT oriign FROM flights", 1, "oriign"),
        ("  \n\n  SELECT id,\n\t oriign FROM flights", 4, "oriign"),
        ("SELECT 'ä☃', id FROM\n  fligths\nWHERE true", 2, "fligths"),
        ("SELECT * FROM flights WHERE", None, None),
        ("SELECT id FRM flights f", 1, "flights"),
        ("-- remark\nSELECT id FROM flights\nWHERE id = 'x' -- more", 3, "'x'"),
        ("SELECT nosuch(1)", 1, "nosuch"),
        ("SELECT 1; SELEC 2", 1, "SELEC"),
        ("SELECT ) FROM flights", 1, ")"),
        ("WITH x AS (SELECT 1) SELECT * FROM y", 1, "y"),
        ("SELECT $1", 1, "$1"),
        ("SELECT '%', oops, '{}'", 1, "oops"),
    ],
)
def test_a_wrong_query_is_shown_with_the_place(refused, query, line, under):
    """A syntax error, or a name that is not there, stands with its line and a caret under it."""
    text = refused(query, SourceError)
    assert text.startswith("the query has an error: ")
    if line is None:
        return
    shown, caret = text.split("\n")[1:3]
    assert shown.startswith(f"line {line}: ")
    assert shown.removeprefix(f"line {line}: ") == query.split("\n")[line - 1]
    assert caret.strip() == "^"
    assert shown[caret.index("^") :].startswith(under)
    assert shown[: caret.index("^")].count("\t") == caret.count("\t")


def test_other_errors_of_a_query_are_the_sources(refused):
    """Errors that Postgres tells without a place: division by zero, a schema that is not there."""
    assert "division by zero" in refused("SELECT 1 / 0", SourceError)
    assert "nowhere" in refused("SELECT nowhere.f()", SourceError)
    assert "HINT" in refused("SELECT flights.iid FROM flights", SourceError)


WRITING = [
    "INSERT INTO flights VALUES (1, 2)",
    "insert\ninto flights select 1, 2",
    "DELETE FROM flights",
    "/* x */ UPDATE flights SET id = 1",
    "MERGE INTO flights USING wall ON true WHEN MATCHED THEN DELETE",
    "WITH x AS (DELETE FROM flights RETURNING *) SELECT * FROM x",
    "WITH x AS (SELECT 1) INSERT INTO wall SELECT 'a'",
    "WITH x AS (SELECT 1) INSERT INTO wall SELECT 'a' RETURNING *",
    "WITH x AS (INSERT INTO wall VALUES ('a')) SELECT 1",
    "SELECT 1; DROP TABLE flights",
    "SELECT 1; DELETE FROM flights; --",
    "SELECT 1; SELECT 2",
    "SELECT 1;; SELECT 2;",
    "SELECT * INTO other FROM flights",
    "SELECT * FROM flights FOR UPDATE",
    "SELECT * FROM flights FOR KEY SHARE",
    "COPY flights TO STDOUT",
    "DO $$BEGIN DELETE FROM flights; END$$",
    "CALL nothing()",
    "EXPLAIN ANALYZE DELETE FROM flights",
    "TRUNCATE flights",
    "DROP TABLE flights",
    "CREATE TABLE x AS SELECT 1",
    "SELECT 'a\\'; DROP TABLE flights; --",
    "COMMIT",
    "commit;",
    "ROLLBACK",
    "ROLLBACK TO s",
    "SAVEPOINT s",
    "RELEASE s",
    "END",
    "ABORT;",
    "/* x */ COMMIT AND CHAIN",
    "START TRANSACTION READ WRITE",
    "SELECT 1; COMMIT",
    "SELECT 1; COMMIT; SELECT 2",
    "SELECT 1; SAVEPOINT s",
    "SELECT 1; ROLLBACK; DELETE FROM flights",
    "RESET ROLE",
    "PREPARE TRANSACTION 'x'",
    "DISCARD ALL",
    "LOAD 'auto_explain'",
]


def test_what_writes_is_refused(refused):
    """Whatever is not one query that only reads is refused, in words, before it is run."""
    for query in WRITING:
        assert "read" in refused(query, OptionError), query


LEAVING = [
    "SELECT 1) TO STDOUT; DROP TABLE flights; --",
    "SELECT 1) TO STDOUT; DELETE FROM flights; COPY (SELECT 1",
    "SELECT 1) AS source LIMIT 0; DROP TABLE flights; --",
    "SELECT 1 /* ) TO STDOUT; DROP TABLE flights;",
    "SELECT 1 $taskwidgets$; DROP TABLE flights; --",
    "SELECT 1\n$taskwidgets$; CLOSE c; DELETE FROM flights; --",
    'SELECT 1 AS x"; DROP TABLE flights; --',
    "SELECT 1) TO STDOUT; COMMIT; COPY (SELECT 1",
    "SELECT 1) AS source LIMIT 0; COMMIT; SELECT 1 FROM (SELECT 1",
    "VALUES (1)); DELETE FROM flights; --",
]


def test_text_that_leaves_the_query_is_refused(refused):
    """Text that would close the parenthesis or the quote around it is a syntax error."""
    for query in LEAVING:
        refused(query, SourceError)


@pytest.mark.parametrize(
    "query",
    [
        "SELECT scribble()",
        "SELECT nextval('counter')",
        "SELECT lo_create(0) FROM flights",
        "SELECT set_config('transaction_read_only', 'off', true), scribble()",
    ],
)
def test_a_function_that_writes_fails_in_the_read_only_transaction(
    workspace, look, tmp_path, table, query
):
    """A SELECT that calls a function which writes fails, says why, and has written nothing."""
    look("CREATE SEQUENCE counter")
    job = workspace.download(query, tmp_path / "out.csv")
    with pytest.raises(JobFailed, match=r"read-only|read-write") as caught:
        job.wait(60)
    assert isinstance(caught.value.__cause__, OptionError | DatabaseError)
    assert "COPY" not in job.error
    assert look.one("SELECT count(*) FROM wall") == 0
    assert look("SELECT last_value, is_called FROM counter") == [(1, False)]
    assert look.staging() == []
    job.terminate()
    job.join(None)
    assert list(tmp_path.iterdir()) == []


def test_an_error_in_the_middle_of_a_query_is_told_as_it_is(workspace, look, tmp_path, table):
    """A division by zero in a later row fails the job with Postgres's words, nothing around."""
    job = workspace.download("SELECT 1 / (id - 5) FROM flights", tmp_path / "out.csv")
    with pytest.raises(JobFailed):
        job.wait(60)
    assert job.error == "division by zero"


OPTIONS = [
    ({"delimiter": ""}, "delimiter"),
    ({"delimiter": ";;"}, "delimiter"),
    ({"delimiter": "ä"}, "delimiter"),
    ({"delimiter": '"'}, "delimiter"),
    ({"delimiter": "\n"}, "delimiter"),
    ({"delimiter": "\0"}, "delimiter"),
    ({"delimiter": None}, "delimiter"),
    ({"null_value": None}, "null_value"),
    ({"null_value": "a,b"}, "null_value"),
    ({"null_value": 'a"'}, "null_value"),
    ({"null_value": "\r"}, "null_value"),
    ({"null_value": "a\0"}, "null_value"),
    ({"header": "no"}, "header"),
    ({"quote_all": 1}, "quote_all"),
    ({"escape_formulas": None}, "escape_formulas"),
    ({"if_exists": "append"}, "if_exists"),
    ({"workers": 0}, "workers"),
    ({"max_rate": 0}, "max_rate"),
]


def test_bad_options_are_named(refused):
    """An option without sense is an OptionError that names it."""
    for options, word in OPTIONS:
        assert word in refused("flights", OptionError, **options), options


def test_a_source_that_is_none_is_refused(refused):
    """An empty source, or one that is no text, is an OptionError."""
    for source in ("", "  \n", "a\0b", None, 7):
        assert "source" in refused(source, OptionError)


def test_a_foreign_table_that_cannot_be_read_is_told(refused, look):
    """Of a foreign table the server's own word is given, before anything is created."""
    look("CREATE FOREIGN DATA WRAPPER nothing")
    look("CREATE SERVER far FOREIGN DATA WRAPPER nothing")
    look("CREATE FOREIGN TABLE abroad (a int) SERVER far")
    assert "no handler" in refused("abroad", DatabaseError)


def test_bad_paths_are_told_apart(refused, tmp_path):
    """No such folder, a file as folder, a directory, a file that is there, names that cannot be."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("old")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    assert "does not exist" in refused("flights", TargetError, "no/out.csv")
    assert "not a directory" in refused("flights", TargetError, "file/out.csv")
    assert "is a directory" in refused("flights", TargetError, "folder")
    assert "is a directory" in refused("flights", TargetError, "folder", if_exists="replace")
    assert "if_exists" in refused("flights", TargetExists, "file")
    assert "exists" in refused("flights", TargetExists, "dangling")
    assert "too long" in refused("flights", TargetError, "x" * 300)
    refused("flights", TargetError, "a\0b")
    assert "not a regular file" in refused("flights", TargetError, "/dev/null", if_exists="replace")
    assert (tmp_path / "file").read_text() == "old"


def test_a_folder_that_is_not_writable_is_told(refused, read_only_folder):
    """A folder in which no file can be made, even by root: a mount that only reads."""
    text = refused("flights", TargetError, read_only_folder / "out.csv")
    assert "not writable" in text
    assert str(read_only_folder) in text


def test_is_query_is_quick_on_any_text():
    """Many comments before what is no query are passed over in linear time."""

    def takes(times):
        began = time.thread_time()
        assert not is_query("/* a */ -- b\n ( " * times + "x")
        assert not is_query("/*" * 4 * times)
        assert is_query("/* a */ -- b\n ( " * times + "select 1")
        return time.thread_time() - began

    few = min(takes(1_000) for _ in range(5))
    assert min(takes(8_000) for _ in range(5)) < 8 * 3 * few  # 64 times, were it quadratic


def test_names_that_begin_like_a_query_are_names(exports, look):
    """A table whose name begins with a key word is exported as the table it is."""
    for name in ("selection", "with_x", "values1", "table_a", "tables", "select_"):
        look(f"CREATE TABLE {name} AS SELECT 1 AS a")
        assert exports.run(name, f"{name}.csv") == b"a\n1\n"


@pytest.mark.parametrize("opening", ["$a$", "$$", "'", '"', "E'", "/*"])
def test_what_is_not_closed_goes_to_the_end(opening):
    """Its end is looked for once, not for each of many: time is in proportion to the text."""
    text = f"SELECT 1 {opening} x; " + "y " * 1000
    last = [*_PIECES.finditer(text)][-1]
    assert last.end() == len(text)
    assert last.start() == text.index(opening)
    assert _without_end(text) == text.rstrip()


def test_many_different_tags_are_one_piece():
    """The first of them is not closed, so the others are in it."""
    text = "SELECT " + "".join(f"$t{number}$" for number in range(10_000))
    assert len([*_PIECES.finditer(text)]) == 3


def test_a_query_that_no_person_wrote_is_refused(workspace, tmp_path):
    """OptionError says how long it is, and how long it may be."""
    with pytest.raises(
        OptionError, match=r"a query of 1,000,0\d\d characters; 1,000,000 are the most"
    ):
        workspace.download("SELECT " + "1" * 1_000_000, tmp_path / "out.csv")


def test_a_table_may_be_called_like_a_statement(workspace, look, tmp_path):
    """Only what is no table's name is taken for a statement."""
    for number, name in enumerate(("commit", "update log", "end")):
        look(f'CREATE TABLE "{name}" AS SELECT {number} AS n')
        workspace.download(name, tmp_path / f"{number}.csv").wait()
        assert (tmp_path / f"{number}.csv").read_text() == f"n\n{number}\n"
