"""Faults at each stage of each kind of job: afterwards no row is lost or doubled.

A victim is held at a failpoint, harmed, and let go; a second process looks at the state meanwhile,
and takes the job to its end. Each fault meets each of STAGES with each of KINDS; what is left out
of the special places is in LEFT_OUT, with its reason.

``make test`` kills at each stage of each kind. The other faults act on a transaction or on its
connection, whatever comes before and behind it: there, each meets each transaction once (DISTINCT),
and the other places are left to ``make test-all``.
"""

import re
import signal

import pytest
from fix_servers import wait_until
from fix_tiers import some
from scene import ENDING

from taskwidgets import JobTerminated
from taskwidgets.runtime.control import Control
from taskwidgets.runtime.states import State

KINDS = ["upload", "download", "own job"]
WORKING = ["before the rows", "after the rows", "after the checkpoint", "at the final switch"]
STAGES = [*WORKING, "while pausing", "while terminating"]

# The stages: what the failpoint of that name stands before.
#
#                         upload                   download                  own job
# before the rows         a segment's COPY         reading a range           a transaction's block
# after the rows          the COMMIT of rows and   the COMMIT of the check-  the COMMIT of rows and
#                         checkpoint               point; rows are synced    checkpoint
# after the checkpoint    the next segment         the next checkpoint       the next transaction
# at the final switch     the COMMIT of rename,    the COMMIT of the re-     the COMMIT of the re-
#                         state and receipt        ceipt; the file is named  ceipt
# while pausing           the COMMIT of "paused", all work being at rest
# while terminating       the COMMIT of the clean-up; on_terminate has done its part

# Places that only one kind has, or only one of its ways to come to an end.
SPECIAL = [
    ("upload append", "before the final switch"),
    ("upload append", "at the final switch"),
    ("download query", "before the rows"),
    ("download query", "at the final switch"),
    ("download query", "while terminating"),
    ("download", "before the final switch"),
    ("download new", "between the two names"),
    ("download new", "at the final switch"),
    ("download new", "while terminating"),
    ("download", "before the file is removed"),
    ("upload", "after the clean-up"),
    ("download", "after the clean-up"),
    ("download query", "after the clean-up"),
    ("own job", "after the clean-up"),
]
EVERYWHERE = [*((kind, stage) for kind in KINDS for stage in STAGES), *SPECIAL]

# One place for each transaction that a job commits, and for what is not one: the file's name.
DISTINCT = {
    ("upload", "after the rows"),  # rows and checkpoint
    ("upload", "at the final switch"),  # rename
    ("upload append", "at the final switch"),  # INSERT into the target
    ("upload", "while pausing"),  # a state alone
    ("upload", "while terminating"),  # the clean-up in the database
    ("download", "after the rows"),  # a checkpoint; the rows are in the file
    ("download", "at the final switch"),  # the receipt; the file has its name
    ("download new", "between the two names"),
    ("download query", "before the rows"),  # the query's rows in a staging table
    ("download", "before the file is removed"),
    ("own job", "after the rows"),  # the user's statements and the checkpoint
    ("own job", "while terminating"),  # the user's clean-up
}
assert not DISTINCT - set(EVERYWHERE)

everywhere = pytest.mark.parametrize(("kind", "stage"), EVERYWHERE)
cases = pytest.mark.parametrize(("kind", "stage"), some(EVERYWHERE, lambda case: case in DISTINCT))


def finish(case, stage):
    """What an interrupted job's user does next: terminate it, where that was on its way."""
    job = case.workspace.job(1)
    if stage in ENDING:
        job.terminate()
        job.join(None)
        case.check_undone()
    else:
        case.call().wait(60)
        case.check_whole()


@everywhere
def test_killed(scene, kind, stage):
    """SIGKILL: others see it interrupted, what is committed is what the ledger has, it goes on."""
    case = scene(kind)
    case.hold_at(stage)
    case.signal(signal.SIGKILL)
    wait_until(lambda: case.state == "interrupted", "for others to see that the owner is gone")
    case.check_before(stage)
    if stage in WORKING[:3]:
        assert case.committed == case.stood + (stage == "after the checkpoint")
    if stage in WORKING:
        case.check_ledger()
    finish(case, stage)


@pytest.mark.parametrize(
    ("kind", "stage"),
    some([c for c in EVERYWHERE if c[1] not in ENDING], lambda case: case in DISTINCT),
)
def test_killed_and_terminated(scene, kind, stage):
    """SIGKILL, and its user wants no more of it: all is as it was before the job."""
    case = scene(kind)
    case.hold_at(stage)
    case.signal(signal.SIGKILL)
    wait_until(lambda: case.state == "interrupted")
    job = case.workspace.job(1)
    job.terminate()
    job.join(None)
    case.check_undone()


