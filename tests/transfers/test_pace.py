"""How large batches become: as large as a pause allows, and a server that is far away needs."""

from __future__ import annotations

import shutil
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from fix_proxy import SOCKET
from fix_servers import make_base

from taskwidgets import Workspace
from taskwidgets.runtime.control import Control
from taskwidgets.transfers.pace import (
    BATCH_SECONDS,
    LARGEST_BATCH,
    LONGEST_BATCH,
    SMALLEST_BATCH,
    WAITING_TIMES,
    Pace,
)

FAR = "0.02"  # seconds for which each word of the server is on its way
# In a process of its own: the driver does not let go of the interpreter at the end of a COPY.
RELAY = """
    import asyncio, sys

    near, far, delay = sys.argv[1], sys.argv[2], float(sys.argv[3])

    async def pass_on(source, target, delay):
        while data := await source.read(1 << 16):
            await asyncio.sleep(delay)
            target.write(data)
            await target.drain()
        target.close()

    async def link(source, target):
        answers, server = await asyncio.open_unix_connection(far)
        await asyncio.gather(
            pass_on(source, server, 0), pass_on(answers, target, delay), return_exceptions=True
        )

    async def main():
        async with await asyncio.start_unix_server(link, near) as relay:
            print("ready", flush=True)
            await relay.serve_forever()

    asyncio.run(main())
"""


def settled(speed: float, waiting: float, told: bool = True) -> int:
    """The size of a batch after many, with so many bytes a second and so many seconds besides."""
    pace = Pace(Control())
    for _ in range(50):
        size = pace.batch_bytes()
        pace.took(size, waiting + size / speed, waiting if told else 0.0)
    return pace.batch_bytes()


def test_near_by_a_batch_takes_its_time_with_all_that_it_waits():
    """Where the ways are short, they are within the time of a batch."""
    assert settled(2e7, 0.0) == pytest.approx(2e7 * BATCH_SECONDS, rel=0.01)
    assert settled(2e7, 0.005) == pytest.approx(2e7 * (BATCH_SECONDS - 0.005), rel=0.01)


def test_far_away_most_of_a_batch_is_data():
    """However long the ways are, batches do not shrink until nothing is left but waiting."""
    assert settled(2e7, 0.03) == pytest.approx(2e7 * 0.03 * WAITING_TIMES, rel=0.01)
    assert settled(5e6, 2.0) == pytest.approx(5e6 * LONGEST_BATCH, rel=0.01)
    assert settled(1e9, 2.0) == LARGEST_BATCH
    assert settled(2e7, 0.3, told=False) == SMALLEST_BATCH  # what this is there against


@pytest.mark.sample(1)
@pytest.mark.parametrize("direction", ["upload", "download"])
def test_a_transfer_with_a_far_server_goes_in_few_batches(
    direction, database_url, workspace, script, many_rows, look, tmp_path, monkeypatch
):
    """The ways to the server are measured, and batches grow with them.

    Slow: the server is as far away as 40 ms.
    """
    path = many_rows(200_000)  # 11 MB
    (host,) = parse_qs(urlsplit(database_url).query)["host"]
    folder = make_base()
    near, far = folder / SOCKET, Path(host) / SOCKET
    assert script(RELAY, str(near), str(far), FAR).line() == "ready"
    sizes: list[int] = []
    took = Pace.took

    def noted(self, amount, seconds, waiting=0.0):
        sizes.append(amount)
        took(self, amount, seconds, waiting)

    if direction == "download":
        workspace.upload(path, "t").wait()
    monkeypatch.setattr(Pace, "took", noted)
    distant = Workspace(database_url.replace(host, str(folder)))
    try:
        if direction == "upload":
            distant.upload(path, "t").wait()
            assert look("SELECT count(*) FROM t") == [(200_000,)]
        else:
            distant.download("t", tmp_path / "t.csv").wait()
    finally:
        distant.close()
        shutil.rmtree(folder)
    assert 1 < len(sizes) < 25  # of 64 KiB, as they became once, there would be 170
