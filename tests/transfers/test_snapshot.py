"""An export shows the table as of one moment, or says why it cannot: attacks on the proof."""

import random
import threading
from contextlib import closing
from dataclasses import replace

import pandas as pd
import psycopg2
import pytest
from fix_exports import copied, hash_of, pause
from fix_servers import plain, wait_until

from taskwidgets.errors import JobFailed, SourceChanged
from taskwidgets.store.database import Database
from taskwidgets.transfers.names import TableName
from taskwidgets.transfers.snapshot import Snapshot, Written, compare, verify

CHANGED = {
    "insert": ("INSERT INTO t VALUES (0, 'x', 'y', 1)", "inserted or updated"),
    "update of the last row": ("UPDATE t SET amount = amount WHERE id = 60000", "updated"),
    "update of the first row": ("UPDATE t SET note = 'x' WHERE id = 1", "updated"),
    "delete of the first row": ("DELETE FROM t WHERE id = 1", "rows"),
    "delete of the last row": ("DELETE FROM t WHERE id = 60000", "rows instead of"),
    "as many inserted as deleted": (
        "WITH d AS (DELETE FROM t WHERE id = 9 RETURNING *)"
        " INSERT INTO t (id, hash, note, amount) SELECT id, hash, note, amount FROM d",
        "inserted",
    ),
    "truncate": ("TRUNCATE t", "truncated or rewritten"),
    "rewritten and filled again": (
        "BEGIN; CREATE TEMP TABLE kept AS TABLE t; TRUNCATE t;"
        " INSERT INTO t (id, hash) SELECT id, hash FROM kept; COMMIT",
        "truncated or rewritten",
    ),
    "vacuum full": ("VACUUM FULL t", "rewritten"),
    "cluster": ("CREATE INDEX h ON t (hash); CLUSTER t USING h", "rewritten"),
    "column added": ("ALTER TABLE t ADD COLUMN new int DEFAULT 5", "columns"),
    "column dropped": ("ALTER TABLE t DROP COLUMN note", "columns"),
    "column renamed": ("ALTER TABLE t RENAME COLUMN note TO remark", "columns"),
    "type changed": ("ALTER TABLE t ALTER COLUMN id TYPE bigint", "columns"),
    "type changed without a rewrite": ("ALTER TABLE t ALTER COLUMN hash TYPE varchar", "columns"),
    "generated column changed": (
        "ALTER TABLE t ALTER COLUMN twice SET EXPRESSION AS (amount * 3)",
        "columns",
    ),
    "label of an enum renamed": ("ALTER TYPE mood RENAME VALUE 'sad' TO 'bad'", "labels"),
    "dropped": ("DROP TABLE t", "dropped or renamed"),
    "renamed": ("ALTER TABLE t RENAME TO u", "dropped or renamed"),
    "another of the same name": (
        "ALTER TABLE t RENAME TO u; ALTER TABLE twin RENAME TO t",
        "replaced by another",
    ),
}

UNCHANGED = {
    "nothing": "SELECT 1",
    "vacuum": "VACUUM t",
    "vacuum freeze": "VACUUM (FREEZE, ANALYZE) t",
    "rolled back": "BEGIN; INSERT INTO t (id) SELECT id FROM t; DELETE FROM t; ROLLBACK",
    "rows locked": "BEGIN; SELECT * FROM t WHERE id < 99 FOR UPDATE; COMMIT",
    "index made": "CREATE INDEX ON t (id)",
    "another table changed": "UPDATE twin SET id = id + 1",
    "a label added": "ALTER TYPE mood ADD VALUE 'glad'; ALTER TYPE other ADD VALUE 'x'",
}


@pytest.fixture
def table(look, many):
    """A table of 60,000 rows, and one that looks like it."""
    many(60_000)
    many(60_000, "twin")
    look("CREATE TYPE mood AS ENUM ('sad')")
    look("CREATE TYPE other AS ENUM ('sad')")
    for name in ("t", "twin"):
        look(f"ALTER TABLE {name} ADD COLUMN twice int GENERATED ALWAYS AS (amount * 2) VIRTUAL")
        look(f"ALTER TABLE {name} ADD COLUMN moods mood[] DEFAULT '{{sad}}'")
    return "t"


