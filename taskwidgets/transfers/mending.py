"""Whether the file still is the one that the job began with, and what may have changed in it.

A paused or interrupted job goes on only with the same file. A file that was merely written anew, as
by a cell that makes it, is the same one: as long, alike in every sampled block, and alike in each
byte that is loaded, by the CRC-32 of its checkpoint.

A job that failed at a row is different: its file is meant to be mended. There, what is loaded
already must still stand in the file, byte for byte, at its place or shifted by what the mending
added or took.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from zlib_ng import zlib_ng

from taskwidgets.errors import SourceChanged
from taskwidgets.runtime.run import Run
from taskwidgets.runtime.states import State
from taskwidgets.store import checkpoints
from taskwidgets.store.checkpoints import Checkpoint
from taskwidgets.store.jobs import PostgresJobStore
from taskwidgets.tabular.description import Description
from taskwidgets.tabular.header import read_layout
from taskwidgets.tabular.identifiers import snake_names
from taskwidgets.tabular.lenient import read_lenient_layout
from taskwidgets.tabular.lines import line_at
from taskwidgets.tabular.source import Fingerprint, check_readable, describe_change
from taskwidgets.tabular.stream import Stream, open_stream
from taskwidgets.transfers.digest import joined_sha256
from taskwidgets.transfers.upload_plan import PART_BYTES, UploadPlan

__all__ = ["check_parts", "check_source", "check_unchanged", "of_part", "parts_of", "with_parts"]

BLOCK = 1 << 20  # bytes


def check_source(store: PostgresJobStore, run: Run, plan: UploadPlan) -> UploadPlan:
    """The plan to go on with: the same one, or one for the mended file.

    Raises SourceChanged, saying what changed, when the loaded part and the file do not go together.
    """
    change = _change(plan)
    if change is None:
        return plan
    with store.in_transaction() as connection:
        ledger = checkpoints.committed(connection, run.job_id)
    settled, shifted_from = _settled(run, plan, change, ledger)
    with store.in_transaction() as connection:
        store.change_plan(connection, run.claim, settled.to_json())
        if shifted_from is not None:
            checkpoints.shift(connection, run.job_id, shifted_from, settled.size - plan.size)
    run.note("source", f"the file was written anew: it is {change}")
    return settled


def check_parts(store: PostgresJobStore, run: Run, plan: UploadPlan) -> UploadPlan:
    """As `check_source`, for a plan of several files."""
    changes = {}
    for number, path in enumerate(plan.parts.paths):
        if not _has_facts(plan, number, path):
            change = _change(plan.of_part(number))
            if change is not None:
                changes[number] = change
    if not changes:
        return plan
    with store.in_transaction() as connection:
        ledger = checkpoints.committed(connection, run.job_id)
    parts, shifts = {}, []
    for number, change in changes.items():
        part = plan.of_part(number)
        base, end = part.base, part.base + PART_BYTES
        settled, shifted_from = _settled(run, part, change, of_part(ledger, part))
        parts[number] = replace(
            plan.parts[number], fingerprint=settled.fingerprint, data_stop=settled.data_stop
        )
        if shifted_from is not None:
            shifts.append((base + shifted_from, settled.size - part.size, end))
    together = plan.with_parts(plan.parts.replaced(parts))
    with store.in_transaction() as connection:
        store.change_plan(connection, run.claim, together.to_json())
        for start, by, end in shifts:
            checkpoints.shift(connection, run.job_id, start, by, end)
    for number, change in changes.items():
        run.note("source", f"{plan.parts.name(number)} was written anew: it is {change}")
    return together


def check_unchanged(store: PostgresJobStore, run: Run, plan: UploadPlan, sha256: str) -> None:
    """SourceChanged unless the source still has the bytes that were loaded.

    ``sha256`` is that of the bytes as the digest read them. Where no size and no time of
    modification is another, but an inode was changed, everything is read once more: it must have
    this hash, and each checkpoint's bytes their CRC-32, as the digest may have read a part later
    than the rows were loaded from it.
    """
    touched: UploadPlan | None = None
    for part in _maybe_changed(plan):
        facts = check_readable(part.path).stat()
        then = part.fingerprint
        if (facts.st_size, facts.st_mtime_ns) != (then.size, then.mtime_ns):
            raise _changed_while_loaded(part)
        if then.is_touched(facts):
            touched = part
    if touched is None:
        return
    with store.in_transaction() as connection:
        ledger = checkpoints.committed(connection, run.job_id)
    for part, entries in with_parts(plan, ledger):
        if not _has_loaded(part, entries):
            raise _changed_while_loaded(part)
    if joined_sha256([(part.path, part.size) for part in parts_of(plan)]) != sha256:
        raise _changed_while_loaded(touched)


def parts_of(plan: UploadPlan) -> Iterator[UploadPlan]:
    """The plan of each file."""
    if not plan.parts:
        yield plan
    for number in range(len(plan.parts)):
        yield plan.of_part(number)


def with_parts(
    plan: UploadPlan, ledger: Sequence[Checkpoint]
) -> Iterator[tuple[UploadPlan, list[Checkpoint]]]:
    """The plan of each file, and its checkpoints with positions in that file."""
    if not plan.parts:
        yield plan, list(ledger)
        return
    ordered = sorted(ledger, key=_start)
    at = 0
    for part in parts_of(plan):
        begun = at
        while at < len(ordered) and ordered[at].start < part.base + PART_BYTES:
            at += 1
        yield part, of_part(ordered[begun:at], part)


def _start(entry: Checkpoint) -> int:
    return entry.start


def _maybe_changed(plan: UploadPlan) -> Iterator[UploadPlan]:
    """The plan of each file that does not have the very size, times and inode that it had."""
    if not plan.parts:
        yield plan
        return
    for number, path in enumerate(plan.parts.paths):
        if not _has_facts(plan, number, path):
            yield plan.of_part(number)


def _has_facts(plan: UploadPlan, number: int, path: str) -> bool:
    """Whether one of several files has the size, times and inode that it had.

    Programs cannot set the time of an inode's last change: it then has the same bytes, too.
    """
    try:
        facts = os.stat(path)  # noqa: PTH116 - of a text: there are many
    except OSError:
        return False  # whoever looks closer says why
    return plan.parts.has_facts(
        number, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino
    )


def of_part(ledger: Sequence[Checkpoint], part: UploadPlan) -> list[Checkpoint]:
    """The checkpoints of one of several files, with positions in that file."""
    return [
        replace(entry, start=entry.start - part.base, stop=entry.stop - part.base)
        for entry in ledger
        if part.base <= entry.start < part.base + PART_BYTES
    ]


def _changed_while_loaded(plan: UploadPlan) -> SourceChanged:
    return SourceChanged(
        f"{plan.path} was changed while it was loaded; nothing of it was put into "
        f'"{plan.target}". Start over with again=True when the file is complete',
        path=plan.path,
    )


def _change(plan: UploadPlan) -> str | None:
    return describe_change(plan.fingerprint, Fingerprint.of(check_readable(plan.path)))


def _settled(
    run: Run, plan: UploadPlan, change: str, ledger: list[Checkpoint]
) -> tuple[UploadPlan, int | None]:
    """The plan for the changed file; and from where on what is loaded stands elsewhere in it."""
    path = plan.path
    now = Fingerprint.of(path)
    if run.claim.rested_in is not State.FAILED and not _written_anew(plan, now, ledger):
        raise SourceChanged(
            f"{path} is not the file any more that this job began with: it is {change}. "
            "What is loaded and what is left would not go together; put the old file back and "
            "resume, or start over with again=True",
            path=path,
        )
    if _beginning(path, plan) != (plan.columns, plan.data_start):
        raise SourceChanged(
            f"{path} was mended in its header too; start over with again=True", path=path, line=1
        )
    by = now.size - plan.size
    shifted_from = _find(plan, ledger, by)
    return plan.with_source(now), shifted_from if by else None


def _beginning(path: Path, plan: UploadPlan) -> tuple[tuple[str, ...], int]:
    """The columns, and where the data begin, in the file as it is now."""
    snake = plan.names == "snake"
    if plan.description is None:
        strict = read_layout(path, plan.dialect, any_names=snake)
        return snake_names(strict.columns) if snake else strict.columns, strict.data_start
    with open_stream(path, replace(plan.description, columns=())) as stream:
        lenient = read_lenient_layout(stream, replace(plan.description, columns=()))
    return snake_names(lenient.header) if snake else lenient.columns, lenient.data_start


def _written_anew(plan: UploadPlan, now: Fingerprint, ledger: list[Checkpoint]) -> bool:
    """Whether only the time of modification is another, as far as anything loaded depends on it."""
    then = plan.fingerprint
    is_alike = now.size == then.size and now.has_sample_of(then)
    return is_alike and _has_loaded(plan, ledger)


def _has_loaded(plan: UploadPlan, ledger: list[Checkpoint]) -> bool:
    """Whether the file has, at their places, the bytes that each checkpoint speaks of."""
    with _opened(plan) as stream:
        return all(
            _crc32(stream, entry.start, entry.stop - entry.start) == entry.crc32 for entry in ledger
        )


def _opened(plan: UploadPlan) -> Stream:
    """The file, with positions as the checkpoints have them: unpacked, if it is packed."""
    return open_stream(plan.path, plan.description or Description(), plan.limits)


def _find(plan: UploadPlan, ledger: list[Checkpoint], by: int) -> int | None:
    """From which of its old bytes on the loaded part stands ``by`` bytes further; None: nowhere."""
    shifted_from: int | None = None
    path = plan.path
    with _opened(plan) as file:
        for entry in ledger:
            length = entry.stop - entry.start
            if shifted_from is None and _crc32(file, entry.start, length) == entry.crc32:
                continue
            if by and _crc32(file, entry.start + by, length) == entry.crc32:
                if shifted_from is None:
                    shifted_from = entry.start
                continue
            raise SourceChanged(
                f"{path} was changed in a part that is loaded already, bytes {entry.start:,} to "
                f"{entry.stop:,} (from line {line_at(path, entry.start):,} on). Only what is not "
                "loaded yet may be mended; start over with again=True",
                path=path,
            )
    return shifted_from


def _crc32(stream: Stream, start: int, length: int) -> int | None:
    if start < 0:
        return None
    crc, end = 0, start + length
    for position in range(start, end, BLOCK):
        wanted = min(BLOCK, end - position)
        block = stream.read_at(position, wanted)
        if len(block) < wanted:
            return None
        crc = zlib_ng.crc32(block, crc)
    return crc
