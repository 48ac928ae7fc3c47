"""Many jobs in one process: few connections, one listener, one keeper, and all of them done."""

import threading

import pytest
from fix_servers import wait_until

from taskwidgets import Workspace, job
from taskwidgets.store.budget import FEWEST_CONNECTIONS

ROWS = 20_000
OURS = """
    SELECT pid FROM pg_stat_activity
    WHERE application_name LIKE 'taskwidgets %%' AND datname = current_database()
"""


@job
async def fill(run, number):
    """Five rows, each in a transaction with its checkpoint."""
    for step in range(run.state.get("next", 0), 5):
        async with run.transaction() as connection:
            with connection.cursor() as cursor:
                cursor.execute("INSERT INTO filled VALUES (%s, %s)", (number, step))
            await run.checkpoint({"next": step + 1}, done=step + 1, total=5)
    return number


@job
async def count(run, number):
    """A thousand items, saved now and then."""
    async for _ in run.track(range(1000), save_every=250):
        pass
    return number


class Census(threading.Thread):
    """Counts our connections until it is told to stop; ``most`` were seen at once.

    Those count that are there in two looks running: a session that its client has closed still
    stands in the list for a moment, beside the one that has taken its place.
    """

    def __init__(self, look):
        super().__init__(daemon=True)
        self._look = look
        self._over = threading.Event()
        self.most = self.looks = 0

    def run(self):
        before: set[int] = set()
        while not self._over.wait(0.02):
            now = {pid for (pid,) in self._look(OURS)}
            self.most = max(self.most, len(now & before))
            self.looks += 1
            before = now

    def stop(self):
        self._over.set()
        self.join()


@pytest.mark.sample(1)
@pytest.mark.parametrize("most", [FEWEST_CONNECTIONS, None])
def test_two_hundred_jobs_and_four_transfers(database_url, csv_file, look, tmp_path, most):
    """All are completed, with no more connections than were allowed, and one thread each to hear
    and to keep."""
    look("CREATE TABLE filled (number integer, step integer)")
    look(
        "CREATE TABLE source AS SELECT n AS id, md5(n::text) AS a FROM generate_series(1, 20000) n"
    )
    look("VACUUM source")
    path = csv_file("id,a", *(f"{n},{n:09}" for n in range(ROWS)))
    workspace = Workspace(database_url, max_connections=most)
    census = Census(look)
    census.start()
    others = threading.enumerate()  # an earlier test's, of another database
    try:
        jobs = [
            workspace.upload(path, "one", workers=4),
            workspace.upload(path, "two", workers=4),
            workspace.download("source", tmp_path / "one.csv", workers=4),
            workspace.download("SELECT * FROM source ORDER BY id", tmp_path / "two.csv"),
        ]
        for number in range(100):
            jobs.append(fill.using(workspace=workspace)(number))
            jobs.append(count.using(workspace=workspace)(number))
        names = [thread.name for thread in threading.enumerate() if thread not in others]
        assert names.count("taskwidgets listener") == 1
        assert names.count("taskwidgets keeper") == 1
        receipts = [one.wait() for one in jobs]
    finally:
        census.stop()
        workspace.close()
    assert census.looks > 20
    # besides the pool's, the keeper's and the listener's there were connections to work with
    assert 3 < census.most <= (most or 24)
    assert [receipt.rows_loaded for receipt in receipts[:4]] == [ROWS] * 4
    assert [receipt.result for receipt in receipts[4:]] == [n for n in range(100) for _ in "ab"]
    assert look("SELECT count(*), count(DISTINCT (number, step)) FROM filled") == [(500, 500)]
    assert len(set(path.read_text().splitlines())) == ROWS + 1
    assert (tmp_path / "one.csv").read_text().count("\n") == ROWS + 1


def test_a_paused_export_gives_its_snapshot_to_those_who_wait(database_url, look, tmp_path):
    """With few connections, paused exports of unchanged tables hold up nobody, and go on."""
    look(
        "CREATE TABLE source AS SELECT n AS id, md5(n::text) AS a FROM generate_series(1, 99999) n"
    )
    look("VACUUM source")
    workspace = Workspace(database_url, max_connections=FEWEST_CONNECTIONS)
    try:
        paused = []
        for number in range(6):
            path = tmp_path / f"{number}.csv"
            one = workspace.download("source", path, max_rate=3e5)
            wait_until(lambda one=one: one.state == "running" and one.progress.rows > 0)
            one.pause()
            wait_until(lambda one=one: one.state == "paused")
            paused.append(one)
        for one in paused:
            one.max_rate = None
            one.resume()
        for one in paused:
            assert one.wait().rows_loaded == 99_999
    finally:
        workspace.close()
    first = (tmp_path / "0.csv").read_bytes()
    assert all((tmp_path / f"{number}.csv").read_bytes() == first for number in range(6))
