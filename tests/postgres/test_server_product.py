"""Servers that only resemble Postgres are refused with a reason, before anything is done there."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import psycopg2
import pytest
from fix_servers import PrivateServer, wait_until

from taskwidgets import Workspace
from taskwidgets.errors import DatabaseError, ServerUnreachable
from taskwidgets.postgres.server_product import ServerFacts, _is_redirected, examine

Answer = list[dict[str, str]] | str  # rows, or the SQLSTATE of an error
REAL = "PostgreSQL 16.4 on x86_64-pc-linux-gnu, compiled by gcc (Debian 12.2.0-14) 12.2.0, 64-bit"


class WireServer(threading.Thread):
    """Speaks as much of the protocol as a client needs that asks simple queries.

    ``answers``: by the statement. What it does not know is a syntax error; each is remembered.
    """

    types = {"standby": 16, "server_port": 23, "port": 23}  # noqa: RUF012 - numbers in pg_type

    def __init__(self, answers: dict[str, Answer]) -> None:
        super().__init__(daemon=True)
        self.answers = answers
        self.asked: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"postgresql://ann@127.0.0.1:{self._listener.getsockname()[1]}/shop"
        self.start()

    def run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                self._serve(connection)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.join()

    def _serve(self, connection: socket.socket) -> None:
        stream = connection.makefile("rwb")
        while True:  # requests for encryption are declined
            (length,) = struct.unpack("!i", stream.read(4))
            code = stream.read(length - 4)
            if struct.unpack("!i", code[:4])[0] == 196608:
                break
            stream.write(b"N")
            stream.flush()
        words = code[4:].split(b"\0")
        given = dict(zip(words[::2], words[1::2], strict=False))
        self._send(stream, b"R", struct.pack("!i", 0))
        for name, value in {
            b"server_version": b"13.0.0", b"client_encoding": b"UTF8", b"DateStyle": b"ISO",
            b"integer_datetimes": b"on", b"standard_conforming_strings": b"on",
            b"application_name": given.get(b"application_name", b""),
        }.items():  # fmt: skip
            self._send(stream, b"S", name + b"\0" + value + b"\0")
        self._send(stream, b"K", struct.pack("!ii", 4711, 0))
        self._ready(stream)
        while kind := stream.read(1):
            (length,) = struct.unpack("!i", stream.read(4))
            body = stream.read(length - 4)
            if kind == b"X":
                return
            self._answer(stream, " ".join(body.rstrip(b"\0").decode().split()))
            self._ready(stream)

    def _answer(self, stream: Any, statement: str) -> None:
        self.asked.append(statement)
        answer = self.answers.get(statement, "42601")
        if isinstance(answer, str):
            fields = [b"SERROR", b"C" + answer.encode(), b"Mno such thing"]
            self._send(stream, b"E", b"".join(field + b"\0" for field in fields) + b"\0")
            return
        names = list(answer[0])
        columns = b"".join(
            name.encode()
            + b"\0"
            + struct.pack("!ihihih", 0, 0, self.types.get(name, 25), -1, -1, 0)
            for name in names
        )
        self._send(stream, b"T", struct.pack("!h", len(names)) + columns)
        for row in answer:
            values = b"".join(
                struct.pack("!i", len(value)) + value.encode() for value in row.values()
            )
            self._send(stream, b"D", struct.pack("!h", len(names)) + values)
        self._send(stream, b"C", b"SELECT 1\0")

    def _ready(self, stream: Any) -> None:
        self._send(stream, b"Z", b"I")
        stream.flush()

    @staticmethod
    def _send(stream: Any, kind: bytes, body: bytes) -> None:
        stream.write(kind + struct.pack("!i", len(body) + 4) + body)


@pytest.fixture
def wire_server() -> Iterator[Callable[..., WireServer]]:
    """A factory of servers that give these answers, the version among them."""
    made: list[WireServer] = []

    def make(version: Answer, **answers: Answer) -> WireServer:
        known = {"SELECT pg_catalog.version()": version, **answers}
        if isinstance(version, str) and " " in version:
            known["SELECT pg_catalog.version()"] = [{"version": version}]
        made.append(WireServer(known))
        return made[-1]

    yield make
    for one in made:
        one.close()


# As the products give it: from their documentation, and from a run of PGlite.
VERSIONS = {
    "CockroachDB": "CockroachDB CCL v23.2.4 (x86_64-pc-linux-gnu, built 2024/04/08 21:53:56)",
    "Amazon Redshift": "PostgreSQL 8.0.2 on i686-pc-linux-gnu, compiled by GCC gcc (GCC) 3.4.2 "
    "20041017 (Red Hat 3.4.2-6.fc3), Redshift 1.0.103527",
    "YugabyteDB": "PostgreSQL 15.2-YB-2.25.0.0-b0 on x86_64-pc-linux-gnu, compiled by clang",
    "PGlite": "PostgreSQL 18.6 (PGlite 0.5.14) on wasm32-unknown-emscripten, compiled by emcc "
    "(Emscripten gcc/clang-like replacement + linker emulating GNU ld) 6.0.5, 32-bit",
    "Greenplum": "PostgreSQL 12.12 (Greenplum Database 7.0.0 build commit:0a7a3566) on x86_64",
    "Materialize": "PostgreSQL 9.5.0 on x86_64-unknown-linux-gnu (Materialize v0.118.0)",
    "RisingWave": "PostgreSQL 13.14.0-RisingWave-2.1.0 (df4dfdfa8)",
    "QuestDB": "PostgreSQL 12.3, compiled by Visual C++ build 1914, 64-bit, QuestDB",
    "CrateDB": "CrateDB 5.8.1 (built 4f29b2e/2024-07-31T08:28:14Z, Linux 5.15 amd64)",
}


@pytest.mark.parametrize("product", VERSIONS)
def test_a_look_alike_is_refused_by_its_name(wire_server, product):
    """One question is asked, and the answer says what it is and what is missing."""
    server = wire_server(VERSIONS[product])
    with pytest.raises(
        DatabaseError, match=f"is {product}, which resembles .* cannot be used: "
    ) as e:
        Workspace(server.url)
    assert type(e.value) is DatabaseError  # it is not tried again
    assert server.asked == ["SELECT pg_catalog.version()"]


@pytest.mark.parametrize(
    ("version", "words"),
    [("MyBase 1.0 server", "is not Postgres, which is needed; it calls itself: MyBase 1.0"),
     ("42883", r"is not Postgres: it does not know pg_catalog.version\(\) \(no such thing\)")],
)  # fmt: skip
def test_what_is_unknown_is_refused_as_well(wire_server, version, words):
    """A server that calls itself otherwise, or does not know the function, is no Postgres."""
    with pytest.raises(DatabaseError, match=words):
        Workspace(wire_server(version).url)


def test_a_server_that_is_full_is_no_look_alike(wire_server):
    """An error of an outage says nothing of the product, and is told as what it is."""
    with pytest.raises(ServerUnreachable):
        Workspace(wire_server("57P03").url)


def facts(wire_server: Callable[..., WireServer], **answers: Answer) -> WireServer:
    """A real Postgres behind a proxy."""
    server = wire_server(REAL, **answers)
    told = {"standby": "f", "host": "10.0.0.1", "server_port": "5432", "port": "5432"}
    server.answers[
        "SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.host(pg_catalog.inet_server_addr()),"
        " pg_catalog.inet_server_port(), pg_catalog.current_setting('port')::pg_catalog.int4"
    ] = [told]
    return server


# As pgpool-II 4.3.5 has them.
STANDBY = {"node_id": "1", "lb_weight": "0.500000", "role": "standby"}
NODES = [{"node_id": "0", "lb_weight": "0.500000", "role": "primary"}, STANDBY]
PGPOOL = {
    "SHOW pool_version": [{"pool_version": "4.3.5 (tamahomeboshi)"}],
    "SHOW pool_nodes": NODES,
    "PGPOOL SHOW memory_cache_enabled": [{"memory_cache_enabled": "off"}],
    "PGPOOL SHOW load_balance_mode": [{"load_balance_mode": "on"}],
    "PGPOOL SHOW app_name_redirect_preference_list": [{"app_name_redirect_preference_list": ""}],
}
REPLICATED = [{"role": "main", "lb_weight": "1"}, {"role": "replica", "lb_weight": "1"}]
REDIRECTED = [{"app_name_redirect_preference_list": "psql:standby, taskwidgets.*:primary"}]


@pytest.mark.parametrize(
    ("changed", "words"),
    [({}, "sends SELECT statements to 1 standby servers"),
     ({"PGPOOL SHOW app_name_redirect_preference_list": "42704"}, "sends SELECT statements"),
     ({"SHOW pool_nodes": [*NODES, STANDBY]}, "to 2 standby servers"),
     ({"PGPOOL SHOW memory_cache_enabled": [{"on": "on"}]}, "answers from a cache"),
     ({"SHOW pool_nodes": REPLICATED},
      "writes to several servers by itself")],
)  # fmt: skip
def test_pgpool_with_standbys_is_refused(wire_server, changed, words):
    """What it does is said, and what to write into pgpool.conf."""
    server = facts(wire_server, **{**PGPOOL, **changed})
    with pytest.raises(DatabaseError, match=f"behind pgpool-II 4.3.5 .*{words}") as refused:
        Workspace(server.url)
    assert "app_name_redirect_preference_list = 'taskwidgets.*:primary'" in str(refused.value)


@pytest.mark.parametrize(
    "changed",
    [{"PGPOOL SHOW load_balance_mode": [{"load_balance_mode": "off"}]},
     {"PGPOOL SHOW app_name_redirect_preference_list": REDIRECTED},
     {"SHOW pool_nodes": [NODES[0], {**STANDBY, "lb_weight": "0.000000"}]},
     {"SHOW pool_nodes": [{"role": "main", "lb_weight": "1"}]},
     {"SHOW pool_version": "42704"}],
)  # fmt: skip
def test_pgpool_that_asks_the_primary_alone_is_good(wire_server, changed):
    """Without load balancing, with the package's statements sent to the primary; other proxies."""
    server = facts(wire_server, **{**PGPOOL, **changed})
    with closing(psycopg2.connect(server.url, application_name="taskwidgets 01234567")) as one:
        one.autocommit = True
        found = examine(one, "it")
        assert found == ServerFacts(is_standby=False, location=f"127.0.0.1:{one.info.port}/shop")
    assert server.asked[2] == "SHOW pool_version"


