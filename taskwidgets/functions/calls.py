"""One call of a user's function, begun from the job's thread: on a loop, or in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from taskwidgets.functions.runs import AsyncRun, Told
from taskwidgets.runtime.threads import LoopHandle, start_thread

__all__ = ["Call", "LoopCall", "ThreadCall"]


class Call:
    """``outcome``: what the function returned or raised; CancelledError when it was told to stop.

    Never cancelled itself, so that whoever waits for it need not tell the two apart.
    """

    def __init__(self) -> None:
        self.outcome: Future[Any] = Future()

    def cancel(self) -> None:
        """End it at whatever it waits for, where that is possible."""

    @property
    def lost(self) -> bool:
        """Whether it will never come to an end, as its loop is gone."""
        return False


class LoopCall(Call):
    """A coroutine function, as a task on the job's loop, in the context of the job's cell."""

    def __init__(self, loop: LoopHandle, run: AsyncRun, function: Callable[[], Any]) -> None:
        super().__init__()
        self._loop = loop
        self._run = run
        self._function = function
        self._task: asyncio.Task[Any] | None = None
        self._cancelled = False
        loop.spawn(self._main)

    async def _main(self) -> None:
        self._task = self._run._task = asyncio.current_task()
        try:
            if self._cancelled:
                raise asyncio.CancelledError
            result = await self._function()
        except BaseException as error:  # noqa: BLE001 - handed to the job's thread
            self.outcome.set_exception(error)
        else:
            self.outcome.set_result(result)

    def cancel(self) -> None:
        """Cancel the task at the await that it is in."""
        self._loop.call(self._cancel)

    def _cancel(self) -> None:
        self._cancelled = True
        if self._task is not None:
            self._task.cancel()

    @property
    def lost(self) -> bool:
        """Whether its loop was closed under it."""
        return self._loop.closed


class ThreadCall(Call):
    """A plain function, in a thread of its own."""

    def __init__(self, job_id: int, function: Callable[[], Any]) -> None:
        super().__init__()
        self._function = function
        start_thread(self._main, name=f"job {job_id} function")

    def _main(self) -> None:
        try:
            result = self._function()
        except Told:
            self.outcome.set_exception(asyncio.CancelledError())
        except BaseException as error:  # noqa: BLE001 - handed to the job's thread
            self.outcome.set_exception(error)
        else:
            self.outcome.set_result(result)
