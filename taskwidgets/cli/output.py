"""What a command says: words for people, JSON for programs, complaints on standard error.

Names of files and tables, and what databases answer, may hold anything; nothing of it is taken for
markup, and no sign of it moves a terminal's cursor.
"""

from __future__ import annotations

import json
import os
import re
import sys
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from functools import wraps
from typing import IO, Any, ParamSpec

import typer

from taskwidgets.cli.exits import Exit
from taskwidgets.errors import OptionError, TaskwidgetsError
from taskwidgets.options import DOWNLOAD, RESUME, UPLOAD, spelled

__all__ = ["can_ask", "clean", "complain", "confirmed", "guarded", "in_terminal", "print_json",
           "say"]  # fmt: skip

Parameters = ParamSpec("Parameters")
# Controls, signs that turn the direction of writing or cannot be seen, halves of characters, and
# separators of lines and paragraphs.
UNSPEAKABLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
TRACEBACK = "TASKWIDGETS_TRACEBACK"  # set: faults of the package itself are told with theirs


def clean(text: str, *, lines: bool = False) -> str:
    """The text without anything that a terminal would obey; ``lines``: line endings stay."""
    return "".join(
        "\N{REPLACEMENT CHARACTER}"
        if unicodedata.category(sign) in UNSPEAKABLE and not (lines and sign == "\n")
        else sign
        for sign in text
    )


def say(text: str) -> None:
    """A line, or several, on standard output."""
    _write(sys.stdout, f"{clean(text, lines=True)}\n")


def complain(text: str) -> None:
    """What went wrong, or what is to be known besides, on standard error."""
    _write(sys.stderr, f"taskwidgets: {clean(text, lines=True)}\n")


def print_json(value: object, *, indent: int | None = 2) -> None:
    """One JSON document on standard output, in ASCII."""
    _write(sys.stdout, f"{json.dumps(value, indent=indent, default=_plain)}\n")


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value)


def _write(stream: IO[str], text: str) -> None:
    try:
        stream.write(text)
        stream.flush()
    except OSError:
        # Nobody reads any more, as behind `| head` or when the terminal was closed; the work goes
        # on. Python would complain once more when it flushes the stream at its end.
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def can_ask() -> bool:
    """Whether a person is there to answer a question."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def confirmed(question: str) -> bool:
    """Ask; only a clear yes is one. KeyboardInterrupt and the end of input are a no."""
    _write(sys.stderr, f"{clean(question)} [y/N] ")
    try:
        answer = sys.stdin.readline()
    except KeyboardInterrupt:
        answer = ""
    if not answer.endswith("\n"):
        _write(sys.stderr, "\n")
    return answer.strip().lower() in ("y", "yes")


# What errors say to people who write Python, as it is said in a terminal.
_OPTIONS = sorted({option.name for option in (*UPLOAD, *DOWNLOAD, *RESUME)})
_RESUME = re.compile(r"tw\.resume\((\d+)(, take_over=True)?\)")
_ARGUMENT = re.compile(rf'\b({"|".join(_OPTIONS)})=(?:"([^"]*)"|True)')
_PHRASES = {
    "in the call that made it starts": "to the command that made it starts",
    "the call that made it starts": "the command that made it starts",
    "run the cell again to see it": "run the command again to see it",
}


def in_terminal(text: str) -> str:
    """An error's text with commands and options in place of calls and arguments."""
    text = _RESUME.sub(
        lambda found: f"taskwidgets resume {found[1]}{' --take-over' if found[2] else ''}", text
    )
    text = _ARGUMENT.sub(lambda found: f"{spelled(found[1])} {found[2] or ''}".rstrip(), text)
    for phrase, instead in _PHRASES.items():
        text = text.replace(phrase, instead)
    return text


def guarded(command: Callable[Parameters, Exit]) -> Callable[Parameters, None]:
    """The command with its exit code, its errors told in a sentence."""

    @wraps(command)
    def run(*args: Parameters.args, **kwargs: Parameters.kwargs) -> None:
        for stream in (sys.stdout, sys.stderr):
            reconfigure: Any = getattr(stream, "reconfigure", None)
            if reconfigure is not None:
                reconfigure(errors="replace")  # an arrow in a terminal that has only ASCII
        try:
            code = command(*args, **kwargs)
        except KeyboardInterrupt:
            complain("stopped")
            code = Exit.STOPPED
        except TaskwidgetsError as error:
            code = Exit.USAGE if isinstance(error, OptionError) else Exit.FAILED
            _tell(error, in_terminal(str(error)), as_json=bool(kwargs.get("as_json")))
        except Exception as error:
            if os.environ.get(TRACEBACK):
                raise
            code = Exit.FAILED
            what = f"{type(error).__name__}: {error}"
            if not isinstance(error, OSError):
                what = f"an unexpected fault, {what} ({TRACEBACK}=1 shows where)"
            _tell(error, what, as_json=bool(kwargs.get("as_json")))
        raise typer.Exit(int(code))

    return run


def _tell(error: Exception, text: str, *, as_json: bool) -> None:
    complain(text)
    if as_json:
        print_json({"error": {"type": type(error).__name__, "message": str(error)}})
