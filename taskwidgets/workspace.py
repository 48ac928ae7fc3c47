"""Where the parts are put together: URL, store, jobs, transfers, functions."""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sqlalchemy.engine import URL, Connection, Engine

from taskwidgets.cluster import Cluster, as_scheduler
from taskwidgets.dashboard import Dashboard, Query, checked_states
from taskwidgets.errors import (
    IllegalTransition,
    JobOfOtherRole,
    JobOwned,
    OptionError,
    TaskwidgetsError,
)
from taskwidgets.functions.kinds import KINDS as FUNCTION_KINDS
from taskwidgets.runtime.control import checked_rate
from taskwidgets.runtime.job import Job
from taskwidgets.runtime.states import FINAL, OWNED, RESUMABLE, State
from taskwidgets.runtime.store import JobRecord, JobSpec
from taskwidgets.runtime.threads import in_running_loop
from taskwidgets.runtime.words import percentage
from taskwidgets.store import identity, listing
from taskwidgets.store.access import other_role_text
from taskwidgets.store.budget import checked_connections
from taskwidgets.store.database import Database
from taskwidgets.store.engines import address_of
from taskwidgets.store.jobs import PostgresJobStore
from taskwidgets.store.schema import SCHEMA
from taskwidgets.store.translate import address
from taskwidgets.tabular.limits import Limits
from taskwidgets.transfers import download_plan, tables
from taskwidgets.transfers.download_plan import DownloadOptions
from taskwidgets.transfers.exporting import Exporting
from taskwidgets.transfers.kinds import KINDS as TRANSFER_KINDS
from taskwidgets.transfers.kinds import Kind
from taskwidgets.transfers.names import staging_name
from taskwidgets.transfers.origins import materials
from taskwidgets.transfers.origins.given import Source, as_given
from taskwidgets.transfers.planning import make_plan, resolve_target
from taskwidgets.transfers.prepared import prepared_spec
from taskwidgets.transfers.targets import given_target
from taskwidgets.transfers.upload_options import UploadOptions

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Workspace"]

KINDS: dict[str, Kind] = {**TRANSFER_KINDS, **FUNCTION_KINDS}
SOURCE_COLUMN = "_source"
URL_VARIABLE = "TASKWIDGETS_DATABASE_URL"
METADATA_VARIABLE = "TASKWIDGETS_METADATA_URL"  # heeded where the database's URL is a variable, too
EMBEDDED = "embedded"  # in the place of a URL: the Postgres that comes with the package
MOST_WORKERS = 4  # by default; more than the machine has cores gain nothing
LOCK_PATIENCE = 30.0  # seconds that a service waits for a lock while it plans a job
EXIT_PATIENCE = 3.0  # seconds; Jupyter kills a kernel 5 s after it asked it to go


