"""The share-out of a process's connections: nobody gets too many, nobody waits for ever."""

import random
import threading

import pytest
from fix_servers import wait_until

from taskwidgets import Workspace
from taskwidgets.errors import OptionError
from taskwidgets.store.budget import (
    DEFAULT_CONNECTIONS,
    FEWEST_CONNECTIONS,
    FIXED,
    Budget,
    checked_connections,
)


def take(budget, least, most=None, given_up=lambda: False, said=None):
    words = said if said is not None else []
    return budget.take(least, most or least, given_up=given_up, waiting=words.append)


def taken_in_thread(budget, least, most=None, **options):
    """Takes in a thread; the list has the lease once it is there."""
    got = []
    thread = threading.Thread(
        target=lambda: got.append(take(budget, least, most, **options)), daemon=True
    )
    thread.start()
    return got, thread


def test_as_many_as_there_are_and_the_rest_waits():
    """A job gets from least to most; one that cannot get its least says so, and then has it."""
    budget = Budget(FIXED + 5)
    first = take(budget, 1, 3)
    second = take(budget, 1, 3)
    assert (first.size, second.size) == (3, 2)
    said = []
    got, thread = taken_in_thread(budget, 2, 4, said=said)
    wait_until(lambda: said)
    assert said == ["waiting for a free connection: all 5 are in use"]
    second.end()
    thread.join()
    assert got[0].size == 2
    assert said[-1] == ""


def test_first_come_first_served():
    """Whoever needs many is not passed by those who need few."""
    budget = Budget(FIXED + 4)
    held = [take(budget, 1) for _ in range(3)]
    large, large_thread = taken_in_thread(budget, 3)
    wait_until(lambda: len(budget._waiting) == 1)
    small, small_thread = taken_in_thread(budget, 1)
    wait_until(lambda: len(budget._waiting) == 2)
    held.pop().end()
    held.pop().end()
    large_thread.join()
    assert large[0].size == 3
    assert not small
    held.pop().end()
    small_thread.join()
    assert small[0].size == 1


def test_a_wish_ends_the_wait():
    """Whoever is told to stop while it waits gets nothing, and nobody behind it is held up."""
    budget = Budget(FIXED + 4)
    held = take(budget, 4)
    stop = threading.Event()
    got, thread = taken_in_thread(budget, 4, given_up=stop.is_set)
    wait_until(lambda: budget._waiting)
    other, other_thread = taken_in_thread(budget, 1)
    stop.set()
    thread.join()
    assert got == [None]
    held.end()
    other_thread.join()
    assert other[0].size == 1


def test_what_rests_is_taken_back_once_when_others_wait():
    """The longest at rest first, closed before it counts as free; its owner then needs another."""
    budget = Budget(FIXED + 4)
    closed = []
    old, young = take(budget, 2), take(budget, 2)
    old.rest(1, lambda: closed.append("old"))
    young.rest(2, lambda: closed.append("young"))
    assert take(budget, 1).size == 1  # there was a free one: nothing is closed for it
    assert closed == []
    needy = take(budget, 1)
    assert closed == ["old"]
    assert not old.wake()
    assert young.wake()
    got, thread = taken_in_thread(budget, 1)
    wait_until(lambda: budget._waiting)
    assert closed == ["old"]  # young is at work again
    old.end()
    assert not got
    needy.end()
    thread.join()


def test_giving_back_twice_is_giving_back_once():
    budget = Budget(FIXED + 4)
    lease = take(budget, 4)
    lease.end()
    lease.end()
    assert take(budget, 1, 9).size == 4


def test_another_size_holds_at_once():
    """More: those who wait have it; fewer: only when what is in use comes back."""
    budget = Budget(FIXED + 4)
    held = take(budget, 4)
    got, thread = taken_in_thread(budget, 2)
    wait_until(lambda: budget._waiting)
    budget.resize(FIXED + 6)
    thread.join()
    assert got[0].size == 2
    budget.resize(FIXED + 4)
    held.end()
    assert take(budget, 1, 9).size == 2


def test_many_threads_never_have_more_than_there_are():
    """Forty threads take, rest, wake and end at random: the number in use stays within bounds."""
    budget = Budget(FIXED + 7)
    lock, in_use, most = threading.Lock(), 0, 0

    def use(number):
        nonlocal in_use, most
        with lock:
            in_use += number
            most = max(most, in_use)

    def live(seed):
        dice = random.Random(seed)
        for _ in range(50):
            lease = take(budget, dice.randint(1, 3), 4)
            size = lease.size
            use(size)
            if dice.random() < 0.5:
                use(1 - size)
                lease.rest(1, lambda: use(-1))
                if lease.wake():
                    use(-1)
                lease.end()
            else:
                use(-size)
                lease.end()

    threads = [threading.Thread(target=live, args=(seed,), daemon=True) for seed in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert in_use == 0
    assert 4 <= most <= 7


def test_numbers_that_cannot_work_are_refused(database_url):
    assert checked_connections(None) == DEFAULT_CONNECTIONS
    assert checked_connections(FEWEST_CONNECTIONS) == FEWEST_CONNECTIONS
    for number in (0, FEWEST_CONNECTIONS - 1, 20.0, True, "20"):
        with pytest.raises(OptionError, match="max_connections must be a whole number from 12 on"):
            Workspace(database_url, max_connections=number)
