"""The list of the commands."""

from __future__ import annotations

import typer

from taskwidgets.cli.control import pause, resume, terminate
from taskwidgets.cli.demo import demo
from taskwidgets.cli.doctor import doctor
from taskwidgets.cli.exits import EXIT_CODES
from taskwidgets.cli.lab import lab
from taskwidgets.cli.records import jobs, prune, rejects, show
from taskwidgets.cli.transfers import download, preview, upload

__all__ = ["app"]

app = typer.Typer(
    help="Long jobs between files and Postgres, with checkpoints.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # its frames show local variables: a URL's password among them
    # Plain text: what a user has typed is repeated in errors, and is no markup.
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (upload, download, preview, jobs, show, pause, resume, terminate, rejects, prune,
                lab, demo, doctor):  # fmt: skip
    app.command()(command)
