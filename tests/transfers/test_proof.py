"""The proof beside an export: what speaks against the snapshot is raised, whenever it is found."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
from fix_servers import wait_until

from taskwidgets.errors import SourceChanged
from taskwidgets.runtime.control import Control, Stopped, Wish
from taskwidgets.transfers.proof import Proof


@pytest.fixture
def run():
    """An attempt at a job; ``notes`` are its events."""
    made = SimpleNamespace(job_id=1, control=Control(), say=lambda text: None, notes=[])
    made.note = lambda kind, text: made.notes.append(kind)
    return made


class Snapshot:
    """One in which a statement runs until it is cancelled."""

    def __init__(self):
        self.cancelled = threading.Event()

    def cancel(self):
        self.cancelled.set()


def differ():
    raise SourceChanged("3 rows were deleted")


def test_a_proof_that_succeeds_is_noted(run):
    """wait() returns when it is proven, and an event tells of it."""
    proof = Proof(run, Snapshot(), lambda: None)
    proof.wait()
    assert run.notes == ["snapshot"]
    assert not proof.is_running
    proof.check()
    proof.end()


def test_what_speaks_against_it_is_raised_in_the_end(run):
    """wait() raises it, and there is no event."""
    proof = Proof(run, Snapshot(), differ)
    with pytest.raises(SourceChanged, match="3 rows"):
        proof.wait()
    assert run.notes == []


def test_what_speaks_against_it_is_raised_meanwhile(run):
    """check() raises it as soon as it is known, and nothing before."""
    go_on = threading.Event()

    def prove():
        assert go_on.wait(30)
        differ()

    proof = Proof(run, Snapshot(), prove)
    proof.check()
    assert proof.is_running
    go_on.set()
    wait_until(lambda: not proof.is_running)
    with pytest.raises(SourceChanged, match="3 rows"):
        proof.check()


def test_a_wish_ends_the_wait_and_the_end_breaks_it_off(run):
    """wait() raises Stopped after a wish; end() cancels the statement and waits for it."""
    snapshot = Snapshot()
    proof = Proof(run, snapshot, lambda: snapshot.cancelled.wait(30))
    run.control.ask(Wish.PAUSE, "a click")
    with pytest.raises(Stopped):
        proof.wait()
    assert proof.is_running
    proof.end()
    assert not proof.is_running
    assert run.notes == []
