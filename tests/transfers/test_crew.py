"""Workers that share a job's batches: each batch is done once, whatever breaks off meanwhile."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from taskwidgets.errors import ServerUnreachable, SourceError
from taskwidgets.runtime.control import Control, Stopped, Wish
from taskwidgets.store import database
from taskwidgets.store.database import Database
from taskwidgets.transfers.crew import Crew


class Tool:
    """Does nothing; a cancel is noted."""

    def __init__(self) -> None:
        self.cancelled = threading.Event()

    def cancel(self) -> None:
        self.cancelled.set()

    def close(self) -> None:
        pass


class Task:
    """Batches 0, 1, 2 ...; ``act`` is called with the tool and the batch, and may raise."""

    def __init__(self, batches, act=lambda tool, batch: None) -> None:
        self.left = list(range(batches))[::-1]
        self.act = act
        self.carried: list[int] = []
        self.committed: set[int] = set()
        self.asked: list[int] = []
        self.counted: list[int] = []

    def take(self):
        return self.left.pop() if self.left else None

    def tool(self):
        return Tool()

    def carry(self, tool, batch):
        self.carried.append(batch)
        self.act(tool, batch)
        self.committed.add(batch)

    def is_done(self, tool, batch):
        self.asked.append(batch)
        return batch in self.committed

    def count(self, batch):
        self.counted.append(batch)


@pytest.fixture
def control():
    return Control()


@pytest.fixture
def work(control, monkeypatch):
    """Has a task worked on, by one worker unless told."""
    monkeypatch.setattr(database, "FIRST_RETRY", 0.0)
    run = SimpleNamespace(
        job_id=1, control=control, say=lambda text: None, acknowledge=lambda: None
    )
    known = Database("postgresql://nobody@/nowhere")
    yield lambda task, size=1: Crew(known, run, task, size).work()
    known.dispose()


def once(action):
    """The action, the first time that it is called; nothing afterwards."""
    left = [action]
    return lambda: left.pop()() if left else None


def fail(error):
    raise error


def test_each_batch_is_done_and_counted_once(work):
    """By one worker or several, all batches are carried out, and counted after that."""
    for size in (1, 3):
        task = Task(20)
        work(task, size)
        assert sorted(task.carried) == sorted(task.counted) == list(range(20))
        assert task.asked == []


def test_a_batch_whose_reply_was_lost_is_not_done_again(work):
    """After a broken connection it is asked whether the batch is committed; then it counts."""
    lose = once(lambda: fail(ServerUnreachable("gone")))

    def act(tool, batch):
        if batch == 1:
            task.committed.add(batch)
            lose()

    task = Task(3, act)
    work(task)
    assert (task.carried, task.asked, task.counted) == ([0, 1, 2], [1], [0, 1, 2])


def test_a_batch_that_was_lost_is_done_again(work):
    """Where it is not committed, it is carried out a second time, and counted once."""
    lose = once(lambda: fail(ServerUnreachable("gone")))
    task = Task(2, lambda tool, batch: lose())
    work(task)
    assert (task.carried, task.asked, task.counted) == ([0, 0, 1], [0], [0, 1])


def test_a_pause_between_two_batches_stops_the_work(work, control):
    """What is committed by then counts; Stopped says that something is left."""
    task = Task(3, lambda tool, batch: control.ask(Wish.PAUSE, "a click"))
    with pytest.raises(Stopped):
        work(task)
    assert (task.carried, task.counted) == ([0], [0])


def test_a_pause_cancels_what_is_in_flight(work, control):
    """A batch that does not end by itself is cancelled."""

    def act(tool, batch):
        control.ask(Wish.PAUSE, "a click")
        assert tool.cancelled.wait(30)
        raise ServerUnreachable("cancelled")

    task = Task(2, act)
    with pytest.raises(Stopped):
        work(task)
    assert task.counted == []


@pytest.mark.parametrize(
    ("wish", "raised"),
    [(Wish.NONE, SourceError), (Wish.PAUSE, SourceError), (Wish.TERMINATE, Stopped)],
)
def test_a_fault_is_told_but_to_who_terminates(work, control, wish, raised):
    """What is wrong with the source is raised, while pausing too, but not when terminating."""

    def act(tool, batch):
        if wish is not Wish.NONE:
            control.ask(wish, "a click")
        raise SourceError("line 7")

    task = Task(5, act)
    with pytest.raises(raised):
        work(task)
    assert (task.carried, task.counted) == ([0], [])
