"""Work in a thread beside the main one, which so hears a signal at once.

A call that waits for a server, inside the driver, would keep Python from looking at signals.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

__all__ = ["TICK", "aside"]

Made = TypeVar("Made")
TICK = 0.1  # seconds between two looks


def aside(action: Callable[[], Made], look: Callable[[], object] = lambda: None) -> Made:
    """Do it in a thread, and return or raise what comes of it.

    ``look`` is called meanwhile, again and again; when it raises, the thread is left behind.
    """
    from taskwidgets.runtime.threads import start_thread  # with it comes asyncio

    results: list[Made] = []
    faults: list[BaseException] = []

    def act() -> None:
        try:
            results.append(action())
        except BaseException as fault:  # noqa: BLE001 - raised below, in the thread that waits
            faults.append(fault)

    thread = start_thread(act, name="command")
    while thread.is_alive():
        thread.join(TICK)
        look()
    if faults:
        raise faults[0]
    return results[0]
