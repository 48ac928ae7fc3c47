"""What an upload loads, as contents that earlier and later appends are compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from sqlalchemy import Connection

from taskwidgets.publish.loaded_content import (
    Target,
    checksums,
    combined_crc32,
    known_contents,
    refuse_loaded,
)
from taskwidgets.store.checkpoints import Checkpoint
from taskwidgets.store.jobs import PostgresJobStore
from taskwidgets.store.loaded_contents import Content, LoadedContent
from taskwidgets.tabular.description import Description
from taskwidgets.tabular.stream import open_stream
from taskwidgets.transfers import tables
from taskwidgets.transfers.mending import parts_of
from taskwidgets.transfers.upload_plan import PART_BYTES, UploadPlan

__all__ = ["check_before", "check_within", "contents"]


def check_before(store: PostgresJobStore, plan: UploadPlan, on_block: Callable[[], None]) -> None:
    """AlreadyLoaded where rows of this append are in the target; before the first one is loaded.

    The source is read once for that, if earlier jobs have put anything into the target at all.
    """
    if plan.if_exists != "append" or plan.loads_again:
        return
    with store.in_transaction() as connection:
        target = _target(connection, plan)
        known = [] if target is None else known_contents(connection, target)
    if target is None or not known:
        return
    lengths = {one.content.size for one in known}
    new = []
    for part in parts_of(plan):
        stop = part.size if part.description is None else part.data_stop
        with open_stream(part.path, part.description or Description(), plan.limits) as stream:
            found = checksums(stream, part.data_start, stop, lengths, on_block)
        size = max(found)
        new.append((Content(*_names(plan, part), size, found[size], 0), found))
    with store.in_transaction() as connection:
        refuse_loaded(connection, target, known, new)


def check_within(connection: Connection, plan: UploadPlan, ledger: list[Checkpoint]) -> None:
    """As `check_before`, in the transaction of the cutover: others may have come first."""
    if plan.loads_again:
        return
    target = _target(connection, plan)
    known: list[LoadedContent] = [] if target is None else known_contents(connection, target)
    if target is not None and known:
        refuse_loaded(connection, target, known, [(one, {}) for one in contents(plan, ledger)])


def contents(plan: UploadPlan, ledger: list[Checkpoint]) -> Iterator[Content]:
    """What each file of an upload holds, by its checkpoints."""
    if not plan.parts:
        yield _content(plan.source, plan.source_key, ledger)
        return
    at = 0  # in the ledger, which is in the order of the source
    for number, path in enumerate(plan.parts.paths):
        begun = at
        while at < len(ledger) and ledger[at].start < (number + 1) * PART_BYTES:
            at += 1
        made_of = plan.parts.made_of.get(number)
        name = path if made_of is None else str(made_of["path"])
        yield _content(name, name, ledger[begun:at])


def _content(name: str, key: str | None, own: Sequence[Checkpoint]) -> Content:
    return Content(
        name,
        key,
        sum(entry.stop - entry.start for entry in own),
        combined_crc32((entry.stop - entry.start, entry.crc32) for entry in own),
        sum(entry.rows + entry.rejected for entry in own),
    )


def _names(plan: UploadPlan, part: UploadPlan) -> tuple[str, str | None]:
    """What a source is called, and what identifies it."""
    if not plan.parts:
        return plan.source, plan.source_key
    made_of = plan.parts.made_of.get(part.number)
    path = str(part.path) if made_of is None else str(made_of["path"])
    return path, path


def _target(connection: Connection, plan: UploadPlan) -> Target | None:
    table = tables.find_table(connection, plan.target)
    if table is None:
        return None
    return Target(table.oid, table.kind, str(plan.target), plan.target.identifier)
