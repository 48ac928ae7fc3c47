"""Servers: the embedded one that all tests share, and private ones that a test may ill-treat."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import psutil
import psycopg2
import pytest
from fork_server import Forked

from taskwidgets.embedded import EmbeddedServer, join
from taskwidgets.embedded.account import Account, server_account
from taskwidgets.embedded.binaries import find_binaries
from taskwidgets.embedded.directory import Directory

PATIENCE = 60.0  # seconds; a hang guard, nothing is meant to come near it
MEMORY_NEEDED = 4 << 30  # bytes
# No test cuts the power, and none waits for a vacuum: both would only make the tests slow.
QUICK = ("fsync = off", "full_page_writes = off", "autovacuum = off")

LASTING: set[int] = set()  # processes of servers that live as long as the tests do


def children() -> list[psutil.Process]:
    """What this process has started and what still runs, lasting servers left out."""
    lasting = {*LASTING, Forked.server_pid()}
    return [child for child in psutil.Process().children() if child.pid not in lasting]


def wait_until(condition: Callable[[], bool], what: str = "") -> None:
    """Return when the condition holds; a guard ends it if that never happens."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain {what}"
        time.sleep(0.005)


def memory_folder() -> Path | None:
    """A file system in memory with room for the servers of all workers; None without one.

    A database for each test is some 300 files: on a disk, making and removing them takes a quarter
    of the time of all tests. Programs may have to run there, see ``embedded/binaries.py``.
    """
    folder = Path("/dev/shm")
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        return None
    found = os.statvfs(folder)
    if found.f_flag & os.ST_NOEXEC or found.f_bavail * found.f_frsize < MEMORY_NEEDED:
        return None
    return folder if psutil.virtual_memory().available > MEMORY_NEEDED else None


def make_base(within: Path | None = None) -> Path:
    """A new directory that every account can enter, which pytest's own are not."""
    path = Path(tempfile.mkdtemp(prefix="taskwidgets-test-", dir=within)).resolve()
    path.chmod(0o755)
    return path


class PrivateServer:
    """A server of one test's own, on a Unix socket only; made from any Postgres's programs."""

    _made: ClassVar[dict[tuple[Path, str | None], Path]] = {}  # data directories to be copied

    def __init__(self, programs: Path, account: Account, password: str | None = None) -> None:
        self.programs = programs
        self.account = account
        self.base = make_base(memory_folder())
        self.socket = self.base / "socket"
        self.data = self.base / "data"
        self._own(self.socket)
        self.socket.chmod(0o755)
        # initdb takes a second of processor time, and a copy of what it made none.
        if (programs, password) not in self._made:
            self._made[programs, password] = self._make_data(password)
        command = ["cp", "-a", str(self._made[programs, password]), str(self.data)]
        subprocess.run(command, check=True)
        self.configure("lc_messages = 'C'", "timezone = 'UTC'", *QUICK)
        self.start()

    def configure(self, *settings: str) -> None:
        """Settings for its next start."""
        with (self.data / "postgresql.conf").open("a") as file:
            file.write(f"listen_addresses = ''\nunix_socket_directories = '{self.socket}'\n")
            file.writelines(f"{setting}\n" for setting in settings)

    def make_standby(self, *settings: str) -> PrivateServer:
        """A server that follows this one by streaming replication, and can be read from."""
        made = object.__new__(PrivateServer)
        made.programs, made.account = self.programs, self.account
        made.base = make_base(memory_folder())
        made.socket, made.data = made.base / "socket", made.base / "data"
        made._own(made.socket)
        made.socket.chmod(0o755)
        made._own(made.data)
        made._run(
            "pg_basebackup", "-D", str(made.data), "-R", "-X", "stream", "--checkpoint=fast",
            "--no-sync", "-d", plain(self.url()).replace("/postgres?", "/?"),
        )  # fmt: skip
        made.configure(*settings)
        made.start()
        return made

    def _own(self, path: Path) -> None:
        path.mkdir(mode=0o700)
        if self.account.lent:
            os.chown(path, self.account.uid, self.account.gid)

    def _make_data(self, password: str | None) -> Path:
        base = make_base(memory_folder())
        self._own(base / "data")
        options = ["-U", "owner", "-E", "UTF8", "--locale=C", "--no-sync"]
        if password is None:
            options += ["--auth=trust"]
        else:
            secret = base / "secret"
            secret.write_text(f"{password}\n")
            secret.chmod(0o644)
            options += ["--auth=scram-sha-256", f"--pwfile={secret}"]
        self._run("initdb", "-D", str(base / "data"), *options)
        return base / "data"

    @classmethod
    def forget(cls) -> None:
        """Remove the data directories that were copied."""
        for data in cls._made.values():
            shutil.rmtree(data.parent)
        cls._made.clear()

    def _run(self, program: str, *arguments: str) -> None:
        lent = self.account.lent
        done = subprocess.run(
            [str(self.programs / program), *arguments],
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            user=self.account.uid if lent else None,
            group=self.account.gid if lent else None,
            extra_groups=[] if lent else None,
            check=False,
        )
        assert done.returncode == 0, done.stdout

    def start(self) -> None:
        self._run("pg_ctl", "start", "-w", "-D", str(self.data), "-l", str(self.data / "log"))

    def stop(self, mode: str = "fast") -> None:
        self._run("pg_ctl", "stop", "-w", "-D", str(self.data), "-m", mode)

    def restart(self, mode: str) -> None:
        self.stop(mode)
        self.start()

    def url(self, user: str = "owner", password: str | None = None, database: str = "postgres"):
        login = user if password is None else f"{user}:{password}"
        return f"postgresql://{login}@/{database}?host={self.socket}"

    def remove(self) -> None:
        pid_file = self.data / "postmaster.pid"
        if pid_file.exists():
            pid = int(pid_file.read_text().split("\n")[0])
            self.stop("immediate")
            wait_until(lambda: not psutil.pid_exists(pid))
        shutil.rmtree(self.base)


