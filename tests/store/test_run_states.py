"""Checkpoints of a user's own job: each number once, and only under a valid claim."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import psycopg2
import pytest
from fix_databases import end_store
from fix_servers import plain, wait_until

from taskwidgets.runtime.control import Control
from taskwidgets.runtime.states import State
from taskwidgets.runtime.store import JobSpec
from taskwidgets.store import checkpoints
from taskwidgets.store.checkpoints import Checkpoint
from taskwidgets.store.database import Database
from taskwidgets.store.jobs import PostgresJobStore
from taskwidgets.store.run_states import RECORD

WAITING = """
    SELECT pid FROM pg_stat_activity
    WHERE wait_event_type = 'Lock' AND datname = current_database()
"""


@pytest.fixture
def store(database_url):
    """A store of this process's own."""
    made = PostgresJobStore(Database(database_url))
    yield made
    end_store(made)


@pytest.fixture
def claim(store):
    """The claim of a job that runs."""
    spec = JobSpec("key", "job", "job", "f", "f", {}, {})
    job = store.create(spec, lambda connection, job_id: None)
    return store.claim(job.id, State.RUNNING, "test", Control())


@pytest.fixture
def session(database_url):
    """A connection in a transaction."""
    with closing(psycopg2.connect(plain(database_url))) as connection:
        yield connection


def put(session, claim, serial, epoch=None):
    """Whether a checkpoint of this number is recorded."""
    with session.cursor() as cursor:
        cursor.execute(
            RECORD,
            {
                "serial": serial,
                "state": "{}",
                "progress": "{}",
                "job_id": claim.job_id,
                "epoch": claim.epoch if epoch is None else epoch,
                "states": ["running", "pausing"],
            },
        )
        return cursor.rowcount == 1


def after_a_claim(look, session, record):
    """What ``record`` returns when a claim of the job commits while it is under way."""
    with session.cursor() as cursor:
        cursor.execute("UPDATE taskwidgets.jobs SET epoch = epoch + 1")  # as a claim does
    with ThreadPoolExecutor(1) as pool:
        recorded = pool.submit(record)
        try:
            wait_until(lambda: bool(look(WAITING)), "for the checkpoint to wait for the claim")
        finally:
            session.commit()
        return recorded.result()


def test_each_number_is_recorded_once_and_in_order(session, claim):
    """A checkpoint whose number is not the next one, such as one made twice, is not recorded."""
    assert put(session, claim, 1)
    assert not put(session, claim, 1)
    assert not put(session, claim, 3)
    assert put(session, claim, 2)
    assert not put(session, claim, 1)


def test_an_older_epoch_records_nothing(session, store, claim):
    """An owner whose job was claimed by another one since makes no checkpoint."""
    assert put(session, claim, 1)
    session.commit()
    store.move(claim, State.FAILED, "test")
    store.release(claim)
    later = store.claim(claim.job_id, State.RUNNING, "test", Control())
    assert not put(session, claim, 2)
    assert put(session, later, 2)


def test_a_state_waits_for_a_claim_and_is_refused(database_url, session, claim, look):
    """A checkpoint that meets a claim under way is judged by the epoch after it."""
    with closing(psycopg2.connect(plain(database_url))) as other:
        assert not after_a_claim(look, session, lambda: put(other, claim, 1))


def test_a_segment_waits_for_a_claim_and_is_refused(session, store, claim, look):
    """The same of the checkpoint of a transfer."""

    def record():
        with store.in_transaction() as connection:
            return checkpoints.record(connection, claim, Checkpoint(0, 10, 1, 7))

    assert not after_a_claim(look, session, record)


def test_an_older_epoch_records_no_segment(store, claim):
    """The same of a transfer's owner whose job was claimed since."""
    store.move(claim, State.FAILED, "test")
    store.release(claim)
    later = store.claim(claim.job_id, State.RUNNING, "test", Control())
    with store.in_transaction() as connection:
        assert not checkpoints.record(connection, claim, Checkpoint(0, 10, 1, 7))
        assert checkpoints.record(connection, later, Checkpoint(0, 10, 1, 7))
