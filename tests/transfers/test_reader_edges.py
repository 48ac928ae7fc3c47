"""Readers at their edges: odd values, odd words, lost servers, TLS; never a wrong byte or code."""

from __future__ import annotations

import fcntl
import io
import re
import socket
import termios
import threading
from array import array
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psutil
import psycopg2
import pytest
from fix_databases import Look, run_sql
from fix_exports import copied
from fix_servers import PrivateServer, children, plain, wait_until
from psycopg2 import sql

from taskwidgets import Workspace
from taskwidgets.embedded import EmbeddedServer
from taskwidgets.embedded.binaries import Binaries
from taskwidgets.errors import DatabaseError, RightsMissing, ServerUnreachable
from taskwidgets.store.database import Database
from taskwidgets.transfers.pipe import PipeReader
from taskwidgets.transfers.psql import PsqlReader
from taskwidgets.transfers.reader import PIPE_BYTES, CopierReader, CopyOut

AnyReader = PipeReader | PsqlReader | CopierReader
OpenReader = Callable[..., AnyReader]

READERS: dict[str, type[PipeReader] | type[PsqlReader] | type[CopierReader]] = {
    "pipe": PipeReader,
    "psql": PsqlReader,
    "copier": CopierReader,
}

# The readers' sessions: without a workspace, a test has no others of that name.
SESSIONS = """
    SELECT pid FROM pg_stat_activity
    WHERE datname = current_database() AND application_name LIKE 'taskwidgets%'
"""
BLOCKED = f"{SESSIONS} AND wait_event = 'ClientWrite'"  # nobody takes what they send
# 100 GB that come row by row; in the FROM clause the numbers would all be made first.
ENDLESS = "COPY (SELECT repeat('x', 1000), generate_series(1, 100000000)) TO STDOUT"


@pytest.fixture(params=READERS)
def open_reader(request: pytest.FixtureRequest, database_url: str) -> Iterator[OpenReader]:
    """A factory of readers of each kind: ``open_reader(*begin)``; closed with the test."""
    made: list[AnyReader] = []

    def make(*begin: str, url: str = database_url) -> AnyReader:
        database = Database(url)
        made.append(READERS[request.param](database.url, database.connect_arguments, begin))
        return made[-1]

    yield make
    for one in made:
        one.close()


def asked(statement: str) -> CopyOut:
    """A whole statement as a reader wants it."""
    match = re.fullmatch(r"COPY (.*) TO STDOUT(?: (?:WITH )?\((.*)\))?", statement, re.DOTALL)
    assert match is not None
    what = match[1].removeprefix("(").removesuffix(")")
    return CopyOut(what if match[1].startswith("(") else f"TABLE {what}", match[2] or "")


def read(reader: AnyReader, statement: str) -> tuple[bytes, int]:
    """All bytes of a statement, and how many rows they are said to be."""
    pieces = reader.read(asked(statement))
    return b"".join(map(bytes, pieces)), pieces.rows


def is_blocked(reader: AnyReader, look: Look) -> bool:
    """Whether the server waits for somebody to take what it has."""
    if not isinstance(reader, PipeReader):
        return bool(look(BLOCKED))
    held = array("i", [0])
    with reader._pipe.open() as pipe:
        fcntl.ioctl(pipe, termios.FIONREAD, held)
    return held[0] > PIPE_BYTES - 8192


def reference(url: str, statement: str) -> tuple[bytes, int]:
    """The same by the driver, in this process."""
    file = io.BytesIO()
    with closing(psycopg2.connect(plain(url))) as connection, connection.cursor() as cursor:
        cursor.copy_expert(statement, file)
        return file.getvalue(), cursor.rowcount