@pytest.fixture(scope="session")
def embedded_server() -> Iterator[EmbeddedServer]:
    """The Postgres that comes with the package, for all tests of the session."""
    base = make_base(memory_folder())
    server = join(base / "home")
    connection = psycopg2.connect(plain(server.url))
    connection.autocommit = True
    with connection.cursor() as cursor:
        for setting in QUICK:
            cursor.execute(f"ALTER SYSTEM SET {setting}")
        cursor.execute("SELECT pg_reload_conf()")
    connection.close()
    yield server
    pid = int((server.data_directory / "postmaster.pid").read_text().split("\n")[0])
    server.leave()
    wait_until(lambda: not psutil.pid_exists(pid), "for the server's end")
    shutil.rmtree(base)


def pytest_unconfigure() -> None:
    PrivateServer.forget()


def plain(url: str) -> str:
    """A URL as libpq takes it, without the driver's name."""
    return url.replace("postgresql+psycopg2://", "postgresql://")


def installed_versions() -> list[str]:
    """The major versions that the system's packages have put on this machine."""
    found = Path("/usr/lib/postgresql").glob("*/bin/postgres")
    return sorted(path.parents[1].name for path in found)


@pytest.fixture(scope="session")
def account(embedded_server: EmbeddedServer) -> Account:
    """The account that may run a server."""
    return server_account(embedded_server.home, embedded_server.data_directory)


@pytest.fixture(scope="session")
def programs(embedded_server: EmbeddedServer, account: Account) -> Path:
    """The embedded server's programs."""
    return find_binaries(Directory(embedded_server.home), account).bin


@pytest.fixture
def private_server(programs: Path, account: Account) -> Iterator[PrivateServer]:
    """A server like the embedded one, that the test may stop and restart."""
    server = PrivateServer(programs, account)
    yield server
    server.remove()


@pytest.fixture
def standby_of() -> Iterator[Callable[..., PrivateServer]]:
    """A factory of read-only standbys: ``standby_of(server, "setting = value")``."""
    made: list[PrivateServer] = []

    def make(server: PrivateServer, *settings: str) -> PrivateServer:
        made.append(server.make_standby(*settings))
        return made[-1]

    yield make
    for one in made:
        one.remove()


@pytest.fixture(scope="session")
def password_server(programs: Path, account: Account) -> Iterator[PrivateServer]:
    """A server that asks for a password: that of the role ``owner`` is ``hunter2xyz``."""
    server = PrivateServer(programs, account, password="hunter2xyz")
    yield server
    server.remove()


@pytest.fixture(scope="session", params=["embedded", *installed_versions()])
def version_url(
    request: pytest.FixtureRequest, embedded_server: EmbeddedServer, account: Account
) -> Iterator[str]:
    """The URL of a server of each version that is there, for making databases in."""
    if request.param == "embedded":
        yield plain(embedded_server.url)
        return
    server = PrivateServer(Path(f"/usr/lib/postgresql/{request.param}/bin"), account)
    yield server.url()
    server.remove()
