"""The server, the disk and the processes that tests of faults have for themselves."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fix_databases import new_database, run_sql
from fix_files import write_many
from fix_proxy import StallingProxy
from fix_servers import PrivateServer

from taskwidgets.embedded.account import Account
from taskwidgets.store.database import Database

sys.path.insert(0, str(Path(__file__).parent))
from scene import ROWS, Ballast, Scene, Zygote


@pytest.fixture(scope="module")
def shared_server(programs: Path, account: Account) -> Iterator[PrivateServer]:
    """A server for all tests of faults, which may restart it: nobody else is on it."""
    server = PrivateServer(programs, account)
    # What was committed without waiting for the disk is lost in each crash, not only in some.
    run_sql(server.url(), "ALTER SYSTEM SET wal_writer_delay = '10s'")
    run_sql(server.url(), "ALTER SYSTEM SET wal_writer_flush_after = '1GB'")
    server.restart("fast")
    yield server
    server.remove()


@pytest.fixture(scope="module")
def migrated(shared_server: PrivateServer) -> Iterator[str]:
    """The name of a database on it that has our schema."""
    with new_database(shared_server.url()) as url:
        database = Database(url)
        database.prepare()
        database.dispose()
        yield url.partition("?")[0].rpartition("/")[2]


@pytest.fixture(scope="module")
def small_disk_of_all(shared_server: PrivateServer) -> Iterator[Ballast]:
    """The one disk, mounted once."""
    made = Ballast(shared_server)
    yield made
    made.remove()


@pytest.fixture
def ballast(small_disk_of_all: Ballast) -> Iterator[Ballast]:
    """That disk, with a folder of the test's own, and room."""
    small_disk_of_all.new_folder()
    yield small_disk_of_all
    small_disk_of_all.make_room()


@pytest.fixture(scope="module")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    """What the victims come from."""
    made = Zygote(tmp_path_factory.mktemp("points"))
    yield made
    made.script.kill()


@pytest.fixture(scope="module")
def many_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that is loaded."""
    return write_many(tmp_path_factory.mktemp("source") / "many.csv", ROWS)


@pytest.fixture
def scene(
    shared_server: PrivateServer, migrated: str, zygote: Zygote, many_path: Path, tmp_path: Path
) -> Iterator[Callable[..., Scene]]:
    """A factory: ``scene("upload")``; ``tablespace``: where its database lies."""
    made: list[tuple[Scene, Any]] = []

    def make(
        kind: str,
        proxy: StallingProxy | None = None,
        folder: Path | None = None,
        tablespace: str | None = None,
    ) -> Scene:
        database = new_database(shared_server.url(), migrated, tablespace)
        url = database.__enter__()
        if folder is None:
            folder = tmp_path / "target"
            folder.mkdir()
        way = None
        if proxy is not None:
            way = url.replace(str(shared_server.socket), str(proxy.folder))
        made.append((Scene(kind, url, zygote, many_path, folder, way), database))
        return made[-1][0]

    yield make
    for one, database in made:
        one.end()
        one.points.clear()
        database.__exit__(None, None, None)
