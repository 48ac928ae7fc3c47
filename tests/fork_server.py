"""Starts Python processes that have the package imported: a fork in place of a start.

A process that imports the package, SQLAlchemy and NumPy takes a second of processor time before it
does anything, and many tests need such processes: to kill, to freeze, to call a command. They are
real processes all the same, with an environment, a folder and streams of their own.

``Forked`` is the side of the tests; ``serve`` is the process that forks, one for each process that
runs tests. What imports do themselves is not to be tested in this way.
"""

from __future__ import annotations

import gc
import io
import json
import os
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import types
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
LENGTH = struct.Struct("!I")
STATUS = struct.Struct("!i")

# What most processes of the tests import, at once or when they need it.
MODULES = (
    "pandas", "taskwidgets", "taskwidgets.workspace", "taskwidgets.current",
    "taskwidgets.decorator",
    "taskwidgets.store.migrate", "alembic.command", "alembic.ddl.postgresql", "tenacity",
    "taskwidgets.embedded.pipes", "taskwidgets.transfers.copier", "taskwidgets.cli.app",
    "rich.console", "rich.progress", "rich.table", "typer.testing", "asyncio", "psycopg2.extras",
)  # fmt: skip


def _is_readable(file: int, timeout: float | None) -> bool:
    """Wait for something to read, for ``timeout`` seconds or, with None, for ever.

    By poll(): select() knows no descriptors beyond 1,023, and there may be so many.
    """
    waiting = select.poll()
    waiting.register(file, select.POLLIN)
    return bool(waiting.poll(None if timeout is None else timeout * 1000))


