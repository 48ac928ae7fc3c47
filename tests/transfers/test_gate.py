"""The lock between batches and what must not meet any of them: many at once, or one alone."""

from __future__ import annotations

import pytest

from taskwidgets.runtime.control import Control, Stopped, Wish
from taskwidgets.transfers.gate import Gate


class WouldWait(Exception):
    """Instead of a wait."""


@pytest.fixture
def gate(monkeypatch):
    """One that says where it would wait."""

    def wait(_):
        raise WouldWait

    monkeypatch.setattr(Gate, "_wait", wait)
    return Gate(Control())


def waits(way):
    try:
        with way():
            return False
    except WouldWait:
        return True


def test_many_share_it_and_nobody_is_alone_meanwhile(gate):
    """As long as one of several is inside, nobody can be alone."""
    with gate.shared():
        with gate.shared():
            assert waits(gate.alone)
        assert waits(gate.alone)
        assert not waits(gate.shared)
    assert not waits(gate.alone)


def test_nobody_is_inside_with_one_who_is_alone(gate):
    """Whoever is alone keeps out all others, until the end only."""
    with gate.alone():
        assert waits(gate.shared)
        assert waits(gate.alone)
    assert not waits(gate.shared)
    assert not waits(gate.alone)


def test_who_waits_to_be_alone_goes_first(gate, monkeypatch):
    """Nobody is let in to share it while somebody waits to be alone."""
    found = []

    def wait(_):
        if not found:  # the one who wants to be alone
            found.append("waits")
            found.append(waits(gate.shared))
        raise WouldWait

    monkeypatch.setattr(Gate, "_wait", wait)
    with gate.shared():
        assert waits(gate.alone)
        assert not waits(gate.shared)
    assert found == ["waits", True]


def test_a_wish_ends_the_wait():
    """Whoever would have to wait after a wish is not let in."""
    control = Control()
    gate = Gate(control)
    with gate.alone():
        control.ask(Wish.PAUSE, "a click")
        with pytest.raises(Stopped), gate.shared():
            pass
