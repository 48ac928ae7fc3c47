"""A PgBouncer in transaction mode between the tests and their server."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from typing import Any

import psycopg2
import psycopg2.extensions
import pytest
from fix_databases import run_sql
from fix_servers import make_base, wait_until

from taskwidgets.embedded.account import Account
from taskwidgets.store.pooler import MARK_CLASS

# The daemon ends with this process, also when that is killed: then the shell's input ends.
UNTIL_INPUT_ENDS = '"$@" & read _; kill -KILL $!; wait $!'


class Pooler:
    """A PgBouncer in front of one database's server, on a Unix socket; ``url`` leads through it."""

    def __init__(self, url: str, account: Account, size: int = 20, mode: str = "transaction"):
        self.direct_url = url
        server = psycopg2.extensions.parse_dsn(url)
        self.base = make_base()
        if account.lent:
            os.chown(self.base, account.uid, account.gid)
        self.log = self.base / "log"
        configuration = self.base / "pgbouncer.ini"
        configuration.write_text(
            f"[databases]\n"
            f"* = host={server['host']} port={server.get('port', 5432)} user={server['user']}\n"
            f"[pgbouncer]\nlisten_addr =\nlisten_port = 6432\nunix_socket_dir = {self.base}\n"
            f"auth_type = any\npool_mode = {mode}\ndefault_pool_size = {size}\n"
            f"max_client_conn = 200\nlogfile = {self.log}\nadmin_users = {server['user']}\n"
        )
        program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
        assert program is not None, "pgbouncer is missing; `make test` installs it"
        lent = ["-u", account.name] if account.lent else []
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", UNTIL_INPUT_ENDS, "sh", program, *lent, str(configuration)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.user, self.database = server["user"], server["dbname"]
        self.url = f"postgresql://{self.user}@/{self.database}?host={self.base}&port=6432"
        wait_until(self._answers, f"for pgbouncer: {self._said()}")

    def _answers(self) -> bool:
        with suppress(psycopg2.OperationalError):
            psycopg2.connect(self.url).close()
            return True
        return False

    def _said(self) -> str:
        return self.log.read_text() if self.log.exists() else "it has written no log"

    def show(self, what: str) -> list[dict[str, Any]]:
        """What the admin console has of this database: SHOW CLIENTS, SHOW SERVERS ..."""
        url = f"postgresql://{self.user}@/pgbouncer?host={self.base}&port=6432"
        with closing(psycopg2.connect(url)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(f"SHOW {what}")
                names = [column.name for column in cursor.description]
                rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        return [row for row in rows if row.get("database") == self.database]

    def in_each_session(self, query: str) -> list[tuple[Any, ...]]:
        """What a query gives in each session that the pool has with the server."""
        connections, found = [], {}
        count = len(self.show("SERVERS"))
        try:
            for _ in range(count):  # a transaction each, so each has another session
                connections.append(psycopg2.connect(self.url))
                with connections[-1].cursor() as cursor:
                    cursor.execute("SELECT pg_backend_pid()")
                    ((pid,),) = cursor.fetchall()
                    cursor.execute(query)
                    found[pid] = cursor.fetchall()
        finally:
            for connection in connections:
                connection.rollback()
                connection.close()
        assert len(found) == count
        return [row for rows in found.values() for row in rows]

    def locks(self) -> list[tuple[Any, ...]]:
        """The advisory locks in the database that are no marks of open transactions."""
        return run_sql(
            self.direct_url,
            "SELECT pid, classid, objid FROM pg_locks WHERE locktype = 'advisory'"
            " AND classid <> %s AND database ="
            " (SELECT oid FROM pg_database WHERE datname = current_database())",
            (MARK_CLASS,),
        )

    def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        shutil.rmtree(self.base)


@pytest.fixture
def make_pooler(database_url: str, account: Account) -> Iterator[Callable[..., Pooler]]:
    """A factory of poolers in front of the test's own database."""
    made: list[Pooler] = []

    def make(**options: Any) -> Pooler:
        made.append(Pooler(database_url.replace("+psycopg2", ""), account, **options))
        return made[-1]

    yield make
    for one in made:
        one.stop()


@pytest.fixture
def pooler(make_pooler: Callable[..., Pooler]) -> Pooler:
    """A pooler in transaction mode, with as many sessions as PgBouncer has by default."""
    return make_pooler()