class Forked:
    """A process as ``subprocess.Popen`` has them, with pipes of text; one thread may wait for it.

    ``module``: run it as ``python -m`` does; else ``code`` is run as by ``python -c``.
    """

    _server: socket.socket | None = None
    _process: subprocess.Popen[bytes] | None = None

    def __init__(
        self,
        arguments: list[str],
        environment: dict[str, str],
        *,
        code: str = "",
        module: str = "",
        folder: Path | str = ".",
        stdin: Any = subprocess.PIPE,
    ) -> None:
        pipes = [os.pipe() for _ in range(4)]  # stdin, stdout, stderr, and the exit status
        (theirs_in, ours_in), (ours_out, theirs_out), (ours_err, theirs_err), status = pipes
        if stdin == subprocess.DEVNULL:
            os.close(ours_in)
        order = {
            "arguments": arguments,
            "environment": environment,
            "code": code,
            "module": module,
            "folder": str(Path(folder).absolute()),
        }
        given = [theirs_in, theirs_out, theirs_err, status[1]]
        data = json.dumps(order).encode()
        server = self._connected()
        socket.send_fds(server, [LENGTH.pack(len(data))], given)
        server.sendall(data)
        for number in given:
            os.close(number)
        self.pid: int = LENGTH.unpack(_read(server, LENGTH.size))[0]
        self.returncode: int | None = None
        self.stdin = None if stdin == subprocess.DEVNULL else os.fdopen(ours_in, "w", 1)
        self.stdout = os.fdopen(ours_out)
        self.stderr = os.fdopen(ours_err)
        self._status = status[0]

    @classmethod
    def _connected(cls) -> socket.socket:
        if cls._server is None:
            ours, theirs = socket.socketpair()
            command = f"import fork_server; fork_server.serve({theirs.fileno()})"
            cls._process = subprocess.Popen(
                [sys.executable, "-W", "error", "-c", command],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE)])},
            )
            theirs.close()
            cls._server = ours
        return cls._server

    @classmethod
    def close(cls) -> None:
        """End the server; the processes that it has started go on."""
        if cls._server is not None and cls._process is not None:
            cls._server.close()
            cls._process.wait()
            cls._server = cls._process = None

    @classmethod
    def server_pid(cls) -> int | None:
        return None if cls._process is None else cls._process.pid

    def poll(self) -> int | None:
        if self.returncode is None and _is_readable(self._status, 0):
            self.wait()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not _is_readable(self._status, timeout):
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
            raw = os.read(self._status, STATUS.size)
            assert raw, "the server that forks processes has ended"
            self.returncode = os.waitstatus_to_exitcode(STATUS.unpack(raw)[0])
            os.close(self._status)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def communicate(
        self, given: str | None = None, timeout: float | None = None
    ) -> tuple[str, str]:
        """As Popen does; once it has returned, the streams are closed and give nothing more."""
        texts = {"stdout": "", "stderr": ""}

        def read(name: str) -> None:
            stream = getattr(self, name)
            if stream is not None and not stream.closed:
                texts[name] = stream.read()
                stream.close()

        threads = [threading.Thread(target=read, args=(name,), daemon=True) for name in texts]
        for thread in threads:
            thread.start()
        if self.stdin is not None and not self.stdin.closed:
            with suppress(BrokenPipeError):
                if given:
                    self.stdin.write(given)
                self.stdin.close()
        deadline = None if timeout is None else time.monotonic() + timeout
        for thread in threads:
            thread.join(None if deadline is None else max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
        self.wait(None if deadline is None else max(0.1, deadline - time.monotonic()))
        return texts["stdout"], texts["stderr"]


def _read(source: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = source.recv(size - len(data))
        if not part:
            raise EOFError
        data += part
    return data


# -------------------------------------------------------------------------- the process that forks


def serve(number: int) -> None:
    """Fork as ordered, until the tests are gone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in MODULES:
            __import__(name)
    gc.freeze()
    orders = socket.socket(fileno=number)
    orders.set_inheritable(False)
    ended_in, ended_out = os.pipe()
    os.set_blocking(ended_out, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(ended_out, warn_on_full_buffer=False)
    statuses: dict[int, int] = {}  # a process's pid, and where its exit status is to be written
    while True:
        ready, _, _ = select.select([orders, ended_in], [], [])
        if ended_in in ready:
            os.read(ended_in, 1 << 12)
            while statuses:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    break
                target = statuses.pop(pid)
                with suppress(BrokenPipeError):
                    os.write(target, STATUS.pack(status))
                os.close(target)
        if orders in ready:
            try:
                # Of the message's ancillary data come the file numbers.
                head, given, _, _ = socket.recv_fds(orders, LENGTH.size, 4)
                order = json.loads(_read(orders, LENGTH.unpack(head)[0]))
            except (EOFError, struct.error):
                orders.close()
                return
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                for other in (ended_in, ended_out, given[3], *statuses.values()):
                    os.close(other)
                orders.close()
                _become(order, given[:3])  # ends by SystemExit, as any program does
            statuses[pid] = given[3]
            for one in given[:3]:
                os.close(one)
            orders.sendall(LENGTH.pack(pid))


def _become(order: dict[str, Any], streams: list[int]) -> None:
    """Be the process that was ordered, up to its end."""
    for number, source in enumerate(streams):
        os.dup2(source, number)
        os.close(source)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)), "utf-8")
    sys.stdout = io.TextIOWrapper(io.BufferedWriter(io.FileIO(1, "w", closefd=False)), "utf-8")
    sys.stderr = io.TextIOWrapper(
        io.BufferedWriter(io.FileIO(2, "w", closefd=False)),
        "utf-8", "backslashreplace", write_through=True, line_buffering=True,
    )  # fmt: skip
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["environment"])
    sys.path[0] = ""
    for path in reversed(os.environ.get("PYTHONPATH", "").split(os.pathsep)):
        if path and path not in sys.path:
            sys.path.insert(1, path)
    from taskwidgets.runtime import failpoints

    failpoints._folder = os.environ.get(failpoints.VARIABLE)
    time.tzset()
    try:
        if order["module"]:
            sys.argv = [order["module"], *order["arguments"]]
            runpy.run_module(order["module"], run_name="__main__", alter_sys=True)
        else:
            sys.argv = ["-c", *order["arguments"]]
            main = types.ModuleType("__main__")
            sys.modules["__main__"] = main
            exec(compile(order["code"], "<string>", "exec"), main.__dict__)
    except (SystemExit, KeyboardInterrupt):  # of the latter, a process dies by the signal
        raise
    except BaseException as error:  # noqa: BLE001 - told as any program tells it
        sys.excepthook(type(error), error, error.__traceback__)
        sys.exit(1)
    sys.exit(0)
