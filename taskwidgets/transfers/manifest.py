"""The manifest of a folder of part files: what is in it; without it, the folder is not whole."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from taskwidgets.errors import TargetError
from taskwidgets.transfers.download_plan import DownloadPlan
from taskwidgets.transfers.part_formats import PARQUET

__all__ = ["MANIFEST", "Part", "check_ours", "listed", "manifest"]

MANIFEST = "_manifest.json"
MADE_BY = "taskwidgets"
VERSION = 1
LONGEST_MANIFEST = 1 << 28  # bytes; a million parts have less


@dataclass(frozen=True)
class Part:
    """A part file, by its final name; ``crc32`` and ``sha256`` are those of its bytes."""

    name: str
    rows: int
    bytes: int
    crc32: str
    sha256: str


def manifest(job_id: int, plan: DownloadPlan, parts: Sequence[Part]) -> bytes:
    """The manifest's bytes: always the same ones of the same export."""
    options = plan.options
    told: dict[str, Any] = {
        "made_by": MADE_BY,
        "version": VERSION,
        "job": job_id,
        "source": options.source,
        "format": options.format,
    }
    if options.format != PARQUET:
        told["csv"] = {
            name: getattr(options, name)
            for name in ("delimiter", "null_value", "header", "quote_all", "escape_formulas")
        }
    told |= {
        "columns": [
            {"name": name, "type": kind}
            for name, kind in zip(plan.columns, plan.type_names, strict=True)
        ],
        "rows": sum(part.rows for part in parts),
        "bytes": sum(part.bytes for part in parts),
        "parts": [asdict(part) for part in parts],
    }
    return json.dumps(told, indent=1, ensure_ascii=False).encode() + b"\n"


def listed(data: bytes) -> dict[str, int] | None:
    """The parts that a manifest names, with their bytes; None when it is none of ours."""
    try:
        told = json.loads(data)
        if told["made_by"] != MADE_BY:
            return None
        return {str(part["name"]): int(part["bytes"]) for part in told["parts"]}
    except (ValueError, LookupError, TypeError):
        return None


def check_ours(shown: str, names: Collection[str], data: bytes | None) -> None:
    """TargetError unless a folder with these names is an export that may be replaced.

    ``data``: of its manifest, None when there is none.
    """
    known = None if data is None else listed(data)
    if known is None:
        raise TargetError(
            f"{shown} has no {MANIFEST} of an earlier export, so it may hold anything: it is not "
            "replaced; choose another folder"
        )
    foreign = sorted(set(names) - set(known) - {MANIFEST})
    if foreign:
        raise TargetError(
            f"{shown} holds {foreign[0]!r}, which its {MANIFEST} does not name: it is not "
            "replaced; move that away, or choose another folder"
        )
