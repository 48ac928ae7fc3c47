"""The current workspace of this process, and the functions that users call on it."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Literal

from sqlalchemy.engine import URL, Connection, Engine

from taskwidgets.dashboard import Dashboard
from taskwidgets.forms import DownloadForm, UploadForm, or_form
from taskwidgets.handover import Where, starter
from taskwidgets.runtime.job import Job
from taskwidgets.runtime.store import JobSpec
from taskwidgets.transfers.origins.given import Source
from taskwidgets.workspace import Workspace

__all__ = ["call", "connect", "connected", "download", "jobs", "resume", "upload"]

_current: Workspace | None = None
_current_lock = threading.Lock()


def connect(
    url: str | URL | Engine | Connection | None = None,
    *,
    metadata: str | URL | Engine | Connection | None = None,
    max_connections: int | None = None,
) -> Workspace:
    """Connect to a Postgres database and make it the current workspace.

    ``url``: the argument, else ``$TASKWIDGETS_DATABASE_URL``, else the Postgres that comes with
    the package, started or joined in the user's data directory (``TASKWIDGETS_HOME`` moves it).
    The schema ``taskwidgets`` is created or upgraded there. A pooler in transaction mode before the
    server is noticed; ``?pgbouncer=true`` or ``?pgbouncer=false`` in the URL says it by hand.

    A SQLAlchemy engine or connection stands for its URL, password included, whatever its driver:
    a notebook that queries a database by JupySQL goes on with the same one. Connections of its own
    are made there, and the engine is left alone. An engine whose login changes (``creator=``, the
    event ``do_connect``, a function as asyncpg's password) is asked again for each new connection.

    ``metadata``: another database, in which the jobs are kept, for a database that cannot be
    written to: a read-only standby, or one where the role may only read. It is a URL or an engine,
    or ``"embedded"`` for the Postgres that comes with the package; with ``url`` left out, it is
    ``$TASKWIDGETS_METADATA_URL``. Then ``url`` is the source of downloads, and nothing is written
    there; uploads raise OptionError, as rows and checkpoints commit together. Functions of
    ``taskwidgets.job`` have their state and ``run.transaction()`` in the metadata's database.

    ``max_connections``: how many connections this process may have to it at the same time, by
    default 24; two of them keep and hear, six serve short statements, and the others are shared
    out among the jobs, which wait for each other.

    Raises ServerUnreachable, LoginRefused, RightsMissing, SchemaTooNew, EmbeddedServerError, or
    OptionError for what is not Postgres; the password is in none of them.
    """
    global _current
    with _current_lock:
        made = Workspace(url, metadata=metadata, max_connections=max_connections)
        if _current is not None and not _current.is_closed and _current.is_on_database_of(made):
            made.close()
            if max_connections is not None:
                _current.limit_connections(max_connections)
            return _current  # its jobs go on, and a second keeper would be one too many
        _current = made
        return made


def connected() -> Workspace | None:
    """The current workspace; None before the first call that connects."""
    return None if _current is None or _current.forked or _current.is_closed else _current


def _workspace(workspace: Workspace | None) -> Workspace:
    if workspace is not None:
        return workspace
    return connected() or connect()


@or_form(lambda workspace: UploadForm(_workspace(workspace)))
def upload(
    source: Source,
    table: str,
    *,
    if_exists: Literal["fail", "replace", "append"] = "fail",
    on_error: Literal["stop", "reject"] = "stop",
    max_rejects: float | None = None,
    cast: Literal["exact", "assignment"] = "exact",
    types: Mapping[str, str] | Literal["text"] | None = None,
    delimiter: str | None = None,
    quotechar: str | None = None,
    encoding: str | None = None,
    header: bool | int | None = None,
    null_values: str | Sequence[str] | None = None,
    names: Literal["snake"] | None = None,
    source_column: bool | str = False,
    sheet: str | int | None = None,
    storage_options: Mapping[str, object] | None = None,
    max_unpacked: int | str | None = None,
    max_row: int | str | None = None,
    workers: int | None = None,
    max_rate: float | None = None,
    client: object = None,
    again: bool = False,
    where: Where = "kernel",
    workspace: Workspace | None = None,
    **reading: object,
) -> Job:
    """Load a CSV file, or another source, into a table; starts at once and returns the Job.

    With no arguments, a notebook shows a form that asks for everything.

    ``source``: the file's path; or

    - several files of the same columns, in any order of them: a list of paths, or a pattern such as
      ``"2024-*.csv"``. Each is found out by itself, and errors, rejects and notes name the file.
    - a Parquet file, an Excel workbook (``sheet``: its name, or its number from 1 on; by default
      the first), or JSON lines (``.jsonl``, ``.ndjson``). Types are the file's own.
    - a pandas DataFrame: types are those of its dtypes, missing values are NULL, the index is not
      loaded. It is loaded as it is at the call, which reads all of it once to know it again.
    - a URL that fsspec reads (``https``, ``s3``, ``gs``, ``az`` ...), with ``storage_options`` as
      fsspec has them. Secrets among them, and in the URL, are kept nowhere: to resume such a job
      in another process, call it again.

    All but delimited files on the disk are first written into the user's data directory, by the job
    itself, which may be paused meanwhile; what was written goes with the job.

    ``source_column``: a column that says which file each row is from; True: ``"_source"``.
    ``table``: ``"flights"``, ``"schema.table"``, or quoted as in SQL,
    case kept. ``if_exists``: what to do with an existing table, as in pandas.DataFrame.to_sql.
    ``types``: ``{"column": "postgres type"}``, the rest is inferred from a sample of the whole
    file, and widened where a later value does not fit, which the events and the receipt's notes
    say; ``"text"``: every column as it is written. ``delimiter``, ``quotechar``, ``encoding``,
    ``header`` (or how many rows of it), ``null_values`` and ``reading`` (``escapechar``,
    ``skip_rows``, ``footer_rows``, ``decimal``, ``thousands``, ``date_formats``, ``booleans``,
    ``skip_initial_space``, ``line_terminator``): how the file is written; what is not given is
    found out. ``names="snake"``: columns get lower case names that need no quotes in SQL, each
    another; the receipt says which, and ``types`` may have the new name or the file's.
    ``on_error``: ``"stop"`` ends the load at the first row that cannot be loaded, and
    takes a plain file at its word, as RFC 4180 has it; ``"reject"`` finds out everything, mends
    what a careful person would mend, keeps the other bad rows for ``job.rejects()``, at most
    ``max_rejects`` of them (a number, or a fraction of all rows), and loads the rest.
    ``cast``: a value that a column's type would change does not fit (``1.999`` into
    ``numeric(10,2)``, a time into ``date``, a zone into ``timestamp``); ``"assignment"`` has
    Postgres round and cut it, as INSERT does.
    ``max_row``: bytes that a row may have as it is written in the file, by default 16 MiB;
    ``max_unpacked``: bytes that a packed file, an Excel workbook or a Parquet file may become, by
    default 4 GiB, or 100 times the file's size where that is more. Both are a number, or a text
    such as ``"64 MB"``, and stop the job where a row, or a file, is larger: such ones are mostly
    damaged, and a small file could fill memory and disk. The error names the file, the row and the
    option.
    ``workers``: connections that COPY at once, by default as many as the machine has cores, 4 at
    most. ``max_rate``: bytes per second, for a database that others use; ``job.max_rate`` changes
    it while the job runs. ``client``: a ``distributed.Client`` or the address of a Dask scheduler,
    whose workers then load the segments (the extra ``taskwidgets[dask]``); it is no part of what
    tells jobs apart, and a job goes on with it or without. ``where="server"`` hands the job to the
    Jupyter server that started this kernel: it goes on there while the kernel is restarted or shut
    down, and is seen and controlled from here. The file must lie below the server's root;
    NotebookServerError otherwise tells why it cannot be.

    The same call again attaches to the job that runs, in whatever process, resumes the one that was
    paused, interrupted or failed, and returns the finished one when neither file nor table has
    changed since. ``again=True`` starts over.

    Until all rows are in, they are in a table of their own that nobody reads; one transaction at
    the end makes it the target, or appends its rows. Raises, before anything is created:
    SourceError, TargetExists, TargetMismatch, RightsMissing, OptionError, JobOwned.
    """
    return starter(_workspace(workspace), where).upload(
        source, table, if_exists=if_exists, on_error=on_error, types=types, delimiter=delimiter,
        quotechar=quotechar, encoding=encoding, header=header, null_values=null_values,
        names=names, source_column=source_column, sheet=sheet, storage_options=storage_options,
        max_unpacked=max_unpacked, max_row=max_row,
        workers=workers, max_rate=max_rate, client=client, again=again, max_rejects=max_rejects,
        cast=cast, **reading,
    )  # fmt: skip


@or_form(lambda workspace: DownloadForm(_workspace(workspace)))
def download(
    source: str,
    path: str | Path,
    *,
    if_exists: Literal["fail", "replace"] = "fail",
    delimiter: str = ",",
    null_value: str = "",
    header: bool = True,
    quote_all: bool = False,
    escape_formulas: bool = False,
    format: Literal["csv", "csv.gz", "csv.zst", "parquet"] | None = None,
    storage_options: Mapping[str, object] | None = None,
    workers: int | None = None,
    max_rate: float | None = None,
    client: object = None,
    again: bool = False,
    where: Where = "kernel",
    workspace: Workspace | None = None,
) -> Job:
    """Export a table or a query into a CSV file, or a folder of files; starts at once.

    Returns the Job. With no arguments, a notebook shows a form that asks for everything.

    ``source``: the name of a table or view (``"flights"``, ``"schema.table"``, quoted as in SQL),
    or a SELECT, WITH, VALUES or TABLE query, which is run in a read-only transaction. ``path``: the
    file; by its ending, ``.gz`` and ``.zst`` are compressed. ``if_exists="replace"`` keeps an older
    file until the new one is whole. ``delimiter``, ``null_value``, ``header``, ``quote_all``: as
    Postgres' COPY has them. ``escape_formulas``: text that begins with =, +, - or @ gets an
    apostrophe in front, for those who open the file in a spreadsheet. ``workers``, ``max_rate``
    (bytes per second), ``again`` and ``where``: as for ``upload``.

    The file has the very bytes of ``COPY (SELECT * FROM table) TO STDOUT WITH (FORMAT csv,
    HEADER)`` in one snapshot.

    A ``path`` that ends in ``/`` is a folder of part files, each with a range of the table's rows,
    all of one snapshot, and ``_manifest.json``, which says what is in them; ``format`` is theirs:
    ``"csv"``, ``"csv.gz"``, ``"csv.zst"`` or ``"parquet"``, whose columns have the table's types.
    Such a folder may also be at a URL that fsspec writes to (``s3``, ``gs``, ``az`` ...), with
    ``storage_options`` as fsspec has them, which are kept nowhere. The folder gets its name when it
    is whole; at a URL, its manifest is written last. ``if_exists="replace"`` replaces a folder with
    such a manifest, and no other. The receipt's ``sha256`` is that of the manifest, ``bytes`` those
    of all parts. With ``client``, as for ``upload``, the workers of a Dask cluster write the parts,
    in a folder that all of them see.

    Raises, before anything is created: SourceError, TargetExists,
    TargetError, RightsMissing, OptionError, JobOwned.
    """
    return starter(_workspace(workspace), where).download(
        source, path, if_exists=if_exists, delimiter=delimiter, null_value=null_value,
        header=header, quote_all=quote_all, escape_formulas=escape_formulas, format=format,
        storage_options=storage_options, workers=workers, max_rate=max_rate, client=client,
        again=again,
    )  # fmt: skip


def call(spec: JobSpec, *, again: bool = False, workspace: Workspace | None = None) -> Job:
    """Begin the job of a decorated function's call; for ``taskwidgets.job``."""
    return _workspace(workspace).call(spec, again=again)


