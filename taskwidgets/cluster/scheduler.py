"""Which cluster is meant: the scheduler's address, and how to speak with it."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field
from typing import Any

from taskwidgets.errors import OptionError

__all__ = ["Scheduler", "as_scheduler"]


@dataclass(frozen=True)
class Scheduler:
    """A Dask scheduler's ``address``, as ``tcp://10.0.0.1:8786``, and its ``security``."""

    address: str
    security: Any = field(default=None, repr=False, compare=False)


def as_scheduler(client: object) -> Scheduler | None:
    """What ``client=`` was given: a ``distributed.Client``, a scheduler's address, or None.

    Only the address and the security are taken from a client: a job has one of its own, so that it
    neither needs the loop of the one it was given, nor that this stays open. Raises OptionError for
    anything else, and where Dask is not installed.
    """
    if client is None:
        return None
    if importlib.util.find_spec("distributed") is None:
        raise OptionError('client= needs Dask: pip install "taskwidgets[dask]"')
    if isinstance(client, str):
        if "://" not in client:
            client = f"tcp://{client}"
        return Scheduler(client)
    from distributed import Client

    if not isinstance(client, Client):
        raise OptionError(
            "client must be a distributed.Client or the address of a scheduler, such as "
            f'"tcp://10.0.0.1:8786", not {client!r}'
        )
    if client.scheduler is None or client.scheduler.address is None:
        raise OptionError("client= is connected with no scheduler; is it closed, or not awaited?")
    return Scheduler(client.scheduler.address, client.security)
