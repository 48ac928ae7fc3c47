"""A COPY whose session the server ends prints nothing; what it raises is as ever."""

from __future__ import annotations

import io
import sys
from contextlib import closing

import psycopg2
import pytest
from fix_databases import run_sql

from taskwidgets.functions.ledger import RunConnection
from taskwidgets.store.database import Database


class EndsItsSession:
    """A file at the reading of which the session that reads it is ended."""

    def __init__(self, url: str, pid: int, at: int) -> None:
        self.url, self.pid, self.at, self.reads = url, pid, at, 0

    def read(self, size: int) -> bytes:
        self.reads += 1
        if self.reads == self.at:
            run_sql(self.url, "SELECT pg_terminate_backend(%s, 5000)", (self.pid,))
        return b"1\n" * 4000 if self.reads < 100 else b""


@pytest.fixture(params=["a job's", "a function's"])
def session(request, database_url):
    """A session in which jobs copy, and one in which functions of users do."""
    if request.param == "a job's":
        database = Database(database_url)
        with database.connect() as connection:
            yield connection.connection.driver_connection
        database.dispose()
    else:
        with closing(psycopg2.connect(database_url, connection_factory=RunConnection)) as made:
            yield made


@pytest.mark.parametrize("at", [1, 50])
def test_nothing_is_printed(session, database_url, capfd, at):
    """The hook of those who print errors is as before afterwards."""
    file = EndsItsSession(database_url, session.info.backend_pid, at)
    before = sys.excepthook
    with session.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE t (n int)")
        with pytest.raises(psycopg2.OperationalError):
            cursor.copy_expert("COPY t FROM STDIN", file)
    assert sys.excepthook is before
    assert capfd.readouterr() == ("", "")


def test_a_cell_that_begins_meanwhile(session, database_url, capfd, monkeypatch):
    """IPython sets its own hook for each cell; it hears nothing of it, and of all else as ever."""
    heard = []
    file = EndsItsSession(database_url, session.info.backend_pid, 50)
    read = file.read

    def read_in_a_cell(size: int) -> bytes:
        if file.reads == 10:
            monkeypatch.setattr(sys, "excepthook", lambda *error: heard.append(error[1]))
        if file.reads == 20:
            sys.excepthook(ValueError, ValueError("of the cell"), None)
        return read(size)

    monkeypatch.setattr(file, "read", read_in_a_cell)
    with session.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE t (n int)")
        with pytest.raises(psycopg2.OperationalError):
            cursor.copy_expert("COPY t FROM STDIN", file)
    assert [str(error) for error in heard] == ["of the cell"]
    assert capfd.readouterr() == ("", "")


def test_a_query_that_says_from_stdin_is_copied_out(session):
    """The words may stand in a text; the file is written all the same."""
    out = io.StringIO()
    with session.cursor() as cursor:
        cursor.copy_expert("COPY (SELECT 'FROM STDIN') TO STDOUT", out)
    assert out.getvalue() == "FROM STDIN\n"
