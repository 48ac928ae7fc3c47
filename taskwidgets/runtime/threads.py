"""The only bridge between blocking code and event loops.

Everything that waits for a disk or a database runs in a thread of its own, so that a cell which
computes for a minute does not stop a transfer, and a transfer never holds the loop.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Coroutine
from typing import Any

__all__ = ["LoopHandle", "background_loop", "in_running_loop", "start_thread"]


def in_running_loop() -> bool:
    """Whether this very thread is inside a running event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def start_thread(function: Callable[..., None], *args: Any, name: str) -> threading.Thread:
    """Run a function in a daemon thread, with the caller's context variables.

    Daemon: a script that ends must not hang on a job; the job is then paused at exit.
    """
    context = contextvars.copy_context()
    thread = threading.Thread(
        target=context.run, args=(function, *args), name=f"taskwidgets {name}", daemon=True
    )
    thread.start()
    return thread


_background: asyncio.AbstractEventLoop | None = None
_background_lock = threading.Lock()


def background_loop() -> asyncio.AbstractEventLoop:
    """The loop for plain scripts, in a thread of its own, started when first asked for."""
    global _background
    with _background_lock:
        if _background is None or _background.is_closed():
            loop = asyncio.new_event_loop()
            start_thread(loop.run_forever, name="loop")
            _background = loop
        return _background


_home: contextvars.ContextVar[asyncio.AbstractEventLoop | None] = contextvars.ContextVar(
    "taskwidgets_home", default=None
)


class LoopHandle:
    """A loop together with the context of the cell that began: what a callback needs to land well.

    A handler may run on a thread whose loop sleeps until the next cell; only
    ``call_soon_threadsafe`` on the right loop, with the cell's context, wakes it and sends output
    to the right cell.
    """

    def __init__(self) -> None:
        try:
            self.loop = asyncio.get_running_loop()
        except RuntimeError:
            self.loop = _home.get() or background_loop()
        self._context = contextvars.copy_context()

    @property
    def closed(self) -> bool:
        """Whether nobody will ever run on this loop again."""
        return self.loop.is_closed()

    def call(self, function: Callable[..., object], *args: Any) -> None:
        """Have the loop call the function soon; from any thread; nothing when the loop is gone."""
        try:
            self.loop.call_soon_threadsafe(function, *args, context=self._context.copy())
        except RuntimeError:  # the loop is closed: nobody is left to tell
            return

    def run_here(self, function: Callable[..., object], *args: Any) -> None:
        """Call the function on this very thread, as though for the loop.

        Handles that are made inside are of this loop, with the same context: what blocks may be
        done in a thread, and what comes of it still lands in the right cell.
        """
        context = self._context.copy()
        context.run(_home.set, self.loop)
        context.run(function, *args)

    def spawn(self, make: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Have the loop run a coroutine as a task; from any thread."""
        self.call(self._create, make)

    def _create(self, make: Callable[[], Coroutine[Any, Any, None]]) -> None:
        task = self.loop.create_task(make())
        _tasks.add(task)  # the loop itself keeps only weak references
        task.add_done_callback(_tasks.discard)


_tasks: set[asyncio.Task[None]] = set()
