"""Arguments and options that several commands have, and those of the functions behind them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taskwidgets.cli.aside import aside
from taskwidgets.options import Option

if TYPE_CHECKING:
    from taskwidgets.workspace import Workspace

__all__ = ["AsJson", "DatabaseUrl", "JobId", "JsonLines", "connected", "takes"]

JobId = Annotated[int, typer.Argument(metavar="ID", help="The job's number.", show_default=False)]
DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        "--database",
        metavar="URL",
        help="postgresql://user@host/database [default: $TASKWIDGETS_DATABASE_URL, else the "
        "Postgres that comes along]. Other users of the machine see a password that stands here; "
        "in the variable they do not.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document, at the end.")]
JsonLines = Annotated[
    bool,
    typer.Option(
        "--json-lines", help="Print a line of JSON each two seconds, the last one at the end."
    ),
]


def connected(database: str | None, look: Callable[[], object] = lambda: None) -> Workspace:
    """The workspace that the command works on; ``look`` is called while it is waited for."""

    def make() -> Workspace:
        from taskwidgets.workspace import Workspace  # pandas and SQLAlchemy: half a second

        return Workspace(database)

    return aside(make, look)


def takes(options: Sequence[Option]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command these options; it has them all in its argument ``given``, by name."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        own = [
            parameter
            for parameter in inspect.signature(command, eval_str=True).parameters.values()
            if parameter.name != "given"
        ]
        places = [one.replace(kind=one.KEYWORD_ONLY) for one in own]
        first = [one for one in places if one.default is one.empty]
        last = [one for one in places if one.default is not one.empty]
        parameters = [*first, *map(_parameter, options), *last]

        @wraps(command)
        def run(**values: Any) -> Any:
            given = {option.name: values.pop(option.name) for option in options}
            return command(**values, given=given)

        del run.__wrapped__  # its signature is not the command's
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {one.name: one.annotation for one in parameters}
        return run

    return decorate


def _parameter(option: Option) -> inspect.Parameter:
    shown = typer.Option(
        option.flag, help=option.help, metavar=option.metavar or None, show_default=False
    )
    kind: Any = bool if option.read is None else list[str] if option.many else str
    default = False if option.read is None else None
    return inspect.Parameter(
        option.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[kind if option.read is None else kind | None, shown],
    )