@pytest.mark.parametrize("kind", KINDS)
def test_killed_after_the_switch(scene, kind):
    """SIGKILL once the end is committed: it is completed for everybody, and not done again."""
    case = scene(kind)
    case.hold_at("after the final switch")
    case.signal(signal.SIGKILL)
    wait_until(lambda: case.is_gone)
    case.check_whole()
    assert case.call().remark.startswith("already")
    case.check_whole()


endings = pytest.mark.parametrize(
    ("kind", "stage"),
    some([c for c in EVERYWHERE if c[1] in ENDING], lambda case: case in DISTINCT),
)


@endings
def test_killed_while_terminating_and_called_again(scene, kind, stage):
    """SIGKILL in the clean-up, then the same call: it is cleaned up, and a new job is whole."""
    case = scene(kind)
    case.hold_at(stage)
    case.signal(signal.SIGKILL)
    wait_until(lambda: case.state == "interrupted")
    case.call().wait(60)
    case.check_whole()
    assert case.workspace._store.record(1).state == "terminated"
    assert case.job_id == 2


@pytest.mark.parametrize("kind", KINDS)
def test_killed_while_terminating_and_resumed(scene, kind):
    """SIGKILL in the clean-up, then resume(): nothing else can come of it than its end."""
    case = scene(kind)
    case.hold_at("while terminating")
    case.signal(signal.SIGKILL)
    wait_until(lambda: case.state == "interrupted")
    with pytest.raises(JobTerminated):
        case.resume().wait(60)
    case.check_undone()


def go_on(case, stage):
    """The victim, let go, comes to the end that was asked for; then the rest is done, too."""
    told = case.outcome()
    if stage in ENDING:
        assert told["state"] == "terminated", told
        case.check_undone()
        return
    if stage == "while pausing":
        assert told["state"] == case.state == "paused", told
        case.check_ledger()
        case.call().wait(60)
    else:
        assert told["state"] == "completed", told
    case.check_whole()


def seen(stage):
    """The state in which others see a job that is held at this stage, its owner being alive."""
    if stage in ENDING:
        return "terminating"
    return "pausing" if stage == "while pausing" else "running"


@pytest.mark.sample(3)
@cases
def test_frozen_and_thawed(scene, kind, stage):
    """SIGSTOP and SIGCONT: its owner is alive all the while, and goes on as though nothing was."""
    case = scene(kind)
    case.hold_at(stage)
    case.signal(signal.SIGSTOP)
    assert case.state == seen(stage)
    case.signal(signal.SIGCONT)
    go_on(case, stage)


@pytest.mark.sample(8)
@cases
def test_frozen_and_taken_over(scene, kind, stage):
    """SIGSTOP, another process takes over and ends the job, SIGCONT: the first writes nothing."""
    case = scene(kind)
    case.hold_at(stage)
    case.signal(signal.SIGSTOP)
    job = case.workspace.resume(1, take_over=True)
    if stage in ENDING:
        with pytest.raises(JobTerminated):
            job.wait(60)
        check = case.check_undone
    else:
        job.wait(60)
        check = case.check_whole
    check()
    history = case.look("SELECT id FROM taskwidgets.events")
    case.signal(signal.SIGCONT)
    told = case.outcome()
    assert told["fault"] == "JobFenced", told
    assert case.look("SELECT id FROM taskwidgets.events") == history
    check()