def is_gone(pid: int) -> bool:
    """Whether a process has ended, be it that nobody has asked yet how."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def no_trace(look: Look) -> None:
    """Neither a process of ours nor a session of theirs."""
    assert children() == []
    wait_until(lambda: not look(SESSIONS), "for the sessions' end")


# ---------------------------------------------------------------------- bytes

TABLES = {
    "awkward values": (
        "a text, b text",
        r"""('say "hi"', 'it''s'), (E'two\nlines', E'\r\n'), (NULL, ''), ('', NULL),
        ('back\slash', '\N'), ('\.', E'\\.\n\\.'), (E'a\tb', E'\t'), ('äöü ☃ 𝄞', '日本'),
        ('taskwidgets:7', E'taskwidgets:7\n'), ('ERROR:  42P01: no', ''), (',;|', ' ')""",
    ),
    "no rows": ("a text, b int", None),
    "one empty value": ("a text", "('')"),
    "other types": (
        "a bytea, b jsonb, c timestamptz, d float8, e text[]",
        r"""('\x00ff0a', '{"a": "\"\n"}', '2013-01-01', 'NaN', '{a,NULL,"x\ny"}')""",
    ),
}
OPTIONS = ["FORMAT csv", "FORMAT csv, HEADER, FORCE_QUOTE *", "FORMAT text", "FORMAT binary"]


@pytest.mark.sample(12)
@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("options", OPTIONS)
def test_the_bytes_are_those_of_the_driver(
    open_reader: OpenReader, look: Look, table: str, options: str
) -> None:
    """Whatever the values and the format, bytes and number of rows are as the driver gets them."""
    columns, values = TABLES[table]
    look(f"CREATE TABLE t ({columns})")
    if values is not None:
        look(f"INSERT INTO t VALUES {values}")
    reader = open_reader()
    for source in ("t", "(SELECT * FROM t)"):
        statement = f"COPY {source} TO STDOUT WITH ({options})"
        got = read(reader, statement)
        assert got == reference(look.url, statement)
        assert got[1] == look.one("SELECT count(*) FROM t")


def test_a_reader_that_is_asked_slowly_loses_nothing(open_reader: OpenReader, look: Look) -> None:
    """With all pipes full, the rows wait; those that come at the very end are there, too."""
    look("CREATE TABLE t AS SELECT n, md5(n::text) AS a FROM generate_series(1, 200000) AS n")
    reader = open_reader()
    pieces = reader.read(asked("COPY t TO STDOUT"))
    parts = []
    for number, piece in enumerate(pieces):
        parts.append(bytes(piece))
        if number == 0:
            wait_until(lambda: is_blocked(reader, look), "for the server's waiting")
    assert (b"".join(parts), pieces.rows) == reference(look.url, "COPY t TO STDOUT")


def test_statements_follow_each_other_in_one_session(open_reader: OpenReader, look: Look) -> None:
    """One reader reads many statements, each with bytes and rows of its own, in one backend."""
    look("CREATE TABLE t AS SELECT n, repeat('x', n % 50) AS a FROM generate_series(1, 3000) AS n")
    reader = open_reader()
    backends = set()
    for number in range(60):
        low, high = number * 50, number * 50 + number
        statement = f"COPY (SELECT * FROM t WHERE n > {low} AND n <= {high}) TO STDOUT (FORMAT csv)"
        assert read(reader, statement) == reference(look.url, statement)
        backends.add(read(reader, "COPY (SELECT pg_backend_pid()) TO STDOUT"))
    assert len(backends) == 1


NAMES = [
    'say "hi"', "it's", "semi;colon", "back\\slash", "\\q", "\\g nothing", "two\nlines", ":name",
    ":ROW_COUNT", ":'ROW_COUNT'", "a::int", "-- no comment", "/* nor this", "*/", "$$", "$1", "%s",
    "\\", "'", '"', "{}", "☃", "a\n\\! false\nb",
]  # fmt: skip


def test_names_and_literals_reach_the_server_as_they_are(
    open_reader: OpenReader, look: Look
) -> None:
    """No quoted name or literal is taken for a variable, a comment, an end or a command."""
    reader = open_reader()
    with closing(psycopg2.connect(plain(look.url))) as connection:
        for name in NAMES:
            look(
                sql.SQL("CREATE TABLE {0} AS SELECT {1} AS {0}").format(
                    sql.Identifier(name), sql.Literal(name)
                )
            )
            null = "x" if "\n" in name or '"' in name else name  # COPY takes no others
            statement = sql.SQL(
                "COPY (SELECT *, {1} AS {0} FROM {0} WHERE {0} = {1})"
                " TO STDOUT WITH (FORMAT csv, HEADER, NULL {2})"
            ).format(sql.Identifier(name), sql.Literal(name), sql.Literal(null))
            spoken = statement.as_string(connection)
            got = read(reader, spoken)
            assert got == reference(look.url, spoken), name
            assert got[1] == 1, name


def test_old_style_strings_are_read_as_the_server_reads_them(
    open_reader: OpenReader, look: Look
) -> None:
    """A database in which a backslash escapes in plain strings gives the same bytes."""
    database = look.one("SELECT current_database()")
    look(f"ALTER DATABASE {database} SET standard_conforming_strings = off")
    statement = r"COPY (SELECT '\\', 'a\'; \q :x', E'\'', 'c') TO STDOUT WITH (FORMAT csv)"
    assert read(open_reader(), statement) == reference(look.url, statement)


# ---------------------------------------------------------------------- begin


def test_the_first_statements_take_effect(open_reader: OpenReader, look: Look) -> None:
    """BEGIN, SET and DO at the beginning hold for all that is read in the session."""
    reader = open_reader(
        "SET \"DateStyle\" = 'German'",
        "SET taskwidgets.test = E'semi;colon \\'\"\n :x -- \\\\'",
        "DO $$BEGIN PERFORM set_config('taskwidgets.done', ':x; \"''\\', false); END$$",
        "BEGIN READ ONLY",
        "SELECT 'rows of a first statement are nobody''s' FROM generate_series(1, 3)",
    )
    shown = {
        "date '2013-02-03'": "03.02.2013",
        "current_setting('taskwidgets.test')": "semi;colon '\"\\n :x -- \\\\",
        "current_setting('taskwidgets.done')": ":x; \"'\\\\",
        "current_setting('transaction_read_only')": "on",
        "current_setting('statement_timeout')": "0",
        "current_setting('client_encoding')": "UTF8",
    }
    for expression, text in shown.items():
        got = read(reader, f"COPY (SELECT {expression}) TO STDOUT")
        assert got == (f"{text}\n".encode(), 1), expression
    started = "COPY (SELECT now(), pg_current_xact_id_if_assigned()) TO STDOUT"
    assert read(reader, started) == read(reader, started)


def test_an_exported_snapshot_is_joined(open_reader: OpenReader, look: Look) -> None:
    """Rows inserted after the snapshot are not seen, and those deleted after it still are."""
    look("CREATE TABLE t AS SELECT n FROM generate_series(1, 3) AS n")
    with closing(psycopg2.connect(plain(look.url))) as connection, connection.cursor() as cursor:
        cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        cursor.execute("SELECT pg_export_snapshot()")
        ((number,),) = cursor.fetchall()
        look("INSERT INTO t VALUES (4)")
        look("DELETE FROM t WHERE n = 1")
        reader = open_reader(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
            f"SET TRANSACTION SNAPSHOT '{number}'",
        )
        assert read(reader, "COPY t TO STDOUT") == (b"1\n2\n3\n", 3)
        look("INSERT INTO t VALUES (5)")
        assert read(reader, "COPY t TO STDOUT") == (b"1\n2\n3\n", 3)
    assert read(open_reader(), "COPY t TO STDOUT") == (b"2\n3\n4\n5\n", 4)


# ---------------------------------------------------------------------- errors

REFUSED = {
    "a missing table": (["SELECT FROM missing"], "42P01", DatabaseError),
    "a syntax error": (["SELEKT 1"], "42601", DatabaseError),
    "an invalid snapshot": (
        ["BEGIN ISOLATION LEVEL REPEATABLE READ", "SET TRANSACTION SNAPSHOT 'none'"],
        "22023",
        DatabaseError,
    ),
    "an error of its own": (
        ["DO $$BEGIN RAISE 'rewritten' USING ERRCODE = '55000'; END$$"],
        "55000",
        DatabaseError,
    ),
    "a missing right": (
        ["SET ROLE pg_monitor", "SELECT * FROM pg_authid"],
        "42501",
        RightsMissing,
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_first_statement_that_fails_is_told(
    open_reader: OpenReader, look: Look, case: str
) -> None:
    """The reader is not made; the error has the server's code, and nothing is left."""
    begin, state, error = REFUSED[case]
    with pytest.raises(error) as caught:
        open_reader(*begin)
    assert (type(caught.value), caught.value.sqlstate) == (error, state)
    no_trace(look)


