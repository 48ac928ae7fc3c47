"""Jobs listed from the database: newest first, in their true states; and old ones deleted."""

from datetime import timedelta

import pytest
from fix_databases import end_store

from taskwidgets.errors import OptionError
from taskwidgets.runtime.control import Control
from taskwidgets.runtime.states import FINAL, State
from taskwidgets.runtime.store import JobSpec
from taskwidgets.store import listing
from taskwidgets.store.database import Database
from taskwidgets.store.jobs import PostgresJobStore

# A job in a state, without the way there: the trigger that knows the transitions looks at updates.
INSERT = """
    INSERT INTO taskwidgets.jobs (key, kind, name, source, target, options, plan, state, owner,
                                  updated_at)
    VALUES (%s, 'upload', %s, %s, %s, '{}', '{}', %s,
            '{"host": "there", "pid": 7, "session": "s"}', now() - %s)
    RETURNING id
"""


@pytest.fixture
def database(database_url):
    made = Database(database_url)
    yield made
    made.dispose()


@pytest.fixture
def put(look):
    """A factory of rows: ``put("failed")``; the job's number."""
    numbers = iter(range(10_000))

    def make(state, name=None, source="s.csv", target="public.t", age=timedelta(0)):
        key = f"key {next(numbers)}"
        return look.one(INSERT, (key, name or key, source, target, str(state), age))

    return make


@pytest.fixture
def store(database):
    made = PostgresJobStore(database)
    yield made
    end_store(made)


def run(store, key):
    """A job whose owner lives: this process."""
    job_id = store.create(
        JobSpec(key, "upload", key, "s.csv", "public.t", {}, {}), lambda *_: None
    ).id
    return store.claim(job_id, State.RUNNING, "test", Control())


def ids(records):
    return [record.id for record in records]


def test_the_newest_come_first(database, put):
    """All jobs of all states, by falling number; limit and offset cut a page out."""
    made = [put(state) for state in State]
    assert ids(listing.newest(database)) == made[::-1]
    assert ids(listing.newest(database, limit=3, offset=2)) == made[::-1][2:5]
    assert ids(listing.newest(database, states=list(State), limit=3, offset=2)) == made[::-1][2:5]


def test_a_state_is_the_true_one(database, put, store):
    """A row that says running under a dead owner is listed with the interrupted, not the running"""
    stale = {state: put(state) for state in (State.RUNNING, State.PAUSING, State.TERMINATING)}
    written = put(State.INTERRUPTED)
    put(State.COMPLETED)
    claim = run(store, "alive")
    try:
        assert ids(listing.newest(database, states=[State.RUNNING])) == [claim.job_id]
        interrupted = listing.newest(database, states=[State.INTERRUPTED])
        assert ids(interrupted) == sorted([*stale.values(), written], reverse=True)
        assert {record.state for record in interrupted} == {State.INTERRUPTED}
        both = listing.newest(database, states=[State.RUNNING, State.INTERRUPTED])
        assert ids(both) == [claim.job_id, *ids(interrupted)]
        assert listing.newest(database, states=[State.PAUSING, State.TERMINATING]) == []
    finally:
        store.release(claim)
        store.close()


@pytest.mark.parametrize("state", sorted(set(State) - {"running", "pausing", "terminating"}))
def test_each_state_is_found_alone(database, put, state):
    """A filter by one state gives the jobs of that one."""
    made = {one: put(one) for one in State}
    found = ids(listing.newest(database, states=[state]))
    assert made[state] in found
    if state != State.INTERRUPTED:
        assert found == [made[state]]


def test_no_state_is_no_job(database, put):
    """An empty choice of states lists nothing."""
    put(State.PAUSED)
    assert listing.newest(database, states=[]) == []


@pytest.mark.parametrize(
    ("search", "found"),
    [("flight", [0, 2]), ("FLIGHTS.CSV", [2]), ("100%", [1]), ("_", [1]), ("é", [1]),
     ("\\", [2]), ("'", []), ("\0flight\0", [0, 2]), ("", [0, 1, 2]), ("public.d", [0])],
)  # fmt: skip
def test_a_search_is_a_text_in_name_source_or_target(database, put, search, found):
    """Upper and lower case are one, and %, _ and \\ stand for themselves."""
    made = [
        put("failed", "Flights to delays", "a.csv", "public.delays"),
        put("paused", "100% of_é", "b.csv", "public.x"),
        put("completed", "c", "C:\\data\\flights.csv", "public.y"),
    ]
    expected = [made[place] for place in found][::-1]
    assert ids(listing.newest(database, search=search)) == expected
    assert ids(listing.newest(database, search=search, states=list(State))) == expected


def test_a_record_knows_when_its_job_was_made(database, put, look):
    """created_at is the row's."""
    job_id = put("pending")
    (record,) = listing.newest(database)
    at = look.one("SELECT created_at FROM taskwidgets.jobs WHERE id = %s", (job_id,))
    assert record.created_at == at


def test_the_last_events_come_newest_first(database, store):
    """Of a job's events as many as asked for, from the last one backwards."""
    claim = run(store, "eventful")
    for number in range(5):
        store.note(claim.job_id, "note", f"note {number}")
    store.release(claim)
    store.close()
    found = listing.newest_events(database, claim.job_id, 3)
    assert list(found["cause"]) == ["note 4", "note 3", "note 2"]
    assert list(found.columns) == list(store.events(claim.job_id).columns)


def test_prune_deletes_finished_jobs_only(workspace, put, look):
    """Of all old jobs the completed and terminated go, with what belongs to them."""
    old, new = timedelta(days=40), timedelta(days=20)
    kept = [put(state, age=old) for state in State if state not in FINAL]
    kept += [put(state, age=new) for state in FINAL]
    gone = [put(state, age=old) for state in FINAL for _ in range(5)]
    for job_id in (kept[0], gone[0]):
        look(
            "INSERT INTO taskwidgets.events (job_id, kind, owner, cause)"
            " VALUES (%s, 'note', 'o', 'c') RETURNING id",
            (job_id,),
        )
    assert workspace.prune(timedelta(days=30), batch=2) == len(gone)
    assert sorted(ids(listing.newest(workspace._database))) == sorted(kept)
    assert look("SELECT job_id FROM taskwidgets.events") == [(kept[0],)]
    assert workspace.prune(timedelta(days=30)) == 0


@pytest.mark.parametrize(
    "options",
    [{"older_than": 30}, {"older_than": timedelta(days=-1)},
     {"older_than": timedelta(1), "batch": 0}, {"older_than": timedelta(1), "batch": True}],
)  # fmt: skip
def test_prune_refuses_what_makes_no_sense(workspace, options):
    """An age is a timedelta that is not negative; a batch has one job at least."""
    with pytest.raises(OptionError, match=f"^{[*options][-1]} must be"):
        workspace.prune(**options)