@pytest.mark.parametrize("stage", ["before the rows", "after the checkpoint"])
@pytest.mark.parametrize("kind", KINDS)
def test_frozen_and_claimed(scene, kind, stage):
    """Its lock lost while it was frozen, its connections not: it commits nothing under the claim.

    Only at stages at which it holds no lock on the job's row: there, the claim waits for it.
    """
    case = scene(kind)
    case.hold_at(stage)
    stood = case.committed
    case.signal(signal.SIGSTOP)
    case.look(
        "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    wait_until(lambda: case.state == "interrupted", "for the lock to be free")
    store = case.workspace._store
    claim = store.claim(1, State.RUNNING, "the test", Control())
    case.signal(signal.SIGCONT)
    told = case.outcome()
    assert told["fault"] == "JobFenced", told
    assert case.committed == stood
    assert case.state == "running"
    store.release(claim)
    case.check_ledger()
    case.call().wait(60)
    case.check_whole()


def after_an_outage(case, stage):
    """What comes of a job whose connections were all lost at this stage.

    A transfer does by itself what was rolled back. What a function did in a transaction cannot be
    done for it: it gets the error, and the job fails with its checkpoint.
    """
    if case.kind == "own job" and stage in ("before the rows", "after the rows"):
        told = case.outcome()
        assert told["state"] == case.state == "failed", told
        assert case.committed == case.stood
        case.check_ledger()
        case.call().wait(60)
        case.check_whole()
    else:
        go_on(case, stage)


@pytest.mark.sample(6)
@cases
def test_all_backends_terminated(scene, kind, stage):
    """pg_terminate_backend on all connections of the victim: it makes new ones and goes on."""
    case = scene(kind)
    case.hold_at(stage)
    lost = case.sessions()
    assert lost
    case.look("SELECT pg_terminate_backend(pid) FROM unnest(%s) AS pid", (lost,))
    wait_until(lambda: not set(lost) & set(case.sessions()), "for the end of the backends")
    after_an_outage(case, stage)


@pytest.mark.sample(6)
@cases
def test_server_restarted(scene, shared_server, kind, stage):
    """Postgres crashes (an immediate restart): the job waits for it, and goes on."""
    case = scene(kind)
    case.hold_at(stage)
    shared_server.restart("immediate")
    after_an_outage(case, stage)


# Why a fault is not tried at a special place.
LEFT_OUT = {
    ("commit lost", "before the final switch"): "the COMMIT that follows is that of the switch",
    ("commit lost", "between the two names"): "no COMMIT lies there: names are the file system's",
    ("commit lost", "before the file is removed"): "no COMMIT lies there: it is the file's removal",
}

LEDGER = r"INSERT INTO taskwidgets\.(checkpoints|run_states)"
COMMITS = {
    # The stages, by the COMMIT that makes the one into the next, and whether the server gets it.
    "before the rows": ("claimed_at=clock_timestamp", True),
    "after the rows": (LEDGER, False),
    "after the checkpoint": (LEDGER, True),
    "at the final switch": ("'completed'", True),
    "while pausing": ("SET state='paused'", True),
    "while terminating": (r"DELETE FROM taskwidgets\.(checkpoints|run_states)", True),
    "after the clean-up": ("SET state='terminated'", True),
}


def lose_commit(case, proxy, stage, **how):
    """Have the victim come to the COMMIT of this stage, and lose it."""
    pattern, arrives = COMMITS[stage]
    how = {"arrives": arrives, **how}
    if stage == "before the rows":
        proxy.lose(pattern, **how)
        case.start()
    else:
        case.hold()
        proxy.lose(pattern, **how)
        if stage == "while pausing" or stage in ENDING:
            case.ask("pause" if stage == "while pausing" else "terminate")
        case.points.let_go("before the rows")
    wait_until(proxy.lost.is_set, "for the COMMIT")


@pytest.mark.parametrize(
    ("kind", "stage"),
    some(
        [c for c in EVERYWHERE if ("commit lost", c[1]) not in LEFT_OUT],
        lambda case: case in DISTINCT,
    ),
)
def test_commit_lost(scene, proxied, shared_server, kind, stage):
    """A COMMIT whose reply is lost counts, and one that was lost itself does not."""
    proxy = proxied(shared_server.socket)
    case = scene(kind, proxy)
    lose_commit(case, proxy, stage)
    proxy.cut()
    if stage == "before the rows":  # that is the claim's: nothing of the function's is lost
        go_on(case, stage)
    else:
        after_an_outage(case, stage)


@pytest.mark.parametrize(
    ("kind", "stage"),
    [
        *((kind, "after the rows") for kind in KINDS),
        ("upload", "at the final switch"),
        ("upload append", "at the final switch"),
    ],
)
def test_commit_late(scene, proxied, shared_server, kind, stage):
    """A COMMIT that the server gets when its client has come back already counts, once."""
    proxy = proxied(shared_server.socket)
    case = scene(kind, proxy)
    lose_commit(case, proxy, stage, arrives=False, late=True)
    proxy.cut()
    wait_until(
        lambda: bool(
            case.look(
                "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
                " AND wait_event_type = 'Lock'"
            )
        ),
        "for the victim to wait for its own lost session",
    )
    proxy.deliver()
    go_on(case, stage)


@pytest.mark.sample(8)
@cases
def test_disk_full(scene, ballast, kind, stage):
    """No room on the disk, the file's or the server's: it stops saying so, or needed no more."""
    case = scene(kind, folder=ballast.folder, tablespace=ballast.tablespace)
    case.hold_at(stage)
    ballast.fill()
    told = case.outcome()
    assert told["state"] == case.state
    if stage in STAGES[:3] or (kind, stage) == ("upload append", "before the final switch"):
        assert told["state"] == "failed"
        case.check_ledger()
        assert case.committed > 0
    if told["state"] in ("failed", "interrupted"):
        assert re.search("No space left on device|disk is full", told["error"]), told
        # A file that was being named got its name: that takes no room.
        case.check_before("at the final switch" if "final" in stage else stage)
    ballast.make_room()
    if told["state"] == "terminated":
        case.check_undone()
    elif told["state"] == "completed":
        case.check_whole()
    else:
        finish(case, stage)
