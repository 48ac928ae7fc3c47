"""A way to a server by TCP and TLS, with certificates of the test's own.

The embedded Postgres is built without TLS. The check of a certificate is the client's, and the
client here is the real one.
"""

from __future__ import annotations

import asyncio
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import trustme

SOCKET = ".s.PGSQL.5432"
# https://www.postgresql.org/docs/current/protocol-message-formats.html
SSL_REQUEST, CANCEL_REQUEST = 80877103, 80877102


class TlsProxy:
    """Decrypts what comes to ``port`` on localhost, and passes it on to a server's Unix socket.

    ``certificates``: a file of those that are to be trusted. Its own is for ``localhost``
    and ``db.internal``.
    """

    def __init__(self, upstream: Path, folder: Path) -> None:
        authority = trustme.CA()
        self.certificates = folder / "ca.pem"
        authority.cert_pem.write_to_path(self.certificates)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost", "db.internal").configure_cert(self._context)
        self._upstream = str(upstream / SOCKET)
        self._loop = asyncio.new_event_loop()
        self._server = self._loop.run_until_complete(
            asyncio.start_server(self._serve, "127.0.0.1", 0)
        )
        self.port: int = self._server.sockets[0].getsockname()[1]
        self.encrypted = 0  # connections
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends = [writer]
        try:
            first = await reader.readexactly(8)
            code = struct.unpack("!ii", first)[1]
            if code == SSL_REQUEST:
                writer.write(b"S")
                await writer.start_tls(self._context)
                self.encrypted += 1
                first = b""
            if code in (SSL_REQUEST, CANCEL_REQUEST):  # nothing else is taken unencrypted
                there, to_there = await asyncio.open_unix_connection(self._upstream)
                ends.append(to_there)
                to_there.write(first)
                await asyncio.gather(self._pass(reader, to_there), self._pass(there, writer))
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client is gone, or does not trust the certificate
        finally:
            for end in ends:
                end.transport.abort()

    @staticmethod
    async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        writer.close()

    def url(self, password: str, host: str = "localhost", **options: object) -> str:
        query = "&".join(f"{name}={value}" for name, value in options.items())
        return f"postgresql://owner:{password}@{host}:{self.port}/postgres?{query}"

    def close(self) -> None:
        async def end() -> None:
            self._server.close()
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.sleep(0)  # a transport closes its socket in the loop's next round

        asyncio.run_coroutine_threadsafe(end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture
def tls_proxy(tmp_path: Path) -> Iterator[Callable[[Path], TlsProxy]]:
    """A factory of such ways, by the directory of the server's socket."""
    made: list[TlsProxy] = []

    def make(upstream: Path) -> TlsProxy:
        made.append(TlsProxy(upstream, tmp_path))
        return made[-1]

    yield make
    for one in made:
        one.close()
