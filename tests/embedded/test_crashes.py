"""What is left after kills at bad moments, and what join() makes of it."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import threading
import time
from pathlib import Path

import psycopg2
import psycopg2.errors
import pytest

from taskwidgets.embedded import join
from taskwidgets.embedded.account import server_account


def connect(url: str) -> psycopg2.extensions.connection:
    connection = psycopg2.connect(url.replace("+psycopg2", ""))
    connection.autocommit = True
    return connection


def execute(url: str, statement: str) -> list[tuple[object, ...]]:
    connection = connect(url)
    try:
        cursor = connection.cursor()
        cursor.execute(statement)
        return list(cursor.fetchall()) if cursor.description else []
    finally:
        connection.close()


def write_pid_file(home: Path, pid: int) -> None:
    """Leave behind what a killed server leaves, with a pid that is somebody else's by now."""
    owner = (home / "data").stat()
    texts = {
        home / "data/postmaster.pid": f"{pid}\n{home}/data\n1700000000\n5432\n{home}/socket\n\n"
        "  1234567         0\nready   \n",
        home / "socket/.s.PGSQL.5432.lock": f"{pid}\n{home}/data\n1700000000\n5432\n"
        f"{home}/socket\n",
    }
    for path, text in texts.items():
        path.write_text(text)
        os.chown(path, owner.st_uid, owner.st_gid)


def start_sleeper(home: Path) -> subprocess.Popen[bytes]:
    """Start a process that has nothing to do with us, under the very account of the server."""
    account = server_account(home, home / "data")
    return subprocess.Popen(["sleep", "600"], user=account.uid if account.lent else None)


@pytest.mark.slow
def test_kill_during_initdb(kernel, homes, until):
    """A kernel that is killed at any moment of the first start leaves nothing half made."""
    one, began = kernel(homes()), time.monotonic()
    one.ask("join")
    takes = time.monotonic() - began  # as long as a first start takes on this machine
    one.close()
    for _ in range(6):
        home = homes()
        one = kernel(home)
        one.tell("join")
        time.sleep(random.uniform(0.0, takes))
        one.kill()
        server = join(home)
        assert execute(server.url, "SELECT count(*) FROM pg_database") == [(4,)]
        server.leave()
        until(lambda home=home: homes.is_stopped(home))
        join(home).leave()
        assert [path.name for path in home.glob("*-*") if path.is_dir()] == []


@pytest.mark.slow
def test_database_made_twice(homes):
    """A killed kernel's CREATE DATABASE still runs in the server: the next join() waits for it."""
    home = homes()
    server = join(home)
    first = psycopg2.connect(
        host=str(home / "socket"), port=5432, user="postgres", dbname="postgres"
    )
    first.autocommit = True
    cursor = first.cursor()

    def create() -> None:
        with contextlib.suppress(
            psycopg2.errors.UniqueViolation, psycopg2.errors.DuplicateDatabase
        ):
            cursor.execute("CREATE DATABASE taskwidgets TEMPLATE template0")

    for _ in range(10):
        cursor.execute("DROP DATABASE taskwidgets")
        thread = threading.Thread(target=create)
        thread.start()
        join(home)
        thread.join()
        assert execute(server.url, "SELECT 1") == [(1,)]
    first.close()
    server.leave()


def test_stale_pid_file_of_a_foreign_process(homes, until):
    """A stale pid file whose pid is taken: the start succeeds, and the process is left alone."""
    home = homes()
    join(home).leave()
    until(lambda: homes.is_stopped(home))
    sleeper = start_sleeper(home)
    try:
        write_pid_file(home, sleeper.pid)
        server = join(home)
        assert execute(server.url, "SELECT 1") == [(1,)]
        assert homes.pid(home) != sleeper.pid
        server.leave()
        until(lambda: homes.is_stopped(home))
        assert sleeper.poll() is None
    finally:
        sleeper.kill()
        sleeper.wait()


def test_leave_with_a_foreign_pid(homes):
    """The server has died and its pid was given to another process: leave() does not signal it."""
    home = homes()
    server = join(home)
    homes.kill(home)
    sleeper = start_sleeper(home)
    try:
        write_pid_file(home, sleeper.pid)
        server.leave()
        assert sleeper.poll() is None
        server = join(home)
        assert sleeper.poll() is None
        server.leave()
    finally:
        sleeper.kill()
        sleeper.wait()


@pytest.mark.sample(2)
@pytest.mark.parametrize("text", ["", "\n", "abc\n", "1"])
def test_broken_pid_file(homes, until, text):
    """A pid file that the disk has lost half of does not keep the server down."""
    home = homes()
    join(home).leave()
    until(lambda: homes.is_stopped(home))
    path = home / "data/postmaster.pid"
    path.write_text(text)
    owner = (home / "data").stat()
    os.chown(path, owner.st_uid, owner.st_gid)
    server = join(home)
    assert execute(server.url, "SELECT 1") == [(1,)]
    server.leave()


@pytest.mark.sample(1)
@pytest.mark.parametrize("way", ["SIGKILL", "immediate", "fast"])
def test_server_dies_under_running_kernels(kernel, homes, way):
    """join() brings the server up again: the same URL, all that was committed, all users."""
    home = homes()
    other = kernel(home)
    url = other.ask("join")["url"]
    server = join(home)
    execute(url, "CREATE TABLE kept AS SELECT generate_series(1, 10000) AS a")
    idle = connect(url)
    if way == "SIGKILL":
        homes.kill(home)
    else:
        homes.pg_ctl(home, "stop", "-m", way, "-W")
    assert join(home) is server
    assert server.url == url
    assert execute(url, "SELECT sum(a) FROM kept") == [(50005000,)]
    assert other.ask("join")["url"] == url
    idle.close()
    server.leave()
    assert execute(url, "SELECT count(*) FROM kept") == [(10000,)]


def test_server_dies_during_a_statement(homes, until):
    """A backend that survives its killed postmaster for a moment only delays the new start."""
    home = homes()
    server = join(home)
    busy = connect(server.url)
    busy.cursor().execute("CREATE TABLE kept AS SELECT 1 AS a")

    def compute() -> None:
        # Pure computing: such a backend learns of the death only when it is done.
        with pytest.raises(psycopg2.OperationalError):
            busy.cursor().execute(
                "DO $$BEGIN FOR i IN 1..20000000 LOOP END LOOP; END$$; SELECT pg_sleep(600)"
            )

    thread = threading.Thread(target=compute)
    thread.start()
    watcher = connect(server.url)
    cursor = watcher.cursor()

    def is_busy() -> bool:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'DO%'")
        return bool(cursor.fetchone() == (1,))

    until(is_busy)
    homes.kill(home)
    assert join(home) is server
    assert execute(server.url, "TABLE kept") == [(1,)]
    thread.join()
    busy.close()
    watcher.close()
    server.leave()


@pytest.mark.slow
def test_several_kernels_repair_it_at_once(kernel, homes):
    """All kernels notice the death of the server and join again; one of them starts it."""
    home = homes()
    kernels = [kernel(home) for _ in range(4)]
    urls = {one.ask("join")["url"] for one in kernels}
    homes.kill(home)
    for one in kernels:
        one.tell("join")
    assert {one.answer()["url"] for one in kernels} == urls
