"""Every error that taskwidgets raises on purpose, under one root.

TaskwidgetsError
├── OptionError             an argument has a value that makes no sense (also a ValueError)
├── DatabaseError           the database refused, or cannot be reached
│   ├── ServerUnreachable       nobody answers at that address, or the connection broke
│   │   ├── ConnectionsExhausted    ... the server has no connection to spare for this role
│   │   ├── ServerReadOnly          ... it takes no changes: a standby, or set to be read-only
│   │   └── ClusterUnreachable      ... not the database, but the Dask cluster that does the work
│   ├── LoginRefused            wrong user, password or database name
│   ├── RightsMissing           the role may not do what the job needs
│   └── SchemaTooNew            a newer taskwidgets has migrated this database
├── EmbeddedServerError     the Postgres that comes with the package does not start
├── NotebookServerError     no Jupyter server takes the job (where="server")
├── SourceError             the file cannot be loaded as it is (path, line, column)
│   └── SourceChanged           it is not the file any more that the job began with
├── TargetError             the table or file that is to be made stands in the way
│   ├── AlreadyLoaded           ... an earlier job appended the same content, or an older state
│   ├── TargetExists            ... it exists, and if_exists="fail"
│   └── TargetMismatch          ... it exists, with other columns
└── JobError                about one job (job_id)
    ├── JobNotFound             no job has this number
    ├── JobFailed               the job stopped at an error
    ├── JobTerminated           the job was terminated
    ├── JobOwned                somebody else runs it just now
    ├── JobOfOtherRole          another role of the database made it; take_over=True runs it
    ├── PlanRefused             what is recorded of it does not follow from its options
    ├── JobFenced               somebody else took it over meanwhile
    ├── FunctionUnknown         this process has not defined the function that it runs
    └── IllegalTransition       its state forbids what was asked
"""

from __future__ import annotations

from pathlib import Path

__all__ = [
    "AlreadyLoaded",
    "ClusterUnreachable",
    "ConnectionsExhausted",
    "DatabaseError",
    "EmbeddedServerError",
    "FunctionUnknown",
    "IllegalTransition",
    "JobError",
    "JobFailed",
    "JobFenced",
    "JobNotFound",
    "JobOfOtherRole",
    "JobOwned",
    "JobTerminated",
    "LoginRefused",
    "NotebookServerError",
    "OptionError",
    "PlanRefused",
    "RightsMissing",
    "SchemaTooNew",
    "ServerReadOnly",
    "ServerUnreachable",
    "SourceChanged",
    "SourceError",
    "TargetError",
    "TargetExists",
    "TargetMismatch",
    "TaskwidgetsError",
]


class TaskwidgetsError(Exception):
    """The root of the tree: ``except TaskwidgetsError`` catches all of it."""


class OptionError(TaskwidgetsError, ValueError):
    """An argument has a value that makes no sense; the text names the argument."""


class DatabaseError(TaskwidgetsError):
    """The database refused a statement.

    ``sqlstate`` is Postgres's five-character code where the server gave one
    (https://www.postgresql.org/docs/current/errcodes-appendix.html).
    """

    def __init__(self, message: str, *, sqlstate: str | None = None) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


class ServerUnreachable(DatabaseError):
    """No server answers at the address, or the connection to it broke."""

    waiting_for = "database away"  # what a job says that tries again


class ConnectionsExhausted(ServerUnreachable):
    """The server refuses more connections: its limit, the database's or the role's is reached."""

    waiting_for = "no free connection"


class ServerReadOnly(ServerUnreachable):
    """The server takes no changes: a standby, perhaps since a failover, or set to be read-only."""

    waiting_for = "database is read-only"


class ClusterUnreachable(ServerUnreachable):
    """No scheduler answers at the address, or a worker was lost with what it was doing."""

    waiting_for = "cluster away"


class LoginRefused(DatabaseError):
    """The server refused the user, the password or the name of the database."""


class RightsMissing(DatabaseError):
    """The role lacks a right that the job needs; the text names the right."""


class SchemaTooNew(DatabaseError):
    """The schema ``taskwidgets`` was made by a newer release than this one."""


class EmbeddedServerError(TaskwidgetsError):
    """The embedded Postgres could not be made, started or joined."""


class NotebookServerError(TaskwidgetsError):
    """The Jupyter server that is to run the job is not there, not reachable, or not fit for it."""


class SourceError(TaskwidgetsError):
    """The source cannot be loaded as it is.

    ``line`` is the physical line, counted from 1, on which the record begins; ``column`` the
    column's name; ``row`` the record as it is written in the file. Each is None where unknown.
    """

    def __init__(
        self,
        message: str,
        *,
        path: str | Path | None = None,
        line: int | None = None,
        column: str | None = None,
        row: str | None = None,
        sqlstate: str | None = None,
    ) -> None:
        super().__init__(message)
        self.path = None if path is None else str(path)
        self.line = line
        self.column = column
        self.row = row
        self.sqlstate = sqlstate


class SourceChanged(SourceError):
    """The source is not the one any more that the job began with."""


class TargetError(TaskwidgetsError):
    """The target cannot be made as asked."""


class AlreadyLoaded(TargetError):
    """An append would put rows into the table that an earlier job has put there."""


class TargetExists(TargetError):
    """The target exists already, and ``if_exists="fail"``."""


class TargetMismatch(TargetError):
    """The target exists with columns that do not fit the source."""


class JobError(TaskwidgetsError):
    """About one job; ``job_id`` is its number."""

    def __init__(self, message: str, *, job_id: int | None = None) -> None:
        super().__init__(message)
        self.job_id = job_id


class JobNotFound(JobError):
    """No job has this number in this database."""


class JobFailed(JobError):
    """The job stopped at an error, which is this one's ``__cause__``; its checkpoint stands.

    ``line``, ``column`` and ``row`` say where in the source, when the source was at fault.
    """

    def __init__(
        self,
        message: str,
        *,
        job_id: int | None = None,
        line: int | None = None,
        column: str | None = None,
        row: str | None = None,
    ) -> None:
        super().__init__(message, job_id=job_id)
        self.line = line
        self.column = column
        self.row = row


class JobTerminated(JobError):
    """The job was terminated; what it had made is cleaned up."""


class JobOwned(JobError):
    """Another process runs the job just now; the text names it."""


class JobOfOtherRole(JobError):
    """Another role of the database made the job; the text shows what it would run."""


class PlanRefused(JobError):
    """What the database has recorded of a job does not follow from the options of its call.

    Somebody has changed the record. Nothing of it was run.
    """


class JobFenced(JobError):
    """Another process took the job over; what this one still had in hand was not written."""


class FunctionUnknown(JobError):
    """The job runs a function of the user's own that this process has not defined."""


class IllegalTransition(JobError):
    """The job's state forbids what was asked; the text names the state."""
