"""Local files that hold a table, and are no delimited text: Parquet, Excel, JSON lines."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from taskwidgets.errors import OptionError, SourceChanged
from taskwidgets.runtime.run import Run
from taskwidgets.tabular.container import HEAD_BYTES
from taskwidgets.tabular.limits import Limits
from taskwidgets.tabular.source import Fingerprint, check_readable, describe_change
from taskwidgets.transfers.digest import file_sha256
from taskwidgets.transfers.origins.excel import spool_excel
from taskwidgets.transfers.origins.extras import check_extra
from taskwidgets.transfers.origins.json_lines import spool_json_lines
from taskwidgets.transfers.origins.origin import Given, Origin
from taskwidgets.transfers.origins.parquet import spool_parquet
from taskwidgets.transfers.origins.spool import Contents, Spool, check_wish, new_spool

__all__ = [
    "EXCEL",
    "JSON_LINES",
    "PARQUET",
    "TABULAR",
    "check_sheet",
    "given_table",
    "is_same_file",
    "refuse_change",
    "spool_file",
    "table_kind",
]

PARQUET, EXCEL, JSON_LINES = "parquet", "excel", "json lines"
TABULAR = frozenset({PARQUET, EXCEL, JSON_LINES})
WORDS = {
    PARQUET: "is a Parquet file",
    EXCEL: "is an Excel workbook",
    JSON_LINES: "is a file of JSON lines",
}
PACKAGES = {PARQUET: "pyarrow", EXCEL: "openpyxl"}
BLOCK_BYTES = 1 << 20
PACKED = (".gz", ".zst", ".bz2", ".xz", ".zip")


def table_kind(path: Path, name: str = "") -> str | None:
    """What a file is, by its content; JSON lines by the name's ending. None: delimited text."""
    name = (name or path.name).lower()
    for ending in PACKED:
        name = name.removesuffix(ending)
    if name.endswith((".jsonl", ".ndjson")):
        return JSON_LINES
    try:
        if not path.is_file():
            return None  # a pipe would keep whoever opens it
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError:
        return None  # whoever reads it next says why
    if head.startswith(b"PAR1"):
        return PARQUET
    if head.startswith(b"PK\x03\x04") and (b"[Content_Types].xml" in head or b"xl/" in head):
        return EXCEL
    return None


def given_table(path: Path, kind: str, sheet: str | int | None) -> Given:
    """Such a file as a call's source; SourceError where a package for it is missing."""
    path = check_readable(path)
    check_sheet(sheet, kind, str(path))
    if kind in PACKAGES:
        check_extra(PACKAGES[kind], f"{path} {WORDS[kind]}")
    name = str(path) + ("" if sheet is None else f", sheet {sheet}")
    return Given(
        identity=str(path),
        origin=Origin(kind, name, new_spool(), facts={"name": path.name, "path": str(path)}),
        short=path.name,
    )


def check_sheet(sheet: str | int | None, kind: str | None, name: str) -> None:
    """OptionError where a sheet is named that cannot be one."""
    if sheet is None:
        return
    if kind != EXCEL:
        raise OptionError(f"sheet goes with an Excel workbook, and {name} is none")
    if isinstance(sheet, bool) or not isinstance(sheet, str | int) or sheet in (0, ""):
        raise OptionError(f"sheet must be a name, or a number from 1 on, not {sheet!r}")


def spool_file(
    run: Run,
    spool: Spool,
    path: Path,
    kind: str,
    sheet: str | int | None,
    header: bool | int | None,
    limits: Limits,
) -> Contents:
    """Write the file's table into the spool.

    Raises SourceChanged where it changes meanwhile, SourceError where it exceeds a limit.
    """
    before = Fingerprint.of(path)
    ways: dict[str, Callable[[], Contents]] = {
        PARQUET: lambda: spool_parquet(run, spool, path, limits),
        EXCEL: lambda: spool_excel(
            run, spool, path, sheet, header=header is not False, limits=limits
        ),
        JSON_LINES: lambda: spool_json_lines(run, spool, path, limits),
    }
    contents = ways[kind]()
    change = describe_change(before, Fingerprint.of(path))
    if change is not None:
        raise SourceChanged(f"{path} was changed while it was read: it is {change}", path=path)
    facts = {
        **contents.facts,
        "bytes": before.size,
        "sha256": _sha256(run, path),
        "fingerprint": before.to_json(),
    }
    return replace(contents, facts=facts)


def _sha256(run: Run, path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while block := file.read(BLOCK_BYTES):
            check_wish(run)
            digest.update(block)
    return digest.hexdigest()


def is_same_file(path: Path, facts: Mapping[str, Any]) -> bool:
    """Whether the file still is what a table was made of; written anew with the same bytes, too."""
    then = Fingerprint.from_json(facts["fingerprint"])
    now = Fingerprint.of(path)
    return now == then or (now.size == then.size and file_sha256(path) == facts["sha256"])


def refuse_change(path: Path, facts: Mapping[str, Any]) -> None:
    """SourceError where the file is another one than the table was made of."""
    if not is_same_file(path, facts):
        change = describe_change(
            Fingerprint.from_json(facts["fingerprint"]),
            Fingerprint.of(path),
        )
        raise SourceChanged(
            f"{path} is not the file any more that this job began with: it is {change}. "
            "Put the old file back and resume, or start over with again=True",
            path=path,
        )
