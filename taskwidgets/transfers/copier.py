"""The program that reads ranges out of the database, one process a worker.

The driver hands rows over one by one, and takes and gives the interpreter's lock for each. Two
threads that do so for 5 million rows spend their time handing the lock to each other: measured,
they export no faster than one (6.1 s against 5.5 s), and a notebook's loop waits behind them. So
each worker reads in a process of its own, which imports nothing but the driver.

It is started by its path, not as a module, so that it does not import the package. On its standard
input come lines of JSON: first how to connect, then one statement each. On its standard output go
frames: a type byte, a length, the bytes. It ends when its input ends, as when the kernel is killed,
and cancels its statement then: a server that sorts for an hour would not notice that nobody is
there any more to send to.
"""

from __future__ import annotations

import io
import json
import os
import queue
import struct
import sys
import threading
from contextlib import suppress
from typing import Any

import psycopg2
import psycopg2.extensions

__all__ = ["FRAME", "main"]

# A byte for the kind (b"d" data, b"e" the end of a statement, b"x" an error, both JSON), a length.
FRAME = struct.Struct(">cI")
CHUNK = 1 << 20  # bytes collected before they go into the pipe


class _Frames(io.RawIOBase):
    """Where a buffered writer, to which COPY writes row by row, empties itself."""

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        _send(b"d", data)
        return len(data)


def _send(kind: bytes, payload: Any) -> None:
    for part in (FRAME.pack(kind, len(payload)), payload):
        view = memoryview(part)
        while view:
            view = view[os.write(1, view) :]


def _tell(kind: bytes, what: dict[str, Any]) -> None:
    _send(kind, json.dumps(what).encode())


def _complain(error: psycopg2.Error) -> None:
    _tell(
        b"x",
        {
            "sqlstate": error.pgcode,
            "message": error.diag.message_primary or str(error).strip(),
            # A connection that is lost during COPY is told as a bare DatabaseError.
            "away": error.pgcode is None
            and (
                isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError)
                or type(error) is psycopg2.DatabaseError
            ),
        },
    )


def _listen(connection: Any, busy: threading.Event, orders: queue.SimpleQueue[str]) -> None:
    """Hear the statements; at the end of the input, cancel the one in flight and end it all."""
    for line in sys.stdin:
        orders.put(line)
    if busy.is_set():
        with suppress(psycopg2.Error):
            connection.cancel()
    os._exit(0)


def main() -> None:
    """Connect, then copy out statement after statement."""
    order = json.loads(sys.stdin.readline())
    busy, orders = threading.Event(), queue.SimpleQueue[str]()
    busy.set()
    try:
        connection = psycopg2.connect(**order["connect"])
        connection.autocommit = True  # the transaction is begun by a statement of its own
        listener = threading.Thread(target=_listen, args=(connection, busy, orders), daemon=True)
        listener.start()
        cursor = connection.cursor()
        if order["begin"]:  # at once: each alone would be a way to the server and back
            cursor.execute(";\n".join(order["begin"]))
    except psycopg2.Error as error:
        _complain(error)
        return
    _tell(b"e", {"pid": connection.info.backend_pid})
    while True:
        busy.clear()
        line = orders.get()
        busy.set()
        # The driver calls write() for each row: 5 million times, a method written in C counts.
        sink = io.BufferedWriter(_Frames(), CHUNK)
        try:
            cursor.copy_expert(json.loads(line), sink, CHUNK)
        except psycopg2.Error as error:
            _complain(error)
            return
        sink.flush()
        _tell(b"e", {"rows": cursor.rowcount})


if __name__ == "__main__":
    with suppress(BrokenPipeError, KeyboardInterrupt):  # the kernel is gone
        main()
    os._exit(0)  # without waiting for the thread that waits for input