@pytest.mark.parametrize(
    ("preferences", "is_redirected"),
    [("", False), ("taskwidgets.*:primary", True), ("taskwidgets:primary(1.0)", True),
     ("taskwidgets.*:standby", False), ("taskwidgets.*:primary(0.3)", False),
     ("psql:primary", False), (".*:standby,taskwidgets.*:primary", False),
     ("(:primary", False), (":primary", False)],
)  # fmt: skip
def test_the_first_preference_that_matches_counts(preferences, is_redirected):
    """As pgpool-II reads its list."""
    assert _is_redirected(preferences, "taskwidgets 0123456789abcdef") is is_redirected


def test_a_plain_server_is_not_asked_for_pgpool(private_server: PrivateServer):
    """Where nothing is between, no error gets into the server's log; a proxy is asked."""
    Workspace(private_server.url()).close()
    log = (private_server.data / "log").read_text
    assert "pool_version" not in log()
    wait_until(lambda: "database system is ready" in log())


def test_a_proxy_is_asked_for_pgpool(private_server: PrivateServer, tmp_path):
    """The way by another socket is noticed."""
    (tmp_path / ".s.PGSQL.6543").symlink_to(private_server.socket / ".s.PGSQL.5432")
    Workspace(f"postgresql://owner@/postgres?host={tmp_path}&port=6543").close()
    assert 'parameter "pool_version"' in (private_server.data / "log").read_text()