def statements(look, text):
    """Run several statements on one connection, each by itself."""
    with closing(psycopg2.connect(plain(look.url))) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            for statement in text.split("; "):
                cursor.execute(statement)


@pytest.fixture
def left(exports, halfway, table, another_workspace):
    """A job that was paused in the middle and whose process has gone, its snapshot with it."""
    job = halfway()
    exports.workspace.close()
    exports.workspace = another_workspace()
    return job.id


@pytest.fixture
def database(look):
    """The test's database, without a job."""
    made = Database(look.url)
    yield made
    made.dispose()


@pytest.fixture
def small(look, many):
    """The tables of the fixture ``table`` with 100 rows; the last has the number 60,000."""
    for name in ("t", "twin"):
        many(99, name)
    look("CREATE TYPE mood AS ENUM ('sad')")
    look("CREATE TYPE other AS ENUM ('sad')")
    for name in ("t", "twin"):
        look(f"ALTER TABLE {name} ADD COLUMN twice int GENERATED ALWAYS AS (amount * 2) VIRTUAL")
        look(f"ALTER TABLE {name} ADD COLUMN moods mood[] DEFAULT '{{sad}}'")
        look(f"INSERT INTO {name} VALUES (60000, 'x', 'y', 1)")
    return TableName("public", "t"), look.one("SELECT 't'::regclass::oid::int")


def witnessed(database, small):
    """What is remembered of the table in a snapshot, which is lost then."""
    snapshot = Snapshot(database)
    try:
        return replace(snapshot.witness(*small), rows=100)
    finally:
        snapshot.close()


def prove(database, small, then):
    """SourceChanged unless a new snapshot is proven to show the same rows."""
    snapshot = Snapshot(database)
    try:
        compare(small[0], then, snapshot.witness(*small))
        verify(snapshot, small[0], then, Written(then.blocks, 100))
    finally:
        snapshot.close()


@pytest.mark.parametrize("attack", CHANGED)
def test_each_change_is_seen(database, look, small, attack):
    """Of a table that is not what it was in the snapshot, the proof says what changed."""
    statement, words = CHANGED[attack]
    then = witnessed(database, small)
    statements(look, statement)
    with pytest.raises(SourceChanged, match=words.replace("rows instead of", "rows")):
        prove(database, small, then)


@pytest.mark.parametrize("event", UNCHANGED)
def test_what_changes_no_row_is_none(database, look, small, event):
    """The proof holds."""
    then = witnessed(database, small)
    statements(look, UNCHANGED[event])
    prove(database, small, then)


@pytest.mark.parametrize("is_committed", [True, False])
def test_rows_of_a_transaction_that_was_open_are_seen(database, look, small, is_committed):
    """As many inserted as deleted by a transaction that was open when the snapshot was taken."""
    with closing(psycopg2.connect(plain(look.url))) as other, other.cursor() as cursor:
        cursor.execute(
            "WITH gone AS (DELETE FROM t WHERE id = 9 RETURNING *)"
            " INSERT INTO t (id, hash, note, amount) SELECT id, hash, note, amount FROM gone"
        )
        then = witnessed(database, small)
        if is_committed:
            other.commit()
            with pytest.raises(SourceChanged, match="still being written when the export began"):
                prove(database, small, then)
        else:
            other.rollback()
            prove(database, small, then)


