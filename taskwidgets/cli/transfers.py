"""``taskwidgets upload``, ``download`` and ``preview``: files in and out."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taskwidgets.cli.exits import Exit
from taskwidgets.cli.foreground import in_foreground
from taskwidgets.cli.output import guarded, print_json, say
from taskwidgets.cli.parameters import AsJson, DatabaseUrl, JsonLines, takes
from taskwidgets.options import DOWNLOAD, PREVIEW, UPLOAD, arguments

if TYPE_CHECKING:
    from taskwidgets.previews import Preview

__all__ = ["download", "preview", "upload"]


@guarded
@takes(UPLOAD)
def upload(
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="The file, a pattern in quotes ('data/*.csv'), or a URL.",
            show_default=False,
        ),
    ],
    table: Annotated[
        str,
        typer.Argument(
            metavar="TABLE", help="table, schema.table, or quoted as in SQL.", show_default=False
        ),
    ],
    given: Mapping[str, Any],
    database: DatabaseUrl = None,
    as_json: AsJson = False,
    json_lines: JsonLines = False,
) -> Exit:
    """Load a file into a table.

    What is not said of how the file is written is found out. Ctrl-C pauses the job, and the same
    command, or `taskwidgets resume`, goes on with it. The same command once more, when all is
    loaded, does nothing.
    """
    chosen: Any = arguments(UPLOAD, given)
    return in_foreground(
        database,
        lambda workspace: workspace.upload(source, table, **chosen),
        as_json=as_json,
        json_lines=json_lines,
    )


@guarded
@takes(DOWNLOAD)
def download(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A table, a view, or a SELECT; - reads a SELECT from standard input.",
            show_default=False,
        ),
    ],
    path: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="The file; .gz and .zst are compressed. One that ends in / is a folder, also "
            "at a URL.",
            show_default=False,
        ),
    ],
    given: Mapping[str, Any],
    database: DatabaseUrl = None,
    as_json: AsJson = False,
    json_lines: JsonLines = False,
) -> Exit:
    """Export a table or a query into a CSV file, or a folder of files.

    The file, or the folder, gets its name when it is whole. Ctrl-C pauses the job, and the same
    command, or `taskwidgets resume`, goes on with it.
    """
    chosen: Any = arguments(DOWNLOAD, given)
    wanted = sys.stdin.read() if source == "-" else source
    return in_foreground(
        database,
        lambda workspace: workspace.download(wanted, path, **chosen),
        as_json=as_json,
        json_lines=json_lines,
    )


@guarded
@takes(PREVIEW)
def preview(
    source: Annotated[str, typer.Argument(metavar="FILE", help="The file.", show_default=False)],
    given: Mapping[str, Any],
    as_json: AsJson = False,
) -> Exit:
    """Show how a file is written, and its first rows.

    Loads nothing, and needs no database.
    """
    from taskwidgets.previews import preview as look

    chosen: Any = arguments(PREVIEW, given)
    found = look(source, **chosen)
    if as_json:
        print_json(_document(found))
    else:
        say(repr(found))
    return Exit.DONE


def _document(found: Preview) -> dict[str, Any]:
    return {
        "path": str(found.path),
        "columns": [{"name": name, "type": found.types.get(name)} for name in found.columns],
        "rows": found.rows,
        "total": found.total,
        "decisions": {
            name: {"value": one.value, "sure": one.sure, "why": one.why}
            for name, one in found.findings.items()
        },
        "preamble": list(found.preamble),
        "ragged": found.ragged,
        "tables": [
            {"first_line": one.first_line, "last_line": one.last_line, "columns": one.columns}
            for one in found.tables
        ],
    }
