"""Many may pass at once, or one alone: batches, and what must not meet any of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from taskwidgets.runtime.control import Control, Stopped, Wish

__all__ = ["Gate"]

LOOK = 0.05  # seconds between two looks at the wishes while it is shut


class Gate:
    """Threads pass ``shared``, or ``alone``; who waits to be alone is let in first.

    Who had to wait, and hears a wish meanwhile, is not let in: Stopped.
    """

    def __init__(self, control: Control) -> None:
        self._control = control
        self._changed = threading.Condition()
        self._inside = 0
        self._waiting = 0
        self._is_alone = False

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Inside together with others."""
        with self._changed:
            while self._is_alone or self._waiting:
                self._wait()
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Inside with nobody else."""
        with self._changed:
            self._waiting += 1
            try:
                while self._is_alone or self._inside:
                    self._wait()
                self._is_alone = True
            finally:
                self._waiting -= 1
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._is_alone = False
                self._changed.notify_all()

    def _wait(self) -> None:
        if self._control.wish is not Wish.NONE:
            raise Stopped(self._control.wish)
        self._changed.wait(LOOK)