@pytest.mark.sample(3)
@pytest.mark.parametrize("attack", CHANGED)
def test_a_table_that_changed_is_not_exported_further(exports, look, left, attack):
    """With the snapshot lost and the table changed, the job stops and says what changed."""
    statement, words = CHANGED[attack]
    statements(look, statement)
    job = exports.workspace.resume(left)
    with pytest.raises(JobFailed) as caught:
        job.wait(60)
    assert isinstance(caught.value.__cause__, SourceChanged)
    assert words in job.error
    assert "again=True" in job.error
    assert not (exports.folder / "out.csv").exists()
    if look.exists("t"):  # what it offers: to start over
        exports.workspace.download("t", exports.folder / "out.csv", again=True).wait(60)
        assert (exports.folder / "out.csv").read_bytes() == copied(look.url, "SELECT * FROM t")
        assert exports.partials() == []


@pytest.mark.sample(2)
@pytest.mark.parametrize("event", UNCHANGED)
def test_a_table_that_did_not_change_is_exported_further(exports, look, left, event):
    """With the snapshot lost, what changes no row does not stop the job; the bytes are COPY's."""
    expected = copied(look.url, "SELECT * FROM t")
    before = look.ledger(left)
    statements(look, UNCHANGED[event])
    job = exports.workspace.resume(left)
    exports.check(job.wait(60))
    assert (exports.folder / "out.csv").read_bytes() == expected
    assert "proven unchanged" in " ".join(job.events().cause)
    assert look.ledger(left)[0] > before[0]


@pytest.mark.sample(1)
@pytest.mark.parametrize("how", ["commit", "rollback", "subtransaction rolled back"])
def test_a_transaction_open_across_the_snapshot(
    exports, look, halfway, table, another_workspace, how
):
    """Rows of a transaction that was open when the export began, in a savepoint, as many inserted
    as deleted: once committed they stop the job, rolled back they do not."""
    other = psycopg2.connect(plain(look.url))
    cursor = other.cursor()
    cursor.execute("SELECT pg_current_xact_id()")
    cursor.execute("SAVEPOINT s")
    cursor.execute("INSERT INTO t (id, hash) SELECT id, hash FROM t LIMIT 5")
    cursor.execute("DELETE FROM t WHERE id BETWEEN 50001 AND 50005")
    before = copied(look.url, "SELECT * FROM t")
    job_id = halfway().id
    exports.workspace.close()
    exports.workspace = another_workspace()
    if how == "subtransaction rolled back":
        cursor.execute("ROLLBACK TO SAVEPOINT s")
    if how == "rollback":
        other.rollback()
    else:
        other.commit()
    other.close()
    job = exports.workspace.resume(job_id)
    if how == "commit":
        with pytest.raises(JobFailed, match="still being written when the export began"):
            job.wait(60)
        assert not (exports.folder / "out.csv").exists()
    else:
        job.wait(60)
        assert (exports.folder / "out.csv").read_bytes() == before


def test_a_pause_in_one_process_keeps_the_snapshot(exports, look, halfway, table):
    """Resumed in the process that paused it, the export shows the table as it was at its start."""
    before = copied(look.url, "SELECT * FROM t")
    job = halfway()
    statements(look, "UPDATE t SET note = 'new'; DELETE FROM t WHERE id % 2 = 0; VACUUM t")
    job.max_rate = None
    job.resume()
    exports.check(job.wait(60))
    assert (exports.folder / "out.csv").read_bytes() == before


def moving(look, stop, done):
    """Transfers between accounts, and accounts that close as others open: the sum stays."""
    chance = random.Random(4)
    with closing(psycopg2.connect(plain(look.url))) as connection:
        cursor = connection.cursor()
        number = 1_000_000
        while not stop.is_set():
            one, two = chance.sample(range(1, 30_001), 2)
            cursor.execute(
                "UPDATE t SET amount = amount + CASE id WHEN %s THEN 7 ELSE -7 END"
                " WHERE id IN (%s, %s) AND (SELECT count(*) FROM t WHERE id IN (%s, %s)) = 2",
                (one, one, two, one, two),
            )
            number += 1
            cursor.execute(
                "WITH gone AS (DELETE FROM t WHERE id = %s RETURNING *)"
                " INSERT INTO t SELECT %s, hash, note, amount FROM gone",
                (chance.randrange(1, 30_001), number),
            )
            connection.commit()
            done.append(number)


