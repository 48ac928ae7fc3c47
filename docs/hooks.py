"""What the documentation takes from the code at build time, so that it cannot fall behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer
from typer.main import get_command
from typer.testing import CliRunner

from taskwidgets import errors
from taskwidgets.cli import main
from taskwidgets.runtime.states import FINAL, TRANSITIONS, State


def on_config(config: Any) -> Any:
    """The page on the HTTP interface stands among the references where that part is installed."""
    if (Path(config.docs_dir) / "http.md").exists():
        reference = next(entry["Reference"] for entry in config.nav if "Reference" in entry)
        reference.append({"HTTP": "http.md"})
    return config


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the generated parts in place of their marks."""
    for mark, part in (("commands", commands), ("moves", moves), ("errors", faults)):
        if f"<!-- {mark} -->" in markdown:
            markdown = markdown.replace(f"<!-- {mark} -->", part())
    return markdown


def commands() -> str:
    """What each command says to --help."""
    app = typer_app()
    parts = []
    for words in ([], *([name] for name in get_command(app).commands)):
        said = CliRunner().invoke(
            app,
            [*words, "--help"],
            prog_name="taskwidgets",
            terminal_width=88,
            env={"COLUMNS": "88", "NO_COLOR": "1"},
        )
        assert said.exit_code == 0, said.output
        lines = "\n".join(line.rstrip() for line in said.output.strip("\n").splitlines())
        parts.append(f"## {' '.join(['taskwidgets', *words])}\n\n```text\n{lines}\n```\n")
    return "\n".join(parts)


def typer_app() -> typer.Typer:
    """What the entry point would run, wherever in the package it is made."""
    found: list[typer.Typer] = []
    run = typer.Typer.__call__
    typer.Typer.__call__ = lambda self, *_, **__: found.append(self)
    try:
        main()
    finally:
        typer.Typer.__call__ = run
    return found[0]


def faults() -> str:
    """The tree of errors as it is drawn in the source, and each of them."""
    tree = (errors.__doc__ or "").partition("\n\n")[2].strip("\n")
    each = [f"::: taskwidgets.errors.{name}" for name in vars(errors) if name in errors.__all__]
    return "\n".join(["```text", tree, "```", "", *each])


def moves() -> str:
    """From which state to which."""
    lines = ["| from | to |", "|---|---|"]
    for state in State:
        following = [f"`{other}`" for other in State if (state, other) in TRANSITIONS]
        lines.append(f"| `{state}` | {', '.join(following) or 'nowhere: it is over'} |")
        assert bool(following) == (state not in FINAL)
    return "\n".join(lines)