def resume(
    job_id: int,
    *,
    take_over: bool = False,
    workers: int | None = None,
    max_rate: float | None = None,
    client: object = None,
    where: Where = "kernel",
    workspace: Workspace | None = None,
) -> Job:
    """Go on with a job from its last checkpoint, in this process; returns the Job.

    ``where="server"``: in the Jupyter server that started this kernel, as for ``upload``.

    Where its termination was cut off, that is what goes on: nothing else can come of the job then.

    ``take_over=True``: also when another process has it, such as a kernel that hangs: that one is
    fenced, whatever it does later is not written. Also when another role of the database made it:
    it then runs with the rights of this role, and is this role's from then on. Raises JobNotFound,
    JobOwned (naming who runs it), JobOfOtherRole (showing what would run), or IllegalTransition
    when it is completed or terminated.
    """
    return starter(_workspace(workspace), where).resume(
        job_id, take_over=take_over, workers=workers, max_rate=max_rate, client=client
    )


def jobs(
    state: str | Collection[str] | None = None,
    *,
    search: str = "",
    limit: int = 100,
    workspace: Workspace | None = None,
) -> Dashboard:
    """All jobs of the database, newest first, whoever runs them: a live list in a notebook.

    ``state``: the name of a state or several, such as ``"running"`` or ``["failed",
    "interrupted"]``; a job whose owner is gone is interrupted. ``search``: a text in a job's name,
    source or target, in upper or lower case. ``limit``: at most so many jobs in the table of text,
    in ``.to_dataframe()`` and when iterated; the list in a notebook has buttons for older ones.

    Raises OptionError for a state that does not exist.
    """
    return _workspace(workspace).jobs(state, search=search, limit=limit)
