"""The states of a job and the moves between them: pure data, the only such list.

The store's migration writes the same pairs into the table ``taskwidgets.transitions``, against
which a trigger checks every update; a test compares the two.
"""

from __future__ import annotations

from enum import StrEnum

__all__ = ["ACTIVE", "FINAL", "OWNED", "RESUMABLE", "TRANSITIONS", "State", "may_move"]


class State(StrEnum):
    """Where a job stands; the value is what the database holds and the panel shows."""

    PENDING = "pending"  # recorded, not yet begun
    RUNNING = "running"  # its owner is alive and works
    PAUSING = "pausing"  # pause asked for; the batch in flight is finishing
    PAUSED = "paused"  # durable: all that is done is committed, the kernel may be restarted
    INTERRUPTED = (
        "interrupted"  # its owner is gone; seen by whoever looks, not written by the dying
    )
    COMPLETED = "completed"  # done, receipt written
    FAILED = "failed"  # an error stopped it; the checkpoint stands
    TERMINATING = "terminating"  # cleaning up
    TERMINATED = "terminated"  # cleaned up: database and disk as before the job


TRANSITIONS: frozenset[tuple[State, State]] = frozenset(
    {
        (State.PENDING, State.RUNNING),
        (State.PENDING, State.TERMINATED),
        (State.RUNNING, State.PAUSING),
        (State.RUNNING, State.COMPLETED),
        (State.RUNNING, State.FAILED),
        (State.RUNNING, State.TERMINATING),
        (State.RUNNING, State.INTERRUPTED),
        (State.PAUSING, State.PAUSED),
        (State.PAUSING, State.COMPLETED),
        (State.PAUSING, State.FAILED),
        (State.PAUSING, State.INTERRUPTED),
        (State.PAUSED, State.RUNNING),
        (State.PAUSED, State.TERMINATING),
        (State.INTERRUPTED, State.RUNNING),
        (State.INTERRUPTED, State.TERMINATING),
        (State.FAILED, State.RUNNING),
        (State.FAILED, State.TERMINATING),
        (State.TERMINATING, State.TERMINATED),
        (State.TERMINATING, State.INTERRUPTED),
    }
)

FINAL = frozenset({State.COMPLETED, State.TERMINATED})
"""Nothing leaves these."""

OWNED = frozenset({State.RUNNING, State.PAUSING, State.TERMINATING})
"""Written by a living owner; with the owner gone, each of these is shown as interrupted."""

RESUMABLE = frozenset({State.PENDING, State.PAUSED, State.INTERRUPTED, State.FAILED})
"""From these a job goes on when it is asked to."""

ACTIVE = frozenset(State) - FINAL
"""Of one key, at most one job at a time is in these."""


def may_move(start: State, finish: State) -> bool:
    """Whether a job may go from ``start`` to ``finish`` in one step."""
    return (start, finish) in TRANSITIONS
