"""Several files as one source: a list of paths, or a pattern such as ``data/2024-*.csv``."""

from __future__ import annotations

import glob
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

from taskwidgets.errors import OptionError, SourceError
from taskwidgets.tabular.source import check_readable
from taskwidgets.transfers.origins.origin import FILES, Given, Origin
from taskwidgets.transfers.origins.spool import new_spool

__all__ = ["given_files", "is_pattern", "matching", "part_names"]


def is_pattern(source: str | Path) -> bool:
    """Whether it stands for several files: it has ``*``, ``?`` or ``[``, and is no file itself."""
    return glob.has_magic(str(source)) and not Path(source).expanduser().exists()


def matching(pattern: str) -> list[Path]:
    """The files that match now, in the order in which a person would sort them: 2 before 10."""
    found = (Path(name) for name in glob.glob(pattern, recursive=True))  # noqa: PTH207 - absolute
    return sorted((path for path in found if path.is_file()), key=_natural)


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
        paths = [check_readable(path) for path in source]
        twice = sorted({path.name for path in paths if paths.count(path) > 1})
        if twice:
            raise OptionError(f"source names the same file twice: {', '.join(twice)}")
        name = str(paths[0]) + (f" and {len(paths) - 1:,} more" if paths[1:] else "")
        identity, facts = json.dumps([str(path) for path in paths]), {}
        short = paths[0].name
    for path in paths:
        try:
            str(path).encode()
        except UnicodeEncodeError:
            raise SourceError(
                f"the name of {str(path)!r} is not UTF-8, so no database can remember it; "
                "rename the file"
            ) from None
    return Given(
        identity=identity,
        origin=Origin(
            kind=FILES,
            name=name,
            spool=new_spool(),
            facts={**facts, "paths": [str(path) for path in paths]},
        ),
        short=f"{short} ({_count(paths)})",
    )


def part_names(paths: Sequence[Path]) -> list[str]:
    """What tells each file apart: its path from the folder that all of them are in."""
    folder = os.path.commonpath([path.parent for path in paths])
    return [path.relative_to(folder).as_posix() for path in paths]


def _count(paths: Sequence[Path]) -> str:
    return f"{len(paths):,} {'file' if len(paths) == 1 else 'files'}"


def _natural(path: Path) -> list[tuple[int, int, str]]:
    """Numbers by their value, all else by its letters."""
    parts = re.split(r"(\d+)", str(path))
    return [(1, int(part), "") if part.isdecimal() else (0, 0, part) for part in parts]
