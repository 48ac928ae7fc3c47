"""What the documentation takes from the code at build time, so that it cannot fall behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from taskwidgets.runtime.states import FINAL, TRANSITIONS, State

COMMANDS = "<!-- commands -->"
MOVES = "<!-- moves -->"


def on_config(config: Any) -> Any:
    """The page on the HTTP interface stands among the references where that part is installed."""
    if (Path(config.docs_dir) / "http.md").exists():
        reference = next(entry["Reference"] for entry in config.nav if "Reference" in entry)
        reference.append({"HTTP": "http.md"})
    return config


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the generated parts in place of their marks."""
    if COMMANDS in markdown:
        markdown = markdown.replace(COMMANDS, commands())
    if MOVES in markdown:
        markdown = markdown.replace(MOVES, moves())
    return markdown


def commands() -> str:
    """All commands with their arguments and options, as --help has them."""
    made = subprocess.run(
        [sys.executable, "-m", "typer", "taskwidgets.cli", "utils", "docs", "--name",
         "taskwidgets"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    return made.partition("\n")[2]  # the page has a heading of its own


def moves() -> str:
    """From which state to which."""
    lines = ["| from | to |", "|---|---|"]
    for state in State:
        following = [f"`{other}`" for other in State if (state, other) in TRANSITIONS]
        lines.append(f"| `{state}` | {', '.join(following) or 'nowhere: it is over'} |")
        assert bool(following) == (state not in FINAL)
    return "\n".join(lines)
