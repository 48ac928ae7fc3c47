"""Parts that the workers of a cluster write: each is an order sent along a lane."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from taskwidgets.errors import DatabaseError, TargetError
from taskwidgets.runtime.control import Stopped, Wish
from taskwidgets.runtime.run import Run
from taskwidgets.store.database import Database
from taskwidgets.transfers.lanes import QUERY_CANCELLED, Lane, Lanes
from taskwidgets.transfers.parts import Entry, PartMade, PartOrder, make_part
from taskwidgets.transfers.places import DiskPlace, Place, PlaceGone

__all__ = ["ClusterHands"]


class ClusterHands:
    """Lanes to a cluster, whose workers read in the snapshot that ``begin`` joins.

    ``store``: the database that the job is kept in.
    """

    def __init__(self, lanes: Lanes, run: Run, begin: list[str], store: Database) -> None:
        database = lanes.database
        self._lanes = lanes
        self._store = store
        self._run = run
        self._entry = Entry(database.url.set(password=None), {}, {}, tuple(begin), run.claim)

    def tool(self) -> Lane:
        return self._lanes.lane()

    def make(self, tool: Lane, order: PartOrder) -> PartMade:
        # Asked for each part: the login may have changed since the last one.
        login = self._lanes.database.connect_arguments
        connect = {**login, "application_name": tool.name}
        store = connect
        if self._store is not self._lanes.database:
            store = {**self._store.connect_arguments, "application_name": tool.name}
        entry = replace(self._entry, connect=connect, store=store)
        title = f"taskwidgets-job-{self._run.job_id}-{order.stem.rpartition('-')[0]}"
        try:
            made = tool.ask(title, make_part, order, entry)
        except PlaceGone:
            self._check_there(order.place)
            raise
        wish = self._run.control.wish
        if made is None:
            if wish is not Wish.NONE:
                raise Stopped(wish)
            raise DatabaseError("the part was cancelled", sqlstate=QUERY_CANCELLED)
        self._check_seen(order.place, made)
        self._lanes.cluster.did(made.worker, made.read)
        self._run.control.pay(made.read)
        return made

    def _check_there(self, place: Place) -> None:
        """Where a worker could not write, it may be that it is on another machine."""
        if isinstance(place, DiskPlace) and Path(place.folder).is_dir():
            raise self._elsewhere(place) from None

    def _check_seen(self, place: Place, made: PartMade) -> None:
        if isinstance(place, DiskPlace):
            try:
                size = (Path(place.folder) / made.name).stat().st_size
            except OSError:
                size = -1
            if size != made.bytes:
                raise self._elsewhere(place)

    def _elsewhere(self, place: DiskPlace) -> TargetError:
        return TargetError(
            f"the workers of {self._lanes.cluster!r} do not see {place.folder}: with client=, a "
            "folder has to lie on a file system that all of them share, or at a URL"
        )
