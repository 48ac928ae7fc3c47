"""What somebody notices of a transfer while it runs, each measured in a process of its own.

    python benchmarks/latencies.py [--quick] [--direction upload]

- start: from the call to the first committed row; and from ``terminate()`` to ``terminated``
- pause: from ``pause()`` to the durable ``paused``; and from ``resume()`` to new progress
- lag: by how much each tick of 1 ms on the event loop comes late, without a transfer and with one
- panel: what a kernel sends for the panel that a cell shows
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import common
from datasets import DATA_SETS, FOLDER, PARTS, head
from results import Value

import taskwidgets as tw

Start = Callable[[], tw.Job]
Told = dict[str, list[float]]
ENDS = ("completed", "failed", "terminated")
STARTS, PAUSES = 7, 20
OUT = FOLDER / "while.csv"


def start_line(direction: str, path: str, table: str) -> str:
    """The call that begins a transfer, as one would write it."""
    if direction == "upload":
        return f"tw.upload({path!r}, 'bench_while', if_exists='replace', again=True)"
    return f"tw.download({table!r}, {str(OUT)!r}, if_exists='replace', again=True)"


async def first_row_and_terminate(start: Start) -> Told:
    first, ended = [], []
    for _ in range(STARTS):
        began = time.perf_counter()
        job = start()
        while not job.progress.rows and job.state not in ENDS:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        first.append((time.perf_counter() - began) * 1000)
        with contextlib.suppress(tw.TaskwidgetsError):  # it may be done already
            began = time.perf_counter()
            job.terminate()
            while job.state not in ENDS:  # noqa: ASYNC110 - what is measured
                await asyncio.sleep(0.001)
            if job.state == "terminated":
                ended.append((time.perf_counter() - began) * 1000)
        with contextlib.suppress(tw.JobTerminated):
            await job
    return {"time to first row": first, "terminate": ended}


async def pause_and_resume(start: Start) -> Told:
    paused, resumed = [], []
    for _ in range(5):  # a quick job is soon over
        job = start()
        while len(paused) < PAUSES and job.state not in ENDS:
            await asyncio.sleep(0.15)
            if job.state != "running":
                continue
            began = time.perf_counter()
            job.pause()
            while job.state not in ("paused", *ENDS):  # noqa: ASYNC110 - what is measured
                await asyncio.sleep(0.001)
            if job.state != "paused":
                break
            paused.append((time.perf_counter() - began) * 1000)
            before, began = job.progress.done, time.perf_counter()
            job.resume()
            while job.progress.done <= before and job.state not in ENDS:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            resumed.append((time.perf_counter() - began) * 1000)
        await job
    return {"pause": paused, "resume": resumed}


async def lag(start: Start) -> Told:
    ends = time.monotonic() + 3
    alone = await _ticks(lambda: time.monotonic() > ends)
    job = start()
    late = await _ticks(lambda: job.state in ENDS)
    await job
    told = {}
    for name, values in (("alone", alone), ("with it", late)):
        told[f"loop lag {name}, p50"] = [values[len(values) // 2]]
        told[f"loop lag {name}, p99"] = [values[int(len(values) * 0.99)]]
        told[f"loop lag {name}, max"] = [values[-1]]
    return told


async def _ticks(until: Callable[[], bool]) -> list[float]:
    """By how many ms each tick of 1 ms came late, sorted."""
    late = []
    while not until():
        began = time.perf_counter()
        await asyncio.sleep(0.001)
        late.append((time.perf_counter() - began - 0.001) * 1000)
    return sorted(late)


MEASURES = {"start": first_row_and_terminate, "pause": pause_and_resume, "lag": lag}


def panel(direction: str, url: str, path: str, table: str) -> Told:
    """The messages of a kernel whose cell shows the panel, from the call to the job's end."""
    from jupyter_client import KernelManager

    manager = KernelManager(kernel_name="python3", transport="ipc")
    manager.start_kernel(env=dict(os.environ))
    client = manager.client()
    client.start_channels()
    sizes: list[int] = []
    updates: Counter[str] = Counter()

    def run(code: str) -> str:
        """Run a cell; what it prints."""
        number, printed = client.execute(code), ""
        while True:
            message = client.get_iopub_msg(timeout=600)
            content = message["content"]
            kind, of_it = message["msg_type"], message["parent_header"].get("msg_id") == number
            if kind == "comm_msg" and content["data"].get("method") == "update":
                updates[content["comm_id"]] += 1
                sizes.append(len(json.dumps(content)))
            elif kind == "stream":
                printed += content["text"]
            elif kind == "error":
                raise RuntimeError("\n".join(content["traceback"]))
            elif kind == "status" and content["execution_state"] == "idle" and of_it:
                return printed

    try:
        client.wait_for_ready(timeout=60)
        run(f"import taskwidgets as tw\ntw.connect({url!r})\nimport time")
        began = time.perf_counter()
        run(f"job = {start_line(direction, path, table)}\njob")
        printed = run("await job; print(job.state)")
        seconds = time.perf_counter() - began
        assert "completed" in printed, printed
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    return {
        "widget messages": [len(sizes) / seconds],
        "widget messages, busiest widget": [max(updates.values(), default=0) / seconds],
        "widget traffic": [sum(sizes) / 1000 / seconds],
    }


UNITS = {"widget messages": "/s", "widget messages, busiest widget": "/s", "widget traffic": "kB/s"}


def measure(direction: str, url: str, path: Path, table: str, name: str) -> Iterator[Value]:
    """All of them; each value is one of several."""
    tiny = head(path)
    for what in (*MEASURES, "panel"):
        if what == "panel":
            told = panel(direction, url, str(path), table)
        else:
            done = subprocess.run(
                [sys.executable, __file__, "--child", what, direction, url, path, table, tiny],
                check=True, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
            told = json.loads(done.stdout.splitlines()[-1])
        size = path.stat().st_size
        for measured, values in told.items():
            unit = UNITS.get(measured, "ms")
            for number, value in enumerate(values, 1):
                yield Value(
                    f"while {direction}", name, "taskwidgets", number, measured, value, unit, size
                )
    OUT.unlink(missing_ok=True)


def child(what: str, direction: str, url: str, path: str, table: str, tiny: str) -> None:
    """Measure and print, after a job of one row, which imports all that any job does."""
    tw.connect(url)

    def start() -> tw.Job:
        job = eval(start_line(direction, path, table))  # the very line that the kernel runs
        assert isinstance(job, tw.Job)
        return job

    async def act() -> Told:
        await tw.upload(tiny, "bench_while", if_exists="replace", again=True)
        await tw.download("SELECT 1 AS a", OUT, if_exists="replace", again=True)
        return await MEASURES[what](start)

    print(json.dumps(asyncio.run(act())))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--quick", action="store_true", help="on the small file")
    options.add_argument("--direction", choices=("upload", "download"), nargs="+",
                         default=("upload", "download"))  # fmt: skip
    given = options.parse_args()
    path = DATA_SETS["flights"].file(1 if given.quick else PARTS)
    with common.server() as workspace:
        workspace.upload(path, "bench_whole").wait()
        url = common.plain_url(workspace.engine)
        for direction in given.direction:
            for value in measure(direction, url, path, "bench_whole", "flights"):
                print(f"{value.part}: {value.measure}: {value.value:.1f} {value.unit}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(*sys.argv[2:])
    else:
        main()
