"""The fastest reader that a server allows."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from sqlalchemy.engine import URL

from taskwidgets.transfers.pipe import NoPipe, PipeReader
from taskwidgets.transfers.psql import PsqlReader
from taskwidgets.transfers.reader import CopierReader, Reader

__all__ = ["open_reader"]


def open_reader(url: URL, connect: dict[str, Any], begin: Sequence[str]) -> Reader:
    """A session for statements that give rows all the time; ``begin`` opens its transaction.

    ``connect``: what psycopg2.connect() takes; ``url`` is for errors.
    """
    if PipeReader.serves(connect):
        with suppress(NoPipe):
            return PipeReader(url, connect, begin)
    if PsqlReader.serves(connect):
        return PsqlReader(url, connect, begin)
    return CopierReader(url, connect, begin)
