"""``upload()`` and ``download()`` with no arguments: a form in place of a job."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, overload

from taskwidgets.errors import OptionError
from taskwidgets.runtime.job import Job
from taskwidgets.workspace import Workspace

__all__ = ["or_form"]

P = ParamSpec("P")
FormT_co = TypeVar("FormT_co", covariant=True)


class Door(Protocol, Generic[P, FormT_co]):
    """What ``or_form`` makes of a function."""

    @overload
    def __call__(self, *, workspace: Workspace | None = None) -> FormT_co: ...
    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Job: ...


def or_form(
    make: Callable[[Workspace | None], FormT_co],
) -> Callable[[Callable[P, Job]], Door[P, FormT_co]]:
    """Have a function that begins a job show a form where its two first arguments are missing.

    One of the two without the other is an OptionError that names the missing one.
    """

    def decorate(function: Callable[P, Job]) -> Door[P, FormT_co]:
        signature = inspect.signature(function)
        first, second = list(signature.parameters)[:2]

        @functools.wraps(function)
        def door(*args: Any, **kwargs: Any) -> Any:
            given = dict(zip((first, second), args, strict=False)) | kwargs
            missing = [name for name in (first, second) if given.get(name) is None]
            if not missing:
                return function(*args, **kwargs)
            name = getattr(function, "__name__", "")
            if len(missing) == 1:
                raise OptionError(
                    f"{name}() needs {first} and {second}, and {missing[0]} is missing; "
                    f"{name}() with neither shows a form"
                )
            left = sorted(set(given) - {first, second, "workspace"})
            if left:
                raise OptionError(
                    f"{name}({left[0]}=...) needs {first} and {second}; {name}() with no "
                    "arguments shows a form that asks for everything"
                )
            return make(kwargs.get("workspace"))

        shown = [
            one.replace(default=None) if one.name in (first, second) else one
            for one in signature.parameters.values()
        ]
        door.__signature__ = signature.replace(parameters=shown)  # type: ignore[attr-defined]
        return door

    return decorate
