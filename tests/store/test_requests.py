"""Requests for jobs that another process runs: heard once, in order, by the job they are for."""

from __future__ import annotations

from uuid import uuid4

import pytest
from fix_databases import end_store

from taskwidgets.runtime.control import Control
from taskwidgets.runtime.states import State
from taskwidgets.runtime.store import JobSpec
from taskwidgets.store import requests
from taskwidgets.store.database import Database
from taskwidgets.store.jobs import PostgresJobStore
from taskwidgets.store.requests import Request


@pytest.fixture
def store(database_url):
    """A store of this process's own."""
    made = PostgresJobStore(Database(database_url))
    yield made
    end_store(made)


SESSION = "0123456789abcdef"  # of the process that owns the jobs


@pytest.fixture
def make_job(store, look):
    """A factory: the number of a new job, with an owner that answers only when it is told to."""

    def make(name):
        spec = JobSpec(name, "upload", name, "s.csv", "public.t", {}, {})
        job_id = store.create(spec, lambda connection, job_id: None).id
        owner = "jsonb_build_object('host', 'h', 'pid', 1, 'session', %s::text)"
        look(f"UPDATE taskwidgets.jobs SET owner = {owner} WHERE id = %s", (SESSION, job_id))
        return job_id

    return make


def ask(store, job_id, verb="pause"):
    """Send a request in a transaction of its own."""
    request = Request(uuid4(), job_id, verb, "a click", "another process")
    with store.in_transaction() as connection:
        assert requests.send(connection, request)
    return request


def unanswered(store, *job_ids):
    with store.in_transaction() as connection:
        return requests.unanswered(connection, job_ids, SESSION)


def test_requests_are_heard_oldest_first_until_they_are_answered(store, make_job):
    """Open requests come in the order in which they were made; an answered one comes no more."""
    job_id = make_job("one")
    made = [ask(store, job_id, verb) for verb in ("pause", "resume", "terminate")]
    assert unanswered(store, job_id) == made
    with store.in_transaction() as connection:
        requests.answer(connection, made[0], "heard")
    assert unanswered(store, job_id) == made[1:]


def test_a_request_is_recorded_once(store, make_job):
    """Sent again, as after a lost reply to a COMMIT, a request is no second one."""
    job_id = make_job("one")
    request = ask(store, job_id)
    with store.in_transaction() as connection:
        assert not requests.send(connection, request)
    assert unanswered(store, job_id) == [request]


def test_the_first_answer_stands(store, make_job, look):
    """A request that was answered keeps its answer."""
    request = ask(store, make_job("one"))
    with store.in_transaction() as connection:
        requests.answer(connection, request, "heard")
        requests.answer(connection, request, "too late")
    assert look("SELECT answer FROM taskwidgets.requests") == [("heard",)]


def test_a_process_hears_what_is_asked_of_its_own_jobs_only(store, make_job):
    """A process that has lost its job and does not know it yet leaves the request to the owner."""
    job_id = make_job("one")
    ask(store, job_id)
    with store.in_transaction() as connection:
        assert requests.unanswered(connection, [job_id], "another session") == []


def test_a_claim_dismisses_the_requests_for_its_job_only(store, make_job):
    """What was asked of a job's earlier owner is closed by a claim; other jobs' requests stay."""
    one, other = make_job("one"), make_job("other")
    ask(store, one)
    kept = ask(store, other)
    store.claim(one, State.RUNNING, "test", Control())
    assert unanswered(store, one, other) == [kept]