class Workspace:
    """One database, and this process's jobs in it; see ``taskwidgets.connect`` for the arguments.

    ``taskwidgets.connect()`` makes one and remembers it as the current one; the functions of the
    package use that unless they are given ``workspace=``.
    """

    def __init__(
        self,
        url: str | URL | Engine | Connection | None = None,
        *,
        metadata: str | URL | Engine | Connection | None = None,
        max_connections: int | None = None,
        restricted: bool = False,
    ) -> None:
        """``restricted``: for jobs of others than the user; see ``store.administrator``."""
        most = checked_connections(max_connections)
        if url is None:
            url = os.environ.get(URL_VARIABLE) or None
            metadata = metadata or os.environ.get(METADATA_VARIABLE) or None
        if metadata is not None:
            self._database = _database(None if metadata == EMBEDDED else metadata, most)
            self._source = _database(url, most, read_for=self._database)
            if self._source.is_same(self._database):
                self._source = self._database
        else:
            self._database = self._source = _database(url, most)
        self._restricted = restricted
        has_other = self._source is not self._database
        is_embedded = metadata == EMBEDDED or (metadata is None and url is None)
        try:
            self._database = self._prepared(self._database, is_embedded=is_embedded)
            self._source = (
                self._prepared(self._source, is_embedded=url is None, is_source=True)
                if has_other
                else self._database
            )
        except BaseException:
            self._dispose()
            raise
        if self._has_metadata_elsewhere:
            self._store = PostgresJobStore(self._database, self._source)
        else:
            self._store = PostgresJobStore(self._database)
        self._jobs: dict[int, Job] = {}
        self._is_closed = False
        self._lock = threading.Lock()
        self._locks: dict[str, threading.RLock] = {}  # by the jobs' keys
        atexit.register(self._at_exit)

    @property
    def url(self) -> str:
        """The URL of the database that is read and written, its password masked."""
        return self._source.url.render_as_string(hide_password=True)

    @property
    def engine(self) -> Engine:
        """A SQLAlchemy engine on this database: ``pandas.read_sql(query, workspace.engine)``.

        With ``metadata=``, it is on the database that exports read.
        """
        return self._source.engine

    @property
    def database(self) -> Database:
        """The connections to what users read, for the package's own statements."""
        return self._source

    @property
    def _has_metadata_elsewhere(self) -> bool:
        return self._source is not self._database

    @property
    def is_closed(self) -> bool:
        """Whether ``close()`` was called: it does nothing more."""
        return self._is_closed

    @property
    def forked(self) -> bool:
        """Whether it came through a fork: its connections belong to the parent process."""
        return self._database.forked()

    def limit_connections(self, max_connections: int | None) -> None:
        """Have so many connections at most from now on; None: the default."""
        self._database.budget.resize(checked_connections(max_connections))

    def is_on_database_of(self, other: Workspace) -> bool:
        """Whether both are on the same database, by the same URL, and keep jobs in the same one."""
        return self._source.is_same(other._source) and self._database.is_same(other._database)

    @property
    def fingerprint(self) -> str:
        """Equal for workspaces on the same database, in whatever process; asks the database."""
        jobs = identity.fingerprint(self._database)
        return f"{jobs} {self._source.location}" if self._has_metadata_elsewhere else jobs

    @property
    def running(self) -> int:
        """How many jobs this process is at work on; asks nobody."""
        return sum(job.runs_here for job in list(self._jobs.values()))

    def __repr__(self) -> str:
        jobs = f", jobs in {address(self._database.url)}" if self._has_metadata_elsewhere else ""
        return f"<Workspace: {address(self._source.url)}{jobs}>"

    # ------------------------------------------------------------------ verbs

    def upload(
        self,
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
        **reading: object,
    ) -> Job:
        """See ``taskwidgets.upload``."""
        if self._has_metadata_elsewhere:
            raise OptionError(
                "an upload commits each batch of rows together with its checkpoint, so that none "
                "is loaded twice; that takes one database, and this workspace keeps its jobs in "
                f"another one ({self!r}). To load into a database, connect to it alone: "
                "tw.connect(url), without metadata="
            )
        means = _means(workers, client)
        limits = Limits.of(max_unpacked, max_row)
        given = as_given(source, sheet=sheet, storage_options=storage_options)
        options = UploadOptions(
            source=given.identity,
            table=table,
            if_exists=if_exists,
            on_error=on_error,
            max_rejects=max_rejects,
            cast=cast,
            types=_plain_types(types),
            delimiter=delimiter,
            quotechar=quotechar,
            encoding=encoding,
            header=header,
            null_values=null_values if isinstance(null_values, str | None) else tuple(null_values),
            reading=reading or None,
            names=names,
            source_column=(SOURCE_COLUMN if source_column is True else source_column) or None,
            sheet=sheet,
            max_unpacked=limits.max_unpacked,
            max_row=limits.max_row,
            source_hash=self._hash_of(given.secret_identity),
        )
        with self._database.begin() as connection:
            target = resolve_target(connection, table)
        administrator = self._database.administrator

        def make() -> JobRecord:
            if administrator is not None and target.schema is not None:
                administrator.open_schema(target.schema)
                if if_exists == "replace" and target.schema != SCHEMA:
                    administrator.hand_over_table(target.schema, target.table)
            with self._plan(self._database) as connection:
                if given.origin is not None:
                    prepared = prepared_spec(connection, options, target, given, again=again)
                    return self._store.create(prepared, lambda _connection, _job_id: None)
                spec, plan = make_plan(connection, options, target, again=again)
            return self._store.create(
                spec,
                lambda connection, job_id: tables.create_staging(
                    connection,
                    staging_name(job_id),
                    plan.staged_columns,
                    plan.types,
                    plan.source_column,
                ),
            )

        key = options.key(target)
        with materials.kept(key, given.material):
            job = self._run(key, make, means, max_rate, again=again)
        if job.state is State.COMPLETED:
            materials.forget(key)
        return job

    def download(
        self,
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
    ) -> Job:
        """See ``taskwidgets.download``."""
        means = _means(workers, client)
        given = given_target(path, format, storage_options)
        if means.cluster is not None:
            given.check_shared()
        options = DownloadOptions(
            source=source,
            path=given.path,
            format=given.format,
            if_exists=if_exists,
            delimiter=delimiter,
            null_value=null_value,
            header=header,
            quote_all=quote_all,
            escape_formulas=escape_formulas,
            path_hash=self._hash_of(given.secret_identity),
            database=self._store.source_location,
        )

        def make() -> JobRecord:
            folder = None
            if options.is_folder:
                folder = given.checked(replace=options.if_exists == "replace")
            with self._plan(self._source) as connection:
                spec = download_plan.make_plan(connection, options, folder)
            return self._store.create(spec, lambda _connection, _job_id: None)

        with materials.kept(options.key(), given.material):
            return self._run(options.key(), make, means, max_rate, again=again)

    def resume(
        self,
        job_id: int,
        *,
        take_over: bool = False,
        workers: int | None = None,
        max_rate: float | None = None,
        client: object = None,
    ) -> Job:
        """See ``taskwidgets.resume``."""
        means = _means(workers, client)
        with self._lock_of(self._store.record(job_id).spec.key):
            record = self._store.record(job_id)
            if record.state in FINAL:
                raise IllegalTransition(
                    f"job {job_id} ({record.spec.name}) is {record.state} and cannot be resumed; "
                    "again=True in the call that made it starts a new one",
                    job_id=job_id,
                )
            self._check_role(record, take_over=take_over)
            is_run_elsewhere = record.state in OWNED and not self._store.owns(record)
            if take_over and (is_run_elsewhere or not record.is_of_this_role):
                known = self._known(record) or self._handle(record, means, max_rate)
                known.check()
                if max_rate is not None:
                    known.max_rate = max_rate
                if means.cluster is not None:
                    known.employ(means.cluster)
                whom = record.owner if is_run_elsewhere else f"the role {record.role}"
                known.go_on(f"taken over from {whom}", take_over=True)
                return known
            job = self._take_up(record, means, max_rate, follows=False)
            assert job is not None  # only a completed job is not taken up
            return job

    def call(self, spec: JobSpec, *, again: bool = False) -> Job:
        """Begin the job of a decorated function's call; see ``taskwidgets.job``."""

        def make() -> JobRecord:
            return self._store.create(spec, lambda _connection, _job_id: None)

        return self._run(spec.key, make, _means(), None, again=again)

    def job(self, job_id: int) -> Job:
        """The job of this number, wherever it runs; nothing is started. Raises JobNotFound.

        One that another process runs is shown as that process leaves it: its pause() and
        terminate() are requests, which its owner hears within a second.
        """
        job = self._jobs.get(job_id)  # without the lock: a call may be planning for seconds
        if job is None:
            record = self._store.record(job_id)
            with self._lock_of(record.spec.key):
                job = self._known(record)
                if job is None:
                    job = self._handle(self._store.record(job_id), _means(), None)
        job.follow()
        return job

    def jobs(
        self, state: str | Collection[str] | None = None, *, search: str = "", limit: int = 100
    ) -> Dashboard:
        """See ``taskwidgets.jobs``."""
        states = checked_states(state)
        if not isinstance(search, str):
            raise OptionError(f"search must be a text, not {search!r}")
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
            raise OptionError(f"limit must be a whole number from 1 on, not {limit!r}")
        return Dashboard(_Listed(self), Query(states, search.strip()), limit)

    def prune(self, older_than: timedelta, batch: int = 1000) -> int:
        """Delete jobs that were completed or terminated longer ago than this; returns how many.

        What they loaded or wrote stays; their numbers, events and receipts go, and a call that
        made one of them does not know any more that it is done. Jobs that are not finished are
        never touched. ``batch``: so many are deleted in one transaction.
        """
        if not isinstance(older_than, timedelta) or older_than < timedelta(0):
            raise OptionError(f"older_than must be a timedelta, not negative, not {older_than!r}")
        if isinstance(batch, bool) or not isinstance(batch, int) or batch < 1:
            raise OptionError(f"batch must be a whole number from 1 on, not {batch!r}")
        return listing.prune(self._database, older_than, batch)

    def close(self) -> None:
        """Pause this process's running jobs, durably, and close the connections."""
        self._is_closed = True
        self._pause_all()
        for job in self._jobs.values():
            if isinstance(job._work, Exporting) and job.state is not State.RUNNING:
                job._work.rest()
        atexit.unregister(self._at_exit)
        self._store.close()
        self._dispose()

    # ------------------------------------------------------------------ inside

    def _prepared(
        self, database: Database, *, is_embedded: bool, is_source: bool = False
    ) -> Database:
        """The database as it is to be used, checked and brought up to this release.

        Where jobs are of others than the user, the sessions of an embedded server are those of
        another role. ``is_source``: nothing is made there.
        """
        administrator = None
        if self._restricted:
            # It knows the embedded server's modules, which others do not need.
            from taskwidgets.store.administrator import find_administrator

            administrator = find_administrator(database, is_embedded=is_embedded)
        chosen = database if administrator is None else administrator
        try:
            if is_source:
                chosen.prepare_source()
            else:
                chosen.prepare()
        except BaseException:
            chosen.dispose()
            raise
        used = database if administrator is None else administrator.restricted
        if self._restricted:
            used.lock_patience = LOCK_PATIENCE
        return used

    def _dispose(self) -> None:
        """Close the idle connections, also those of another role."""
        for database in {self._database, self._source}:
            (database.administrator or database).dispose()

    def _plan(self, database: Database) -> AbstractContextManager[Connection]:
        """A transaction in which a job is planned: it may wait for a table that others lock.

        A service that many ask must not have its short statements wait behind that.
        """
        return database.begin_apart() if self._restricted else database.begin()

    def _known(self, record: JobRecord) -> Job | None:
        """This process's handle of the job; one of a schema that was dropped is another job's."""
        job = self._jobs.get(record.id)
        if job is not None and not job.is_of(record):
            del self._jobs[record.id]
            return None
        return job

    def _lock_of(self, key: str) -> threading.RLock:
        """Jobs of one key are begun one after the other; those of others do not wait for them."""
        with self._lock:
            return self._locks.setdefault(key, threading.RLock())

    def _hash_of(self, secret_identity: str | None) -> str | None:
        return None if secret_identity is None else self._store.keyed_hash(secret_identity)

    def _run(
        self,
        key: str,
        make: Callable[[], JobRecord],
        means: _Means,
        max_rate: float | None,
        *,
        again: bool,
    ) -> Job:
        """The job of this key: attached, resumed, found finished, or made and started."""
        checked_rate(max_rate)
        with self._lock_of(key):
            existing = self._latest(key)
            if existing is not None:
                # Of a termination that was cut off, nothing can come but its end.
                anew = again or (existing.undoing and existing.state in RESUMABLE)
                if not anew:
                    job = self._take_up(existing, means, max_rate)
                    if job is not None:
                        return job
                elif existing.state not in FINAL:
                    self._discard(existing)
            try:
                record = make()
            except JobOwned:  # another process has made it in the same moment
                existing = self._store.latest(key)
                job = None if existing is None else self._take_up(existing, means, max_rate)
                if job is None or again:
                    raise
                return job
            return self._start(record, means, max_rate, cause="the call")

    def _latest(self, key: str) -> JobRecord | None:
        """The newest job of this key; one that is being terminated here comes to its end first."""
        record = self._store.latest(key)
        job = None if record is None else self._known(record)
        if record is None or job is None or not job.is_ending:
            return record
        if job.kind in FUNCTION_KINDS and in_running_loop():
            # Its clean-up may need this thread's loop: nobody can wait for it here.
            raise JobOwned(
                f"job {job.id} ({job.name}) is being terminated in this process; run the cell "
                "again in a moment",
                job_id=job.id,
            )
        _settle(job)
        return self._store.latest(key)

    def _take_up(
        self, record: JobRecord, means: _Means, max_rate: float | None, *, follows: bool = True
    ) -> Job | None:
        """The handle for a job that exists: attached, resumed, finished; None: make a new one.

        ``follows``: one that another process runs is followed; else that is an error.
        """
        job = self._known(record)
        if job is not None and (job.runs_here or job.state is State.PENDING):
            # A function may need this thread's loop to hear that it is to pause: never waited for.
            pausing = job.state is State.PAUSING and job.kind in FUNCTION_KINDS
            if job.state in (State.PENDING, State.RUNNING) or pausing:
                job.go_on("the same call again")  # nothing, unless it was just asked to pause
                return job
            if job.state in (State.PAUSING, State.TERMINATING):
                _settle(job)
        if job is not None:  # it may have come to rest since the record was read
            record = self._store.record(record.id)
        if record.state in RESUMABLE:
            self._check_role(record)
            remark = f"resuming job {record.id}"
            if record.undoing:
                remark = f"finishing the termination of job {record.id}"
            elif record.progress.total:
                remark += f" at {percentage(record.progress)}"
            if job is not None:
                job.check()
                if max_rate is not None:
                    job.max_rate = max_rate
                if means.cluster is not None:
                    job.employ(means.cluster)
                job.go_on("the same call again", remark)
                return job
            return self._start(record, means, max_rate, cause="taken up again", remark=remark)
        if record.state is State.COMPLETED:
            return self._finished(record, means)
        if record.state is State.TERMINATED:
            return None
        if job is not None and self._store.owns(record):
            return job  # it went on between the two looks
        if follows:
            return self.job(record.id)
        raise JobOwned(
            f"job {record.id} ({record.spec.name}) is run by {record.owner}; "
            "pause it there, or wait until it is done. If that process hangs, "
            f"tw.resume({record.id}, take_over=True) takes the job from it",
            job_id=record.id,
        )

    def _finished(self, record: JobRecord, means: _Means) -> Job | None:
        """The completed job, when source and target still are as it left them."""
        remark = self._kind(record).standing(self._store, record)
        if remark is None:
            return None
        job = self._known(record)
        if job is None or job.state is not State.COMPLETED:  # another process has completed it
            job = self._handle(record, means, None)
        job.remark = remark
        return job

    def _discard(self, record: JobRecord) -> None:
        """Clean up an unfinished job, as again=True starts over, or as that was begun before."""
        job = self._known(record) or self._handle(record, _means(1), None)
        if record.state not in RESUMABLE:
            where = "in this process" if self._store.owns(record) else f"under {record.owner}"
            raise JobOwned(
                f"job {record.id} ({record.spec.name}) is {record.state} {where}; terminate it "
                "before you start over",
                job_id=record.id,
            )
        self._check_role(record)
        job.terminate("the call starts over")
        _settle(job)
        if job.state is not State.TERMINATED:
            raise TaskwidgetsError(f"job {record.id} could not be cleaned up: {job.error}")

    @staticmethod
    def _check_role(record: JobRecord, *, take_over: bool = False) -> None:
        """JobOfOtherRole where another role made the job, unless it is to be taken over."""
        if not record.is_of_this_role and not take_over:
            raise JobOfOtherRole(other_role_text(record), job_id=record.id)

    @staticmethod
    def _kind(record: JobRecord) -> Kind:
        kind = KINDS.get(record.spec.kind)
        if kind is None:
            raise OptionError(
                f"job {record.id} is of the kind {record.spec.kind!r}, unknown to this release"
            )
        return kind

    def _handle(self, record: JobRecord, means: _Means, max_rate: float | None) -> Job:
        work = self._kind(record).work(self._store, record, means.workers, means.cluster)
        job = Job(record, self._store, work, max_rate)
        self._jobs[record.id] = job
        return job

    def _start(
        self,
        record: JobRecord,
        means: _Means,
        max_rate: float | None,
        *,
        cause: str,
        remark: str = "",
    ) -> Job:
        job = self._handle(record, means, max_rate)
        job.check()
        job.go_on(cause, remark)
        return job

    def _pause_all(self) -> list[Job]:
        asked = []
        for job in list(self._jobs.values()):
            # At rest, or only followed: what another process runs is not ours to stop.
            if not job.runs_here:
                continue
            try:
                job.pause("the process ends")
            except IllegalTransition:
                continue
            asked.append(job)
        deadline = time.monotonic() + EXIT_PATIENCE
        for job in asked:
            job.join(max(0.0, deadline - time.monotonic()))
        return asked

    def _at_exit(self) -> None:
        if self._database.forked():
            return
        for job in self._pause_all():
            if job.state is State.PAUSED and not hasattr(sys, "ps1"):
                print(f"{job!r}; tw.resume({job.id}) goes on", file=sys.stderr)  # noqa: T201
        self._dispose()


