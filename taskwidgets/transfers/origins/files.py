"""Several files as one source: a list of paths, or a pattern such as ``data/2024-*.csv``."""

from __future__ import annotations

import glob
import json
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from taskwidgets.errors import OptionError, SourceError
from taskwidgets.tabular.source import check_readable
from taskwidgets.transfers.origins.origin import FILES, Given, Origin
from taskwidgets.transfers.origins.spool import new_spool
from taskwidgets.transfers.part_list import pack_texts, unpack_texts

__all__ = ["given_files", "is_pattern", "matching", "part_names", "paths_of"]

FEW = 1000  # paths that are stored as a list


def is_pattern(source: str | Path) -> bool:
    """Whether it stands for several files: it has ``*``, ``?`` or ``[``, and is no file itself."""
    return glob.has_magic(str(source)) and not Path(source).expanduser().exists()


def matching(pattern: str) -> list[str]:
    """The files that match now, in the order in which a person would sort them: 2 before 10."""
    # Texts, as a path takes ten times as much memory.
    found = glob.iglob(pattern, recursive=True)  # noqa: PTH207 - absolute
    return sorted(filter(os.path.isfile, found), key=_natural)


def paths_of(facts: Mapping[str, Any]) -> list[str]:
    """The files of an origin, by its facts."""
    if "packed_paths" in facts:
        return unpack_texts(facts["packed_paths"])
    return [str(path) for path in facts["paths"]]


def given_files(source: str | Path | Sequence[str | Path]) -> Given:
    """The files as a call's source. Raises SourceError where there are none, or one is missing."""
    if isinstance(source, str | Path):
        pattern = os.path.abspath(Path(source).expanduser())  # noqa: PTH100 - it is no path
        paths = matching(pattern)
        if not paths:
            raise SourceError(f"no file matches {pattern}")
        name, identity = f"{pattern} ({_count(paths)})", pattern
        facts: dict[str, object] = {"pattern": pattern}
        short = Path(pattern).name
    else:
        if not source:
            raise OptionError("source is an empty list: there is no file to load")
        paths = [str(check_readable(path)) for path in source]
        counts = Counter(paths)
        twice = sorted({Path(path).name for path, count in counts.items() if count > 1})
        if twice:
            raise OptionError(f"source names the same file twice: {', '.join(twice)}")
        name = paths[0] + (f" and {len(paths) - 1:,} more" if paths[1:] else "")
        identity, facts = json.dumps(paths), {}
        short = Path(paths[0]).name
    for path in paths:
        try:
            path.encode()
        except UnicodeEncodeError:
            raise SourceError(
                f"the name of {path!r} is not UTF-8, so no database can remember it; "
                "rename the file"
            ) from None
    return Given(
        identity=identity,
        origin=Origin(
            kind=FILES,
            name=name,
            spool=new_spool(),
            facts={
                **facts,
                **({"paths": paths} if len(paths) <= FEW else {"packed_paths": pack_texts(paths)}),
            },
        ),
        short=f"{short} ({_count(paths)})",
    )


def part_names(paths: Sequence[str]) -> list[str]:
    """What tells each file apart: its path from the folder that all of them are in."""
    folder = os.path.commonpath({os.path.dirname(path) for path in paths})  # noqa: PTH120 - texts
    return [path[len(folder) :].lstrip("/") for path in paths]


def _count(paths: Sequence[str]) -> str:
    return f"{len(paths):,} {'file' if len(paths) == 1 else 'files'}"


def _natural(path: str) -> str:
    """Numbers by their value, all else by its letters: a longer number is the larger one."""
    parts = re.split(r"(\d+)", path)
    for place in range(1, len(parts), 2):
        digits = str(int(parts[place]))
        parts[place] = f"{chr(len(digits))}{digits}"
    return "\0".join(parts)  # a text ends before any letter
