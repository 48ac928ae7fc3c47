"""A function that runs as a job: what the decorator knows of it, and where it is found again."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from taskwidgets.errors import FunctionUnknown, OptionError, PlanRefused
from taskwidgets.functions.definition import code_hash, defined_in
from taskwidgets.functions.values import json_text
from taskwidgets.runtime.store import JobSpec

__all__ = ["KIND", "Function", "Plan", "define", "find", "known"]

KIND = "function"


@dataclass(frozen=True)
class Plan:
    """What is recorded of a call: which function, and its arguments as JSON text.

    Text, as jsonb would put a dictionary's keys into another order. ``defined_in`` and ``code`` are
    what `definition` says of the function.
    """

    function: str
    arguments: str
    has_on_terminate: bool
    defined_in: str = ""
    code: str | None = None

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary for the store."""
        return {
            "function": self.function,
            "arguments": self.arguments,
            "on_terminate": self.has_on_terminate,
            "defined_in": self.defined_in,
            "code": self.code,
        }

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Plan:
        """The reverse of ``to_json``."""
        return cls(
            stored["function"],
            stored["arguments"],
            stored["on_terminate"],
            stored.get("defined_in", ""),
            stored.get("code"),
        )

    def check(self, spec: JobSpec, job_id: int) -> None:
        """PlanRefused where function and arguments are not those of the recorded call."""
        try:
            values = json.loads(self.arguments)
            follows = (
                self.function == spec.source
                and values == spec.options
                # Jobs of earlier releases have keys without the place of the definition.
                and (
                    not self.defined_in or spec.key == _key(self.function, self.defined_in, values)
                )
            )
        except (TypeError, ValueError):
            follows = False
        if not follows:
            raise PlanRefused(
                f"the record of job {job_id} does not follow from its call: {self.function} with "
                f"the arguments {self.arguments}. Somebody changed the record in the database. "
                "Nothing of it was run; call the function again",
                job_id=job_id,
            )

    def changed(self, function: Function) -> bool:
        """Whether the function's code is another than the call's; False where nobody can tell."""
        if self.code is None or function.code is None:
            return False
        then, now = self.code.split(":"), function.code.split(":")
        return then[0] == now[0] and then[1] != now[1]


@dataclass(frozen=True, eq=False)
class Function:
    """``call(run, *arguments)``; ``signature`` is that of the arguments, without the run.

    ``name`` is ``module:qualified name``, by which another process finds it; ``title`` is shown.
    ``defined_in`` and ``code`` are what `definition` says of it.
    """

    call: Callable[..., Any]
    name: str
    title: str
    signature: inspect.Signature
    retries: int
    on_terminate: Callable[..., Any] | None
    defined_in: str = ""
    code: str | None = None

    @classmethod
    def of(
        cls,
        call: Callable[..., Any],
        *,
        retries: int = 0,
        on_terminate: Callable[..., Any] | None = None,
        name: str | None = None,
    ) -> Function:
        """The function as a job; OptionError where it cannot be one."""
        if not callable(call) or not hasattr(call, "__qualname__") or inspect.isclass(call):
            raise OptionError(f"job: {call!r} is no function")
        if inspect.isasyncgenfunction(call) or inspect.isgeneratorfunction(call):
            raise OptionError(f"job: {call.__qualname__} yields; a job's function returns")
        if isinstance(retries, bool) or not isinstance(retries, int) or retries < 0:
            raise OptionError(f"retries must be a whole number from 0 on, not {retries!r}")
        if on_terminate is not None and not callable(on_terminate):
            raise OptionError(f"on_terminate must be a function, not {on_terminate!r}")
        if name is not None and (not isinstance(name, str) or not name.strip()):
            raise OptionError(f"name must be a text, not {name!r}")
        signature = inspect.signature(call)
        parameters = [*signature.parameters.values()]
        if not parameters or parameters[0].kind not in (
            inspect.Parameter.POSITIONAL_ONLY,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
        ):
            raise OptionError(
                f"job: the first parameter of {call.__qualname__} must be the run: "
                f"def {call.__name__}(run, ...)"
            )
        return cls(
            call,
            f"{call.__module__}:{call.__qualname__}",
            name or call.__name__,
            signature.replace(parameters=parameters[1:]),
            retries,
            on_terminate,
            defined_in(call),
            code_hash(call),
        )

    def spec(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> JobSpec:
        """The job of a call; TypeError as Python has it, OptionError for what is no JSON."""
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.title}(): {error}") from None
        bound.apply_defaults()
        texts = {name: json_text(value, name) for name, value in bound.arguments.items()}
        values = {name: json.loads(text) for name, text in texts.items()}
        return JobSpec(
            key=_key(self.name, self.defined_in, values),
            kind=KIND,
            name=self.title,
            source=self.name,
            target="",
            options=values,
            plan=Plan(
                self.name,
                json.dumps(values),
                self.on_terminate is not None,
                self.defined_in,
                self.code,
            ).to_json(),
            unit="items",
        )

    def bound(self, plan: Plan) -> inspect.BoundArguments:
        """The recorded arguments, fresh ones each time: a function may change its lists."""
        values: dict[str, Any] = json.loads(plan.arguments)
        gone = values.keys() - self.signature.parameters.keys()
        if gone:
            raise OptionError(
                f"the job was begun with the argument {min(gone)!r}, which {self.title}() does not "
                "take any more; define it as it was, or start a new job"
            )
        for parameter in self.signature.parameters.values():
            if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
                values[parameter.name] = tuple(values.get(parameter.name, ()))
        bound = inspect.BoundArguments(self.signature, values)
        bound.apply_defaults()
        return bound


def _key(name: str, place: str, values: dict[str, Any]) -> str:
    """What says that two calls mean the same job."""
    meant = json.dumps([name, place, values], sort_keys=True)
    return hashlib.sha256(f"{KIND} {meant}".encode()).hexdigest()


_functions: dict[str, Function] = {}
"""By name; a cell that is run again puts its new function in the old one's place."""


def define(function: Function) -> None:
    """Let jobs find the function; those at work go on with the one they began with."""
    _functions[function.name] = function


def known(name: str) -> Function | None:
    """The function of this name, where this process has defined it."""
    return _functions.get(name)


def find(name: str, job_id: int) -> Function:
    """The function of this name; FunctionUnknown tells how to make it known."""
    function = known(name)
    if function is None:
        module, _, qualified = name.partition(":")
        raise FunctionUnknown(
            f"job {job_id} runs the function {qualified} of module {module}, which this process "
            "has not defined; run the cell that defines it, or import it, then resume",
            job_id=job_id,
        )
    return function
