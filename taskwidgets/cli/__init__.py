"""The command line: ``taskwidgets demo``. One file a command; this one only lists them."""

from __future__ import annotations

import typer

from taskwidgets.cli.demo import demo

__all__ = ["main"]

app = typer.Typer(
    help="Long jobs between files and Postgres, with checkpoints.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # its frames show local variables: a URL's password among them
)


@app.callback()
def _root() -> None:
    """Keep ``demo`` a subcommand while it is the only one."""


app.command()(demo)


def main() -> None:
    """The entry point that pyproject.toml names."""
    app()