def test_an_error_of_many_lines_has_its_own_code(open_reader: OpenReader) -> None:
    """The words of an error, whatever lines it has, are not taken for another error."""
    words = "first\nERROR:  42P01: relation\ntaskwidgets:5\n"
    reader = open_reader(
        "CREATE FUNCTION fail() RETURNS int LANGUAGE plpgsql AS $$BEGIN RAISE E'"
        + words.replace("\n", "\\n")
        + "' USING ERRCODE = 'P1234', DETAIL = E'ABCDE:  12345: x\\ntaskwidgets:6\\n'; END$$"
    )
    with pytest.raises(DatabaseError, match="first") as caught:
        read(reader, "COPY (SELECT fail()) TO STDOUT")
    assert (type(caught.value), caught.value.sqlstate) == (DatabaseError, "P1234")


TALKERS = {
    "plain": "",
    # What a function sets for itself wins over what the reader has set for its session.
    "loud": "SET client_min_messages = debug1",
}
WORDS = ["careful", "taskwidgets:7", "careful\\ntaskwidgets:7\\n"]


@pytest.mark.sample(8)
@pytest.mark.parametrize("talker", TALKERS)
@pytest.mark.parametrize("level", ["NOTICE", "WARNING"])
@pytest.mark.parametrize("words", WORDS)
def test_what_functions_say_disturbs_nothing(
    open_reader: OpenReader, look: Look, talker: str, level: str, words: str
) -> None:
    """Notices and warnings, whatever their words, change neither rows nor errors."""
    look(
        "CREATE FUNCTION talk(n int) RETURNS int LANGUAGE plpgsql"
        f" {TALKERS[talker]} AS $$BEGIN RAISE {level} E'{words}'; RETURN 100 / n; END$$"
    )
    reader = open_reader()
    expected = "".join(f"{100 // n}\n" for n in range(1, 101)).encode()
    for _ in range(3):
        statement = "COPY (SELECT talk(n) FROM generate_series(1, 100) AS n) TO STDOUT"
        assert read(reader, statement) == (expected, 100)
        assert read(reader, "COPY (SELECT 'next') TO STDOUT") == (b"next\n", 1)
    with pytest.raises(DatabaseError, match="division by zero") as caught:
        read(reader, "COPY (SELECT talk(n) FROM generate_series(-5, 5) AS n) TO STDOUT")
    assert (type(caught.value), caught.value.sqlstate) == (DatabaseError, "22012")


