"""What jobs of this process need and no store may have: data frames, and options with secrets.

By the job's key, as the call has it before there is a job, and a later call of the same key has
the same.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["find", "forget", "keep", "kept"]

_kept: dict[str, Any] = {}
_lock = threading.Lock()


def keep(key: str, material: Any) -> None:
    """Have it for the job of this key."""
    with _lock:
        _kept[key] = material


def find(key: str) -> Any:
    """What was kept, or None."""
    with _lock:
        return _kept.get(key)


def forget(key: str) -> None:
    """The job does not need it any more."""
    with _lock:
        _kept.pop(key, None)


@contextmanager
def kept(key: str, material: Any) -> Iterator[None]:
    """Have it, unless it is None, from here on; not where the block fails, if it was new."""
    if material is None:
        yield
        return
    known = find(key) is not None
    keep(key, material)
    try:
        yield
    except BaseException:
        if not known:  # else a job of this process may need it
            forget(key)
        raise
