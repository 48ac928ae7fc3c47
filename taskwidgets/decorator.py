"""``@tw.job``: an async or plain function becomes a job, with the same panel as a transfer."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Concatenate, Generic, ParamSpec, overload

from taskwidgets.current import call
from taskwidgets.functions.function import Function, define
from taskwidgets.runtime.job import Job
from taskwidgets.workspace import Workspace

__all__ = ["JobFunction", "job"]

P = ParamSpec("P")


class JobFunction(Generic[P]):
    """A function whose call begins a job and returns it at once."""

    def __init__(self, function: Function, workspace: Workspace | None = None) -> None:
        self._function = function
        self._workspace = workspace
        functools.update_wrapper(self, function.call)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Job:
        """Begin the job of these arguments; or attach to it, resume it, find it finished.

        Raises OptionError, naming the argument that is not JSON, before anything is recorded;
        JobOwned, when another process runs it.
        """
        spec = self._function.spec(args, kwargs)
        return call(spec, workspace=self._workspace)

    def again(self, *args: P.args, **kwargs: P.kwargs) -> Job:
        """Begin anew; an unfinished job of these arguments is terminated first."""
        spec = self._function.spec(args, kwargs)
        return call(spec, again=True, workspace=self._workspace)

    def using(self, workspace: Workspace) -> JobFunction[P]:
        """The same function in another workspace: ``scrape.using(workspace)(urls)``."""
        return JobFunction(self._function, workspace)

    def __repr__(self) -> str:
        return f"<job function {self._function.name}>"


@overload
def job(function: Callable[Concatenate[Any, P], Any], /) -> JobFunction[P]: ...


@overload
def job(
    *,
    retries: int = 0,
    on_terminate: Callable[..., Any] | None = None,
    name: str | None = None,
) -> Callable[[Callable[Concatenate[Any, P], Any]], JobFunction[P]]: ...


def job(
    function: Callable[..., Any] | None = None,
    /,
    *,
    retries: int = 0,
    on_terminate: Callable[..., Any] | None = None,
    name: str | None = None,
) -> Any:
    """Make a job of a function: ``@tw.job``, or ``@tw.job(retries=3)``.

    The function's first parameter is the ``run``, by which it says how far it is::

        @tw.job
        async def scrape(run, urls):
            start = run.state.get("next", 0)
            for i, url in enumerate(urls[start:], start):
                page = await fetch(url)
                await run.checkpoint({"next": i + 1}, done=i + 1, total=len(urls))

        scrape(urls)        # a Job, begun at once

    ``retries``: so many more attempts after an exception, each from the last checkpoint, with
    waits that double from a second to a minute. ``on_terminate(run, *the same arguments)`` undoes
    what the function made, when the job is terminated; it runs in a thread, or on a loop, of its
    own. ``name``: what the panel shows, by default the function's.

    The arguments must be JSON: they are recorded, so that any process that has defined the
    function can go on, and the function gets them as they were recorded. The same call again
    attaches to the job that runs, resumes the one that was paused, interrupted or failed, and
    returns the finished one; ``scrape.again(urls)`` begins anew.

    What the function writes within ``run.transaction()`` is done exactly once; everything else that
    it did after its last checkpoint is done again after a crash. A plain function runs in a thread
    of its own and calls the same names without ``await``. Raises OptionError.
    """

    def decorate(given: Callable[..., Any]) -> JobFunction[Any]:
        made = Function.of(given, retries=retries, on_terminate=on_terminate, name=name)
        define(made)
        return JobFunction(made)

    return decorate if function is None else decorate(function)