def test_a_backend_that_is_ended_between_statements_is_unreachable(
    open_reader: OpenReader, look: Look
) -> None:
    """pg_terminate_backend while the reader rests: the next statement is ServerUnreachable."""
    reader = open_reader("BEGIN READ ONLY")
    read(reader, "COPY (SELECT 1) TO STDOUT")
    look(f"SELECT pg_terminate_backend(pid) FROM ({SESSIONS}) AS ours")
    wait_until(lambda: not look(SESSIONS))
    with pytest.raises(ServerUnreachable):
        read(reader, "COPY (SELECT 1) TO STDOUT")


@pytest.mark.parametrize("open_reader", ["psql", "copier"], indirect=True)
def test_a_process_that_is_killed_is_unreachable(open_reader: OpenReader, look: Look) -> None:
    """The reader's own process killed, in the middle and while it rests: ServerUnreachable."""
    reader = open_reader()
    pieces = iter(reader.read(asked(ENDLESS)))
    next(pieces)
    reader._process.kill()
    with pytest.raises(ServerUnreachable):
        for _ in pieces:
            pass
    reader.close()
    reader = open_reader()
    reader._process.kill()
    wait_until(lambda: is_gone(reader._process.pid))
    with pytest.raises(ServerUnreachable):
        read(reader, "COPY (SELECT 1) TO STDOUT")
    reader.close()
    no_trace(look)


