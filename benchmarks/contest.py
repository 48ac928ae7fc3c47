"""One peer's turn, in a fresh process: seconds, CPU seconds, and memory.

The process runs the peer once on a file or table of one row, as the process of somebody who works
with it has done, so that imports are not measured; then it waits for the word. Its CPU time is that
of itself and its own processes; its memory is what these have at most, above what they had while
waiting. The server's CPU time is that of all its processes, in the same span.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import common
import psutil
from peers import Task
from sqlalchemy import text
from sqlalchemy.engine import Engine

LOOK = 0.1  # seconds between two looks at the memory


@dataclass(frozen=True)
class Turn:
    """What one turn took."""

    seconds: float
    client_cpu: float  # seconds
    server_cpu: float  # seconds
    memory: float  # MiB


class PeerFailed(Exception):
    """A peer ended with an error; its last words."""


def take_turn(direction: str, name: str, task: Task, tiny: Task, engine: Engine) -> Turn:
    """Run a peer in a process of its own. Raises PeerFailed."""
    told = json.dumps([direction, name, asdict(tiny), asdict(task)])
    with subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    ) as child:  # fmt: skip
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stderr is not None
        complaints: list[str] = []
        listener = threading.Thread(target=lambda: complaints.extend(child.stderr or ()))
        listener.start()
        try:
            print(told, file=child.stdin, flush=True)
            if child.stdout.readline() != "ready\n":
                raise PeerFailed(_last_words(child, listener, complaints))
            client, server = Tree(child.pid, "client"), Tree(postmaster(engine), "server")
            before = client.cpu(), server.cpu()
            with client.watched():
                print("go", file=child.stdin, flush=True)
                seconds = child.stdout.readline()
            if not seconds:
                raise PeerFailed(_last_words(child, listener, complaints))
            after = client.cpu(), server.cpu()
        finally:
            with contextlib.suppress(BrokenPipeError):
                child.stdin.close()
            if child.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(20)
                child.kill()
            listener.join()
    return Turn(
        float(seconds), after[0] - before[0], after[1] - before[1], client.peak - client.idle
    )


def _last_words(child: subprocess.Popen[str], listener: threading.Thread, said: list[str]) -> str:
    child.wait()
    listener.join()
    lines = [line.strip() for line in said if line.strip()]
    return lines[-1] if lines else f"it ended with {child.returncode} and said nothing"


def postmaster(engine: Engine) -> int:
    """The number of the server's first process."""
    with engine.connect() as connection:
        folder = connection.execute(text("SHOW data_directory")).scalar_one()
    return int((Path(folder) / "postmaster.pid").read_text().split()[0])


class Tree:
    """A process and all that come from it; of a client's, no server that it has started."""

    def __init__(self, number: int, role: str) -> None:
        self._root = psutil.Process(number)
        self._is_client = role == "client"
        self.idle = self.peak = self._resident(self._members())

    def _members(self) -> list[psutil.Process]:
        members = [self._root]
        for process in self._root.children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if not (self._is_client and process.name() == "postgres"):
                    members.append(process)
        return members

    def cpu(self) -> float:
        """Seconds that they have worked, and those that have ended and were waited for."""
        total = 0.0
        for process in self._members():
            with contextlib.suppress(psutil.Error):
                taken = process.cpu_times()
                total += taken.user + taken.system + taken.children_user + taken.children_system
        return total

    def _resident(self, members: list[psutil.Process]) -> float:
        total = 0
        for process in members:
            with contextlib.suppress(psutil.Error):
                total += process.memory_info().rss
        return total / (1 << 20)

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Keep the most memory that they have at once, in MiB, as ``peak``."""
        over = threading.Event()

        def watch() -> None:
            looks = 0
            while not over.is_set():
                if looks % 5 == 0:  # to list a machine's processes costs more than to look at some
                    members = self._members()
                looks += 1
                self.peak = max(self.peak, self._resident(members))
                over.wait(LOOK)

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()


def main() -> None:
    """The child's side."""
    import peers_download
    import peers_upload

    direction, name, tiny, task = json.loads(input())
    peers = {"upload": peers_upload.PEERS, "download": peers_download.PEERS}[direction]
    (peer,) = (peer for peer in peers if peer.name == name)
    peer.act(Task(**tiny))
    print("ready", flush=True)
    input()
    seconds = common.timed(lambda: peer.act(Task(**task)))
    print(seconds, flush=True)
    sys.stdin.read()  # the parent looks at this process once more before it ends
    os._exit(0)  # whatever a peer keeps open is of no interest any more


if __name__ == "__main__":
    main()