@pytest.mark.slow
def test_an_export_among_writers_is_of_one_moment(exports, look, many):
    """Six exports, table and query, some of them paused, while others move amounts and rows about:
    each file has the sum and the number of rows that every single moment had."""
    many(30_000)
    look("CREATE INDEX ON t (id)")
    stop, done = threading.Event(), []
    mover = threading.Thread(target=moving, args=(look, stop, done))
    mover.start()
    try:
        for number in range(6):
            source = "t" if number % 3 else "SELECT * FROM t"
            began = len(done)
            job = exports.start(source, f"{number}.csv", workers=3, max_rate=3e6)
            if number % 2:
                wait_until(lambda job=job: job.progress.done > 0)
                pause(job)
                wait_until(lambda began=began: len(done) > began + 50)
                if job.state == "paused":
                    job.resume()
            job.wait(60)
            assert len(done) > began
            frame = pd.read_csv(exports.folder / f"{number}.csv")
            assert (len(frame), frame.amount.sum()) == (30_000, 30_000_000)
            assert frame.id.is_unique
    finally:
        stop.set()
        mover.join()
    assert hash_of(exports.folder / "1.csv") != hash_of(exports.folder / "5.csv")


def test_whoever_alters_the_table_waits_for_the_snapshot(exports, look, table):
    """TRUNCATE waits while an export runs, and the file has all rows."""
    expected = copied(look.url, "SELECT * FROM t")
    job = exports.start("t", workers=1, max_rate=4e6)
    wait_until(lambda: job.progress.done > 0)
    truncating = threading.Thread(target=look, args=("TRUNCATE t",))
    truncating.start()
    exports.check(job.wait(60))
    assert (exports.folder / "out.csv").read_bytes() == expected
    truncating.join()
    assert look.one("SELECT count(*) FROM t") == 0


@pytest.mark.sample(1)
@pytest.mark.parametrize("statement", ["TRUNCATE t", "ALTER TABLE t ALTER note SET DEFAULT 'x'"])
def test_a_job_gives_way_to_who_waits_for_it(exports, look, halfway, table, statement):
    """When somebody waits to alter the table of a paused export, resuming lets him, instead of
    waiting for him for ever, and goes on if the table then is proven unchanged."""
    expected = copied(look.url, "SELECT * FROM t")
    job = halfway()
    altering = threading.Thread(target=look, args=(statement,))
    altering.start()
    wait_until(lambda: look.one("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"))
    job.max_rate = None
    job.resume()
    if statement.startswith("TRUNCATE"):
        with pytest.raises(JobFailed, match="truncated or rewritten"):
            job.wait(60)
    else:
        exports.check(job.wait(60))
        assert (exports.folder / "out.csv").read_bytes() == expected
    altering.join()


def test_a_locked_table_is_waited_for_and_the_wait_can_be_broken_off(exports, look, table):
    """While others have the table locked the job says so, hears a pause, and goes on later."""
    other = psycopg2.connect(plain(look.url))
    cursor = other.cursor()
    cursor.execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
    cursor.execute("ALTER TABLE t ADD COLUMN late int DEFAULT 3")
    # What looks at the table's columns would wait for the lock: the call has been made before.
    other.commit()
    cursor.execute("LOCK TABLE twin IN SHARE MODE")
    job = exports.start("t", workers=1, max_rate=1e6)
    wait_until(lambda: job.progress.done > 0)
    pause(job)
    job._work.rest()
    cursor.execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
    job.resume()
    wait_until(lambda: "locked" in job.remark)
    job.pause()
    wait_until(lambda: job.state == "paused")
    job.join(None)
    job.max_rate = None
    job.resume()
    other.rollback()
    other.close()
    exports.check(job.wait(60))
    assert (exports.folder / "out.csv").read_bytes() == copied(look.url, "SELECT * FROM t")