@pytest.mark.sample(2)
@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_server_that_stops_is_unreachable(
    open_reader: OpenReader, private_server: PrivateServer, mode: str
) -> None:
    """The server stopped in the middle of the rows, then gone: ServerUnreachable both times."""
    pieces = iter(open_reader(url=private_server.url()).read(asked(ENDLESS)))
    next(pieces)
    stopping = threading.Thread(target=private_server.stop, args=(mode,))
    stopping.start()
    with pytest.raises(ServerUnreachable):
        for _ in pieces:
            pass
    stopping.join()
    with pytest.raises(ServerUnreachable):
        open_reader(url=private_server.url())


# ---------------------------------------------------------------------- the end


@pytest.mark.parametrize("statement", ["COPY (SELECT pg_sleep(600)) TO STDOUT", ENDLESS])
def test_a_statement_is_cancelled_from_another_thread(
    open_reader: OpenReader, look: Look, statement: str
) -> None:
    """cancel() ends a statement, silent or not; who reads gets an error, the server has rest."""
    reader = open_reader("BEGIN READ ONLY")
    faults: list[BaseException] = []

    def act() -> None:
        try:
            for _ in reader.read(asked(statement)):
                pass
        except BaseException as fault:  # noqa: BLE001 - looked at below
            faults.append(fault)

    thread = threading.Thread(target=act)
    thread.start()
    wait_until(lambda: bool(look(f"{SESSIONS} AND state = 'active' AND query LIKE 'COPY%'")))
    reader.cancel()
    thread.join()
    assert [isinstance(fault, DatabaseError) for fault in faults] == [True]
    wait_until(lambda: not look(f"{SESSIONS} AND state = 'active'"))
    reader.close()
    no_trace(look)


def test_a_reader_that_rests_can_be_cancelled(open_reader: OpenReader, look: Look) -> None:
    """cancel() between two statements, and once more when all is over, does no harm."""
    reader = open_reader()
    read(reader, "COPY (SELECT 1) TO STDOUT")
    reader.cancel()
    with pytest.raises(DatabaseError):
        read(reader, ENDLESS)
    reader.cancel()
    reader.close()
    reader.cancel()
    no_trace(look)


@pytest.mark.parametrize("statement", [None, "COPY (SELECT pg_sleep(600)) TO STDOUT"])
def test_close_ends_a_reader_that_rests_or_waits(
    open_reader: OpenReader, look: Look, statement: str | None
) -> None:
    """close() before any statement, or while the server is silent, leaves nothing either."""
    reader = open_reader("BEGIN READ ONLY")
    if statement is not None:
        reader.read(asked(statement))
        wait_until(lambda: bool(look(f"{SESSIONS} AND wait_event = 'PgSleep'")))
    reader.close()
    if not isinstance(reader, PipeReader):
        assert reader._process.poll() is not None
    no_trace(look)
    reader.close()


# ---------------------------------------------------------------------- connections


@pytest.mark.parametrize("kind", [PipeReader, CopierReader])
def test_the_password_is_in_no_list_of_processes(
    kind: type[PipeReader] | type[CopierReader], password_server: PrivateServer
) -> None:
    """A reader logs in with a password that is no argument, in no environment, in no error."""
    database = Database(password_server.url(password="hunter2xyz"))
    reader = kind(database.url, database.connect_arguments, [])
    try:
        assert read(reader, "COPY (SELECT current_user) TO STDOUT") == (b"owner\n", 1)
        if isinstance(reader, CopierReader):
            process = psutil.Process(reader._process.pid)
            assert len(process.cmdline()) > 1
            assert "hunter2xyz" not in " ".join([*process.cmdline(), *process.environ().values()])
    finally:
        reader.close()
    wrong = Database(password_server.url(password="hunter3xyz"))
    with pytest.raises(DatabaseError) as caught:
        kind(wrong.url, wrong.connect_arguments, [])
    assert "hunter3xyz" not in str(caught.value)


# Valid for a socket, where nothing is encrypted: the driver connects.
TLS = [
    "sslmode=require",
    "sslmode=require&sslnegotiation=direct",
    "sslrootcert=system&sslmode=verify-full",
    "sslcert=none.crt&sslkey=none.key&ssl_min_protocol_version=TLSv1.3",
]


