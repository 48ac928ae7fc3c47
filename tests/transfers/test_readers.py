"""What reads from the server: a named pipe, psql on a socket, the driver for any server."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import psycopg2
import pytest
from fix_databases import run_sql
from fix_exports import copied
from fix_servers import wait_until

from taskwidgets.embedded import pipes as named_pipes
from taskwidgets.errors import DatabaseError, RightsMissing, ServerUnreachable
from taskwidgets.store.database import Database
from taskwidgets.transfers import psql
from taskwidgets.transfers.pipe import NoPipe, PipeReader
from taskwidgets.transfers.psql import PsqlReader
from taskwidgets.transfers.reader import CopierReader, CopyOut

MANY = "SELECT n, md5(n::text) FROM generate_series(1, 200000) AS n"
# In the list of columns: in FROM, the server would make all rows before it gives the first.
ENDLESS = CopyOut("SELECT generate_series(1, 1000000000)", "FORMAT csv")
ODD = """
    VALUES (1, 'plain', NULL), (2, 'a "quoted" one', ''), (3, E'two\\nlines', E'a\\\\b'),
           (4, E'tab\\there', 'Zürich — 東京'), (5, '\\.', ':name ; -- /* $$')
"""


@pytest.fixture(params=[PipeReader, PsqlReader, CopierReader])
def start(request, database_url):
    """A factory of readers of one kind; closed with the test."""
    database = Database(database_url)
    made = []

    def make(*begin: str):
        made.append(request.param(database.url, database.connect_arguments, begin))
        return made[-1]

    yield make
    for one in made:
        one.close()
    database.dispose()


def copy(reader, query: str) -> tuple[bytes, int]:
    pieces = reader.read(CopyOut(query, "FORMAT csv, HEADER"))
    return b"".join(map(bytes, pieces)), pieces.rows


def backends(look, begin: str) -> int:
    """How many sessions run, or last ran, a statement that begins so."""
    return look.one(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        f" AND query LIKE '{begin}%'"
    )


@pytest.mark.sample(6)
@pytest.mark.parametrize(
    ("query", "rows"),
    [
        (ODD, 5),
        ("SELECT 1 AS a WHERE false", 0),
        ("SELECT FROM generate_series(1, 3)", 3),
        ("SELECT repeat('long ', 4000000) AS a", 1),
        (MANY, 200_000),
    ],
)
def test_bytes_and_rows_are_those_of_copy(start, look, query, rows):
    """Whatever the rows hold, they come out as COPY makes them, and are counted."""
    reader = start()
    assert copy(reader, query) == (copied(look.url, query), rows)
    assert copy(reader, "SELECT 7 AS n") == (b"n\n7\n", 1)  # and the next one, in the same session


def test_what_stands_in_a_name_is_no_command(start, look):
    """Quotes, backslashes, semicolons, colons and comments in names and texts stay such."""
    name = "a\"b'c;d\\e\n\\echo :name ::f -- /* g $$"
    quoted = '"' + name.replace('"', '""') + '"'
    look(f"CREATE TABLE {quoted} AS SELECT 1 AS {quoted}")
    query = f"SELECT {quoted}, ':x \\q ;' AS t, $$ it's $$ AS d FROM {quoted}"
    assert copy(start(), query) == (copied(look.url, query), 1)


def test_the_session_begins_as_told(start, look):
    """The first statements hold for all that is read: a setting, a transaction, a snapshot."""
    look("CREATE TABLE t AS SELECT 1 AS a")
    reader = start(
        "SET datestyle = 'German'",
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        "DO $$BEGIN IF (SELECT count(*) FROM t) <> 1 THEN RAISE 'no'; END IF; END$$",
    )
    look("INSERT INTO t VALUES (2)")
    assert copy(reader, "SELECT a, DATE '2024-02-01' AS d FROM t") == (b"a,d\n1,01.02.2024\n", 1)
    with pytest.raises(DatabaseError, match="read-only"):
        copy(reader, "SELECT lo_create(0)")


def test_notices_disturb_nothing(start, look):
    """What a function says beside its rows is no error."""
    look(
        "CREATE FUNCTION chatty() RETURNS int LANGUAGE plpgsql AS"
        " $$BEGIN RAISE NOTICE 'taskwidgets:9'; RAISE WARNING 'ERROR:  42P01: no'; RETURN 3; END$$"
    )
    assert copy(start(), "SELECT chatty() AS c FROM generate_series(1, 3)") == (b"c\n3\n3\n3\n", 3)


@pytest.mark.parametrize(
    ("begin", "query", "sqlstate"),
    [
        (["SELECT nonsense"], "SELECT 1", "42703"),
        (["BEGIN READ ONLY", "SET TRANSACTION SNAPSHOT '00000003-0000001B-1'"], "SELECT 1", None),
        ([], "SELECT * FROM nothing_like_it", "42P01"),
        ([], "SELECT 1 / (150000 - n) FROM generate_series(1, 200000) AS n", "22012"),
    ],
)
def test_the_server_s_complaints_keep_their_codes(start, begin, query, sqlstate):
    """At the beginning, in a statement, in the middle of the rows: the error says which it is."""
    with pytest.raises(DatabaseError) as caught:
        copy(start(*begin), query)
    assert caught.value.sqlstate is not None
    assert sqlstate is None or caught.value.sqlstate == sqlstate
    assert not isinstance(caught.value, ServerUnreachable)


def test_a_missing_right_is_told_as_such(start, look):
    """Not to be allowed is an error of its own class."""
    name = "nobody_" + look.url.partition("?")[0].rpartition("_")[2]
    look(f"CREATE ROLE {name}")
    look("CREATE TABLE secret (a int)")
    try:
        with pytest.raises(RightsMissing, match="permission denied"):
            copy(start(f"SET ROLE {name}"), "SELECT * FROM secret")
    finally:
        look(f"DROP ROLE {name}")


def test_a_session_that_the_server_ends_is_unreachable(start, look):
    """pg_terminate_backend in the middle of the rows: the connection is gone, not the statement."""
    reader = start()
    pieces = iter(reader.read(ENDLESS))
    next(pieces)
    look(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND query LIKE 'COPY%'"
    )
    with pytest.raises(ServerUnreachable):
        for _ in pieces:
            pass


def test_cancel_from_another_thread_ends_a_silent_statement(start, look):
    """Whoever reads gets an error, and the server has nothing more to do."""
    reader = start()
    told = []

    def read():
        try:
            for _ in reader.read(CopyOut("SELECT pg_sleep(600)")):
                pass
        except DatabaseError as error:
            told.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    wait_until(lambda: backends(look, "COPY (SELECT pg_sleep") == 1)
    reader.cancel()
    thread.join()
    assert len(told) == 1
    reader.close()
    wait_until(lambda: backends(look, "COPY (SELECT pg_sleep") == 0)


def test_close_ends_a_statement_whose_rows_nobody_reads(start, look):
    """Somebody waits in a full pipe; closed, he is gone, and his session with him."""
    reader = start()
    next(iter(reader.read(ENDLESS)))
    assert backends(look, "COPY") == 1
    reader.close()
    if not isinstance(reader, PipeReader):
        assert reader._process.returncode is not None
    wait_until(lambda: backends(look, "COPY") == 0)


@pytest.mark.parametrize("kind", ["PipeReader", "PsqlReader", "CopierReader"])
def test_a_killed_parent_leaves_no_session(script, database_url, look, kind):
    """SIGKILL of the process that reads: its reader and the statement end by themselves."""
    child = script(
        """
        import sys, time
        from taskwidgets.store.database import Database
        from taskwidgets.transfers.pipe import PipeReader
        from taskwidgets.transfers.psql import PsqlReader
        from taskwidgets.transfers.reader import CopierReader, CopyOut
        database = Database(sys.argv[1])
        reader = globals()[sys.argv[2]](database.url, database.connect_arguments, [])
        for piece in reader.read(CopyOut(sys.argv[3], "FORMAT csv")):
            print("reading", flush=True)
            time.sleep(600)
        """,
        database_url,
        kind,
        ENDLESS.query,
    )
    assert child.line() == "reading"
    assert backends(look, "COPY") == 1
    child.kill()
    wait_until(lambda: backends(look, "COPY") == 0)


def test_a_server_that_is_not_there_is_unreachable(tmp_path):
    """Nobody answers at the address: said so, and nothing is left behind."""
    connect = {"host": str(tmp_path), "port": 5432, "dbname": "x", "user": "y"}
    url = Database(f"postgresql://y@/x?host={tmp_path}").url
    tmp_path.chmod(0o700)
    for kind in (PipeReader, PsqlReader, CopierReader):
        with pytest.raises(ServerUnreachable):
            kind(url, connect, [])


def test_psql_is_for_sockets_without_a_password(database_url, monkeypatch):
    """Only where nothing is encrypted, and where there is no secret that others could read."""
    database = Database(database_url)
    connect = database.connect_arguments
    database.dispose()
    assert PsqlReader.serves(connect)
    assert not PsqlReader.serves({**connect, "password": "very secret"})
    for host in ("localhost", "127.0.0.1", ""):
        assert not PsqlReader.serves({**connect, "host": host})
    monkeypatch.setattr(psql, "find_psql", lambda: None)
    assert not PsqlReader.serves(connect)


def test_both_kinds_export_the_same_bytes(exports, look, monkeypatch):
    """With psql and without: the file of COPY."""
    look(f"CREATE TABLE t AS {MANY}")
    expected = copied(look.url, "SELECT * FROM t")
    assert exports.run("t", "psql.csv") == expected
    monkeypatch.setattr(psql, "find_psql", lambda: None)
    assert exports.run("t", "driver.csv") == expected
    assert run_sql(look.url, "SELECT count(*) FROM taskwidgets.jobs") == [(2,)]


# ------------------------------------------------------------------------------ named pipes


def pipes(database: Database) -> list[Path]:
    return [*Path(database.connect_arguments["host"]).glob("rows-*")]


def test_pipes_are_for_closed_directories_and_leave_nothing(database_url):
    """A directory that nobody else may enter; and each pipe is gone with its reader."""
    database = Database(database_url)
    assert PipeReader.serves(database.connect_arguments)
    reader = PipeReader(database.url, database.connect_arguments, [])
    ours = reader._pipe.path
    assert ours in pipes(database)
    assert ours.stat().st_mode & 0o777 == 0o600
    reader.close()
    assert not ours.exists()
    assert not PipeReader.serves({**database.connect_arguments, "host": "/tmp"})
    assert not PipeReader.serves({**database.connect_arguments, "hostaddr": "127.0.0.1"})
    database.dispose()


@pytest.mark.parametrize("moment", ["open", "flock"])
def test_a_pipe_that_is_removed_before_it_is_locked_is_made_anew(tmp_path, monkeypatch, moment):
    """A reader that begins at the same time removes pipes that are not locked; it costs nothing."""
    owner = named_pipes.NamedPipe if moment == "open" else named_pipes.fcntl
    act, swept = getattr(owner, moment), []

    def sweep_first(*given):
        if not swept:
            swept.extend(tmp_path.glob("rows-*"))
            with monkeypatch.context() as original:
                original.setattr(owner, moment, act)
                named_pipes.sweep(tmp_path)
        return act(*given)

    monkeypatch.setattr(owner, moment, sweep_first)
    pipe = named_pipes.NamedPipe(tmp_path)
    assert len(swept) == 1
    assert [*tmp_path.glob("rows-*")] == [pipe.path] != swept
    named_pipes.sweep(tmp_path)
    assert pipe.path.exists()
    pipe.close()
    assert not [*tmp_path.glob("rows-*")]


def test_who_may_not_write_files_gets_no_pipe(database_url, look):
    """An ordinary role is served by another reader; an export by it is the same, byte for byte."""
    name = "plain_" + look.url.partition("?")[0].rpartition("_")[2]
    look(f"CREATE ROLE {name} LOGIN")
    database = Database(database_url)
    arguments = {**database.connect_arguments, "user": name}
    try:
        with pytest.raises(NoPipe):
            PipeReader(database.url, arguments, [])
    finally:
        look(f"DROP ROLE {name}")
        database.dispose()


def test_a_server_that_does_not_see_the_pipe_is_not_told_to_write(database_url, monkeypatch):
    """As behind a socket that is mounted from elsewhere: there the path is nothing, or not ours."""
    database = Database(database_url)
    made = []

    class Elsewhere(named_pipes.NamedPipe):
        def __init__(self, directory):
            super().__init__(directory)
            made.append(self.path)
            self.path.unlink()

    monkeypatch.setattr(named_pipes, "NamedPipe", Elsewhere)
    with pytest.raises(NoPipe):
        PipeReader(database.url, database.connect_arguments, [])
    assert not made[0].exists()
    database.dispose()


def test_a_session_that_waits_for_a_dead_reader_is_let_go(database_url, look):
    """The reader is killed in the moment before the server opens the pipe: the next one helps."""
    database = Database(database_url)
    directory = Path(database.connect_arguments["host"])
    orphan = named_pipes.NamedPipe(directory)
    orphan._guard.close()  # as the system does for a process that was killed
    told = []

    def write():
        try:
            run_sql(database_url, f"COPY (SELECT 1) TO '{orphan.path}'")
        except psycopg2.Error as error:
            told.append(error)

    waiting = threading.Thread(target=write)
    waiting.start()
    wait_until(lambda: backends(look, "COPY (SELECT 1)") == 1)
    look(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'COPY (SELECT 1)%'"
    )
    waiting.join(0.3)
    assert waiting.is_alive()  # deaf, as long as nobody opens it
    used = named_pipes.NamedPipe(directory)
    named_pipes.sweep(directory)
    waiting.join()
    assert len(told) == 1
    assert not orphan.path.exists()
    assert used.path.exists()  # that of somebody who lives is not touched
    used.close()
    database.dispose()


def test_a_very_long_statement_is_sent_whole(start, look):
    """Longer than what a socket holds: as of a table of a thousand columns."""
    query = (
        "SELECT " + ", ".join(f"{n} AS {'c' * 40}{n}" for n in range(1_000)) + " -- " + "x" * 10**6
    )
    assert copy(start(), query) == (copied(look.url, query), 1)


def test_a_forked_child_keeps_no_session(script, database_url, look):
    """With a copy of the pipe's end in another process, the server's writing still ends."""
    child = script(
        """
        import os, sys, time
        from taskwidgets.store.database import Database
        from taskwidgets.transfers.pipe import PipeReader
        from taskwidgets.transfers.reader import CopyOut
        database = Database(sys.argv[1])
        reader = PipeReader(database.url, database.connect_arguments, [])
        next(iter(reader.read(CopyOut(sys.argv[2]))))
        if os.fork() == 0:
            sys.stdin.read()
            os._exit(0)
        reader.close()
        print("closed", flush=True)
        """,
        database_url,
        ENDLESS.query,
    )
    assert child.line() == "closed"
    wait_until(lambda: backends(look, "COPY") == 0)
    child.end()


def test_a_pipe_is_not_waited_for_longer_than_the_url_says(tmp_path):
    """Somebody listens and never answers: connect_timeout holds, as for any connection."""
    tmp_path.chmod(0o700)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / ".s.PGSQL.5432"))
        silent.listen()
        url = Database(f"postgresql://y@/x?host={tmp_path}").url
        connect = {"host": str(tmp_path), "port": 5432, "dbname": "x", "connect_timeout": 1}
        with pytest.raises(ServerUnreachable, match="does not answer"):
            PipeReader(url, connect, [])
    assert not [*tmp_path.glob("rows-*")]
