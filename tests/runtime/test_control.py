import threading
import time

import pytest
from fix_servers import wait_until

from taskwidgets.errors import OptionError
from taskwidgets.runtime.control import Control, Wish


def test_wishes_never_weaken():
    """A weaker wish after a stronger one changes neither the wish nor its cause."""
    for first in Wish:
        for second in Wish:
            control = Control()
            control.ask(first, "first")
            control.ask(second, "second")
            assert control.wish is max(first, second)
            if first and second:
                assert control.cause == ("second" if second > first else "first")


def test_clear_forgets_every_wish():
    """After clear() the job may run again."""
    control = Control()
    control.ask(Wish.YIELD, "gone")
    control.clear()
    assert control.wish is Wish.NONE
    assert control.cause == ""


@pytest.mark.parametrize("rate", [0, -1, float("nan"), "fast", True, [1]])
def test_a_rate_that_makes_no_sense_is_refused(rate):
    """max_rate is a positive number or None, at the beginning and later."""
    with pytest.raises(OptionError, match="max_rate"):
        Control(rate)
    control = Control(5)
    with pytest.raises(OptionError, match="max_rate"):
        control.max_rate = rate
    assert control.max_rate == 5


def test_the_rate_holds_for_the_sum_of_all_threads():
    """Four threads that pay 100 kB each at 1 MB/s take as long as 400 kB take."""
    control = Control(1e6)
    began = time.monotonic()
    threads = [
        threading.Thread(target=lambda: [control.pay(10_000) for _ in range(10)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - began >= 0.39


def paying(control, amount):
    thread = threading.Thread(target=control.pay, args=(amount,))
    thread.start()
    wait_until(lambda: control._free_at > 0)
    return thread


@pytest.mark.parametrize("rate", [None, 1e12])
def test_a_change_of_the_rate_wakes_who_waits(rate):
    """A thread that owes hours at the old rate goes on as soon as the rate is changed."""
    control = Control(1)
    thread = paying(control, 100_000)
    control.max_rate = rate
    thread.join(30)
    assert not thread.is_alive()


def test_a_wish_wakes_who_waits_for_the_rate():
    """A thread that owes hours stops waiting when a pause is asked for."""
    control = Control(1)
    thread = paying(control, 100_000)
    control.ask(Wish.PAUSE, "test")
    thread.join(30)
    assert not thread.is_alive()


def test_without_a_limit_nobody_waits():
    """pay() returns at once when there is no max_rate."""
    control = Control()
    control.pay(10**15)
    assert control.max_rate is None
