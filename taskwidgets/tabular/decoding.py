"""Errors of the libraries that decode files, as one SourceError of one line.

A damaged file makes a decoder raise anything: its own errors, but also KeyError, struct.error or
OverflowError, from code that takes the file at its word. Which of them is no matter to the user.
The library's traceback is not shown either (``from None``): it says nothing about the file.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar
from unicodedata import category

from taskwidgets.errors import SourceError, TaskwidgetsError

__all__ = ["decoded", "decoding", "in_one_line", "visible"]

LONGEST_REASON = 200  # characters of a library's own words

CONTROL_PICTURES = 0x2400  # Unicode: that of NUL; the others follow
# Controls, surrogates, characters for private use, ones that are none, separators of lines.
BREAKING = frozenset({"Cc", "Cs", "Co", "Cn", "Zl", "Zp"})

ItemT = TypeVar("ItemT")


def in_one_line(error: BaseException) -> str:
    """What a library says, without line breaks and control characters; its kind if that is nothing.

    Examples
    --------
    >>> in_one_line(ValueError("no thrift:\\n  no more data\\n"))
    'no thrift: no more data'
    >>> in_one_line(EOFError())
    'EOFError'
    """
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    words = " ".join("".join(c if c.isprintable() else " " for c in text).split()).rstrip(" :;,.")
    if not words:
        return type(error).__name__
    return words if len(words) <= LONGEST_REASON else f"{words[:LONGEST_REASON]}…"


def visible(text: str) -> str:
    """A line of a file as a message shows it: control characters as their pictures.

    They would break the line, or do something to a terminal.

    Examples
    --------
    >>> visible("a\\x00b\\x1b[2J")
    'a␀b␛[2J'
    """
    return "".join(_picture(c) if category(c) in BREAKING else c for c in text)


def _picture(character: str) -> str:
    if character == "\t":
        return character
    return chr(CONTROL_PICTURES + ord(character)) if character < " " else "\ufffd"


@contextmanager
def decoding(path: Path, what: str) -> Iterator[None]:
    """Raise what a decoder raises inside as a SourceError; errors of our own tree stay as they are.

    Parameters
    ----------
    path : Path
        The file that is read.
    what : str
        What it is: "a Parquet file".
    """
    try:
        yield
    except TaskwidgetsError:
        raise
    except MemoryError:
        raise SourceError(
            f"{path} is {what} that needs more memory to be read than there is; it may be damaged. "
            "Copy or download it again, or write it in smaller parts",
            path=path,
        ) from None
    except OSError as error:
        # Of the disk, not of the decoder. A place before the file's beginning is the decoder's.
        if error.errno not in (None, errno.EINVAL) and error.strerror:
            raise SourceError(f"{path} cannot be read: {error.strerror}", path=path) from None
        raise _damaged(path, what, error) from None
    except Exception as error:  # noqa: BLE001 - see the module's text
        raise _damaged(path, what, error) from None


def decoded(items: Iterable[ItemT], path: Path, what: str) -> Iterator[ItemT]:
    """The items of a decoder's iterator; what becomes of them elsewhere is not translated."""
    iterator = iter(items)
    while True:
        with decoding(path, what):
            try:
                item = next(iterator)
            except StopIteration:
                return
        yield item


def _damaged(path: Path, what: str, error: Exception) -> SourceError:
    return SourceError(
        f"{path} is {what} that cannot be read: {in_one_line(error)}. It is damaged or not whole: "
        "copy or download it again",
        path=path,
    )