@pytest.mark.parametrize("option", TLS)
def test_options_of_tls_mean_nothing_to_a_socket(
    open_reader: OpenReader, database_url: str, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    """A URL, or an environment, that asks for TLS is served on a socket as by the driver."""
    url = f"{database_url}&{option}"
    assert read(open_reader(url=url), "COPY (SELECT 1) TO STDOUT") == (b"1\n", 1)
    for part in option.split("&"):
        name, _, value = part.partition("=")
        monkeypatch.setenv(f"PG{name.replace('_', '').upper()}", value)
    assert read(open_reader(), "COPY (SELECT 1) TO STDOUT") == (b"1\n", 1)


def test_psql_serves_sockets_only(
    embedded_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A socket's directory is served; a host, or none, is not; nor any without a psql to run."""

    def serves(url: str) -> bool:
        return PsqlReader.serves(Database(url).connect_arguments)

    assert serves(embedded_server.url)
    assert serves("postgresql://ann@/x?host=/run/postgresql")
    assert not serves("postgresql://ann@localhost/x")
    assert not serves("postgresql://ann@127.0.0.1:5432/x")
    assert not serves("postgresql://ann@[::1]/x")
    assert not serves("postgresql://ann@/x?host=localhost")
    assert not serves("postgresql:///x")
    assert not serves("postgresql://ann@/x?host=/run/postgresql&host=db.example.com")
    assert not serves("postgresql://ann@/x?host=/run/postgresql&hostaddr=127.0.0.1")
    with monkeypatch.context() as patch:
        patch.setenv("PGHOSTADDR", "127.0.0.1")
        assert not serves(embedded_server.url)
    binaries = Binaries(tmp_path)
    binaries.bin.mkdir(parents=True)
    for found in (None, binaries):
        monkeypatch.setattr("taskwidgets.embedded.wheel_binaries", lambda found=found: found)
        assert not serves(embedded_server.url)
    binaries.psql.write_text("")
    binaries.psql.chmod(0o644)
    assert not serves(embedded_server.url)
    binaries.psql.chmod(0o755)
    assert serves(embedded_server.url)


@pytest.fixture
def two_ways(private_server: PrivateServer) -> dict[str, str]:
    """URLs of one server: by its socket, and by TCP."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    run_sql(private_server.url(), "ALTER SYSTEM SET listen_addresses = '127.0.0.1'")
    run_sql(private_server.url(), sql.SQL("ALTER SYSTEM SET port = {}").format(sql.Literal(port)))
    private_server.restart("fast")
    return {
        "socket": f"{private_server.url()}&port={port}",
        "tcp": f"postgresql://owner@127.0.0.1:{port}/postgres",
    }


def test_an_export_over_tcp_gives_the_same_file(
    two_ways: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a pipe, by psql or by TCP, one table makes the same bytes: those of COPY."""
    run_sql(
        two_ways["tcp"],
        "CREATE TABLE t AS SELECT n AS id, md5(n::text) AS hash, now() + n * interval '1h' AS at,"
        " CASE WHEN n % 7 = 0 THEN NULL WHEN n % 11 = 0 THEN E'two\\nlines, \"' || n"
        " ELSE repeat('ä', n % 60) END AS note FROM generate_series(1, 60000) AS n",
    )
    Path(Database(two_ways["socket"]).connect_arguments["host"]).chmod(0o700)
    files: dict[str, bytes] = {}
    for way, url in {**two_ways, "psql": two_ways["socket"]}.items():
        arguments = Database(url).connect_arguments
        if way == "psql":
            monkeypatch.setattr(PipeReader, "serves", lambda _: False)
        assert PsqlReader.serves(arguments) == (way != "tcp")
        assert PipeReader.serves(arguments) == (way == "socket")
        workspace = Workspace(url)
        try:
            receipt = workspace.download("t", tmp_path / f"{way}.csv", workers=2).wait(100)
        finally:
            workspace.close()
        assert receipt.rows_loaded == 60_000
        files[way] = (tmp_path / f"{way}.csv").read_bytes()
    assert files["tcp"] == files["socket"] == files["psql"]
    assert files["tcp"] == copied(two_ways["tcp"], "SELECT * FROM t")
