"""A way to the server on which the COMMIT of a test's choice, or the reply to it, is lost."""

from __future__ import annotations

import re
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from fix_servers import make_base

SOCKET = ".s.PGSQL.5432"
LENGTH = struct.Struct("!I")
COMMIT = b"Q" + LENGTH.pack(11) + b"COMMIT\0"


class StallingProxy:
    """Passes on what the driver and a server on a Unix socket say to each other.

    ``lose(pattern)`` has the next COMMIT of a transaction with such a statement come to nothing:
    the server gets it and its reply is withheld, or, with ``arrives=False``, not even the server
    gets it. Whoever waits for the reply waits until ``cut()`` closes its connection. With ``late``,
    the server does not hear of that, and gets the COMMIT by ``deliver()``, when the driver has come
    back by another connection.
    """

    def __init__(self, upstream: Path) -> None:
        self.folder = make_base()
        self.upstream = upstream / SOCKET
        self.lost = threading.Event()  # the COMMIT, or the reply, is gone
        self._pattern: re.Pattern[str] | None = None
        self._arrives = self._late = False
        self._lock = threading.Lock()
        self._stalled: list[_Link] = []
        self._links: list[_Link] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.folder / SOCKET))
        self._listener.listen(64)
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def lose(self, pattern: str, *, arrives: bool = True, late: bool = False) -> None:
        with self._lock:
            self.lost.clear()
            self._pattern, self._arrives, self._late = re.compile(pattern), arrives, late

    def cut(self) -> None:
        """Close the connection whose COMMIT was lost."""
        for link in self._stalled:
            link.close()

    def deliver(self) -> None:
        """Have the server get the COMMIT that was late."""
        for link in self._stalled:
            link.is_late = False
            link.server.sendall(COMMIT)

    def takes(self, link: _Link, statements: str) -> bool | None:
        """None: let this COMMIT pass; else whether the server gets it."""
        with self._lock:
            if self._pattern is None or not self._pattern.search(statements):
                return None
            self._pattern = None
            self._stalled.append(link)
            link.is_late = self._late
            return self._arrives

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._links.append(_Link(self, client))

    def close(self) -> None:
        # Closing alone would leave accept() waiting.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        for link in self._links:
            link.is_late = False
            link.close()
        (self.folder / SOCKET).unlink()
        self.folder.rmdir()


class _Link:
    """One connection through the proxy."""

    def __init__(self, proxy: StallingProxy, client: socket.socket) -> None:
        self.proxy = proxy
        self.client = client
        self.server = socket.socket(socket.AF_UNIX)
        self.server.connect(str(proxy.upstream))
        self.withheld = False  # what the server says now is not passed on
        self.is_late = False  # the server is not to hear yet that its client is gone
        self.statements = ""  # of the transaction so far
        for pump in (self._to_server, self._to_client):
            threading.Thread(target=self._run, args=(pump,), daemon=True).start()

    def close(self) -> None:
        for end in (self.client, *([] if self.is_late else [self.server])):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _run(self, pump) -> None:
        with suppress(OSError, EOFError):
            pump()
        self.close()

    def _exactly(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            piece = self.client.recv(length - len(data))
            if not piece:
                raise EOFError
            data += piece
        return data

    def _to_server(self) -> None:
        # The first message, of a session or of a cancel, has no letter before its length.
        head = self._exactly(4)
        self.server.sendall(head + self._exactly(LENGTH.unpack(head)[0] - 4))
        while True:
            head = self._exactly(5)
            body = self._exactly(LENGTH.unpack(head[1:])[0] - 4)
            if head[:1] == b"Q":
                statement = body[:-1].decode(errors="replace")
                if statement == "COMMIT":
                    arrives = self.proxy.takes(self, self.statements)
                    if arrives is not None:
                        self.withheld = True
                    if arrives is False:
                        self.proxy.lost.set()
                        continue
                self.statements = (
                    "" if statement in ("COMMIT", "ROLLBACK") else self.statements + statement
                )
            self.server.sendall(head + body)

    def _to_client(self) -> None:
        while data := self.server.recv(1 << 16):
            if self.withheld:
                self.proxy.lost.set()
            else:
                self.client.sendall(data)


@pytest.fixture
def proxied() -> Iterator[object]:
    """A factory: ``proxied(directory of the server's socket)``."""
    made: list[StallingProxy] = []

    def make(upstream: Path) -> StallingProxy:
        made.append(StallingProxy(upstream))
        return made[-1]

    yield make
    for one in made:
        one.close()
