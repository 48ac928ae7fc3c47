"""The server as one process sees it: join() starts or finds it, leave() stops it if nobody is left.

Two rules keep processes from treading on each other. Who starts holds the start lock, and the
users lock shared. Who stops holds the users lock exclusively. So nobody starts a server that is
being stopped, and nobody stops one that somebody else has joined or is about to.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import platform
import threading
import time
from pathlib import Path

from taskwidgets.embedded.account import Account, server_account
from taskwidgets.embedded.binaries import find_binaries, remove_old_copies
from taskwidgets.embedded.cluster import ensure_cluster
from taskwidgets.embedded.connection import NotYet, look
from taskwidgets.embedded.directory import Directory, advice, find_home, translate_os_errors
from taskwidgets.embedded.locks import FileLock
from taskwidgets.embedded.pipes import sweep
from taskwidgets.embedded.postmaster import Postmaster
from taskwidgets.embedded.settings import settings
from taskwidgets.embedded.sockets import find_socket_directory, make_url, socket_path
from taskwidgets.embedded.watcher import ensure_watcher, record_timeout
from taskwidgets.errors import EmbeddedServerError

__all__ = ["EmbeddedServer", "join"]

JOIN_PATIENCE = 600.0  # seconds; a recovery reads max_wal_size again, on a slow disk it takes long
ORPHAN_PATIENCE = 60.0  # seconds for the processes of a killed postmaster to notice and end
LEAVE_PATIENCE = 2.0  # seconds; JupyterLab kills a kernel 5 s after it has asked it to end
PROBE_ATTEMPTS, PROBE_PAUSE = 3, 0.002  # seconds; the watcher looks for microseconds
POLL = 0.05  # seconds between two looks at a server that is starting or stopping

# A start that fails with one of these may succeed a moment later.
ORPHANS = "pre-existing shared memory block"  # the killed postmaster's children still run
LOCK_FILE = 'lock file "'  # a stale pid file, whose pid somebody else has now

_guard = threading.Lock()  # over the table, and one join or leave at a time in this process
_servers: dict[Path, EmbeddedServer] = {}


def join(home: Path | None = None) -> EmbeddedServer:
    """Start the embedded server of ``home``, or join it if it runs; return it ready for use.

    ``home`` is a directory: the argument, else $TASKWIDGETS_HOME, else the user's data directory
    (/var/lib/taskwidgets for root). It is made if it is missing, with an empty database.
    Calling it again in one process returns the same object; when the server has died meanwhile,
    it is brought up again, at the same URL, with all that was committed.

    Raises EmbeddedServerError with what is wrong, where, and what to do about it.
    """
    place = find_home(home)
    with _guard:
        server = _servers.get(place)
        if server is None:
            server = EmbeddedServer(place)
        server._ensure()
        if place not in _servers:
            _servers[place] = server
            atexit.register(server.leave)
        return server


class EmbeddedServer:
    """A server that this process has joined; made by :func:`join` only.

    ``home`` and ``data_directory`` are paths, ``version`` is the running server's ("18.4").
    ``url`` is for SQLAlchemy; it has no password, since only the user himself reaches the socket.
    """

    home: Path
    data_directory: Path
    url: str
    version: str

    def __init__(self, home: Path) -> None:
        self.home = home
        self.url = ""
        self.version = ""
        self._directory = Directory(home)
        self.data_directory = self._directory.data
        self._process = os.getpid()
        self._users: FileLock | None = None
        self._postmaster: Postmaster | None = None
        self._sockets: Path | None = None

    def __repr__(self) -> str:
        return f"<EmbeddedServer {self.version} in {self.home}>"

    def leave(self) -> None:
        """Say that this process needs the server no more; stop it if no other process does.

        Returns when the server has begun to stop, without waiting for its last checkpoint. Does
        nothing the second time, nor in a forked child, which has not joined. Runs by itself when
        the process ends. A server that does not stop is left to the next process that joins it.
        """
        if self._process != os.getpid() or not _guard.acquire(timeout=LEAVE_PATIENCE):
            return
        try:
            atexit.unregister(self.leave)
            if _servers.get(self.home) is self:
                del _servers[self.home]
            users, self._users = self._users, None
            if users is None:
                return
            try:
                alone = users.is_current() and _becomes_only_holder(users)
                if alone and self._postmaster is not None:
                    with contextlib.suppress(EmbeddedServerError, OSError):
                        if self._sockets is not None:
                            sweep(self._sockets)  # a session that waits there would not end
                        self._postmaster.stop()
            finally:
                users.release()
        finally:
            _guard.release()

    def _ensure(self) -> None:
        """See that the server runs and that we are known as a user of it."""
        account = server_account(self.home, self._directory.data)
        with translate_os_errors(self.home):
            self._directory.make(account)
            start = FileLock(self._directory.start_lock)
            try:
                self._acquire(start, shared=False)
                if self._users is None or not self._users.is_current():
                    if self._users is not None:
                        self._users.release()
                    self._users = FileLock(self._directory.users_lock)
                    # Whoever has it exclusively is stopping the server just now.
                    self._acquire(self._users, shared=True)
                account = server_account(self.home, self._directory.data)  # as it is under the lock
                record_timeout(self._directory, starts=False)
                self._ensure_running(account, self._users)
                ensure_watcher(self._directory)
            except BaseException:
                if self.home not in _servers and self._users is not None:
                    self._users.release()
                    self._users = None
                raise
            finally:
                start.release()

    def _acquire(self, lock: FileLock, *, shared: bool) -> None:
        if not lock.acquire(shared=shared, patience=JOIN_PATIENCE):
            raise EmbeddedServerError(
                f"Another process has been starting or stopping the embedded server for more than "
                f"{JOIN_PATIENCE:.0f} seconds; it holds {lock.path}. Look for a notebook that "
                "hangs (lsof says which), or restart the machine."
            )

    def _ensure_running(self, account: Account, users: FileLock) -> None:
        """Under the start lock: look, and wait or start, until the server answers."""
        directory = self._directory
        directory.remove_unfinished()
        directory.make_private(directory.log, account)
        binaries = find_binaries(directory, account)
        ensure_cluster(directory, account, binaries)
        socket_directory = self._sockets = find_socket_directory(directory, account)
        sweep(socket_directory)
        self._postmaster = postmaster = Postmaster(directory, account, binaries)
        began = time.monotonic()
        while True:
            answer = look(socket_directory, directory.data)
            if not isinstance(answer, NotYet):
                self.version, self.url = answer, make_url(socket_directory)
                return
            running = postmaster.running()
            if running is None:
                self._start(postmaster, users, socket_directory, time.monotonic() - began)
            elif running.status == "ready" and not _has_socket(running.socket_directory):
                # Cleared away from the temporary files, or moved with the home.
                self._require_alone(users, f"its socket in {running.socket_directory} is gone")
                postmaster.stop()
            elif time.monotonic() - began > JOIN_PATIENCE:
                raise EmbeddedServerError(
                    f"The embedded server (process {running.pid}) has not answered for "
                    f"{JOIN_PATIENCE:.0f} seconds: {answer.reason}\n{postmaster.last_log_lines()}\n"
                    f"To stop it: {binaries.pg_ctl} stop -D '{directory.data}'"
                )
            time.sleep(POLL)

    def _start(
        self, postmaster: Postmaster, users: FileLock, socket_directory: Path, waited: float
    ) -> None:
        """Start it once. Returns also if the start failed but is worth another attempt."""
        directory = self._directory
        host = platform.node()
        if directory.host.exists() and (last := directory.host.read_text("utf-8")) != host:
            # A home on a network drive: neither its socket nor its pid mean anything over here.
            self._require_alone(users, f"it was last started on machine {last}")
        remove_old_copies(directory, postmaster.binaries)
        mode = 0o644 if postmaster.account.lent else 0o600  # the account must read it
        directory.write(directory.settings, settings(socket_directory), mode=mode)
        directory.write(directory.host, host, mode=0o600)
        record_timeout(directory, starts=True)
        postmaster.remove_remains(socket_path(socket_directory))
        failure = postmaster.start()
        if failure is None or postmaster.running() is not None:  # ready, or at its recovery
            return
        if waited < ORPHAN_PATIENCE:
            if LOCK_FILE in failure:
                # Not ours, as we have just seen, and Postgres takes any live process for its own.
                # A server that lives all the same keeps this start from harm: the shared memory
                # of its data directory is in use, which Postgres checks besides.
                postmaster.pid_path.unlink(missing_ok=True)
                return
            if ORPHANS in failure:
                return
        log = f"{failure}\n{postmaster.last_log_lines()}".strip()
        raise EmbeddedServerError(
            f"The embedded server in {self.home} does not start.\n{log}\n{advice(log)}".rstrip()
        )

    def _require_alone(self, users: FileLock, what: str) -> None:
        """Raise if other processes use the server that we cannot reach."""
        alone = users.only_holder()
        self._acquire(users, shared=True)
        if not alone:
            raise EmbeddedServerError(
                f"The embedded server in {self.home} cannot be reached: {what}, and other "
                "notebooks use it still. Close those first, or set TASKWIDGETS_HOME to another "
                "directory."
            )


def _becomes_only_holder(users: FileLock) -> bool:
    """Take the lock for oneself. Once more if it fails: the watcher has it for an instant."""
    for _ in range(PROBE_ATTEMPTS):
        if users.only_holder():
            return True
        time.sleep(PROBE_PAUSE)
    return False


def _has_socket(directory: Path | None) -> bool:
    return directory is not None and socket_path(directory).exists()


def _forget_in_child() -> None:
    """A forked child has not joined: it closes the locks it inherited; its parent keeps them."""
    global _guard
    _guard = threading.Lock()  # a thread of the parent may have held it at the fork
    for server in _servers.values():
        if server._users is not None:
            server._users.abandon()
            server._users = None
    _servers.clear()


os.register_at_fork(after_in_child=_forget_in_child)