class _Listed:
    """What a dashboard asks of a workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def newest(
        self, *, states: Collection[State] | None, search: str, limit: int, offset: int
    ) -> list[JobRecord]:
        return listing.newest(
            self._workspace._database, states=states, search=search, limit=limit, offset=offset
        )

    def record(self, job_id: int) -> JobRecord:
        return self._workspace._store.record(job_id)

    def newest_events(self, job_id: int, limit: int) -> pd.DataFrame:
        return listing.newest_events(self._workspace._database, job_id, limit)

    def is_mine(self, record: JobRecord) -> bool:
        return self._workspace._store.owns(record)

    def open(self, job_id: int) -> Job:
        return self._workspace.job(job_id)


def _database(
    url: str | URL | Engine | Connection | None, most: int, read_for: Database | None = None
) -> Database:
    """The database at a URL, or the embedded one.

    ``read_for``: nothing is written to it, and the jobs that read from it are kept in that one;
    both share what connections there may be.
    """
    revive: Callable[[], object] | None = None
    login = None
    if url is None:
        from taskwidgets.embedded import join

        url, revive = join().url, lambda: join()
    elif not isinstance(url, str | URL):
        url, login = address_of(url)
    if read_for is None:
        return Database(url, revive, most, login)
    made = Database(url, read_for.revive if revive is None else revive, most, login, is_source=True)
    made.budget = read_for.budget
    return made


def _settle(job: Job) -> None:
    """Wait until a job that is about to stop has stopped; a moment, as a pause takes 250 ms."""
    job.join(None)


@dataclass(frozen=True)
class _Means:
    """What a job works with: connections from here, or a cluster."""

    workers: int
    cluster: Cluster | None


def _means(workers: int | None = None, client: object = None) -> _Means:
    scheduler = as_scheduler(client)
    if scheduler is not None and workers is not None:
        raise OptionError(
            "workers= are those of this process; with client= the cluster has its own"
        )
    return _Means(_checked_workers(workers), None if scheduler is None else Cluster(scheduler))


def _checked_workers(workers: int | None) -> int:
    if workers is None:
        return min(MOST_WORKERS, _cores())
    if isinstance(workers, bool) or not isinstance(workers, int) or not 1 <= workers <= 64:
        raise OptionError(f"workers must be a whole number from 1 to 64, not {workers!r}")
    return workers


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # not on macOS; where it is, it knows of containers
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _plain_types(
    types: Mapping[str, str] | Literal["text"] | None,
) -> dict[str, str] | Literal["text"] | None:
    if types is None or types == "text":
        return types
    if not isinstance(types, Mapping) or not all(
        isinstance(name, str) and isinstance(kind, str) for name, kind in types.items()
    ):
        raise OptionError('types must be {"column": "postgres type"} or "text"')
    return dict(types)
