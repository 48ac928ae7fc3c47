"""The tables of the schema ``taskwidgets``, as SQLAlchemy Core sees them.

The migrations make the same tables; a test builds both and compares them.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from taskwidgets.runtime.states import FINAL, State

__all__ = [
    "SCHEMA",
    "checkpoints",
    "events",
    "jobs",
    "loaded_contents",
    "metadata",
    "rejects",
    "requests",
    "run_states",
    "settings",
    "staging_table",
    "transitions",
]

SCHEMA = "taskwidgets"

metadata = MetaData(schema=SCHEMA)


def staging_table(job_id: int) -> str:
    """The name of the table, in our schema, in which a job keeps rows until it publishes them.

    The name is long since it passes through the target's schema, where it must meet no other.
    """
    return f"taskwidgets_staging_{job_id}"


def _state_list(states: list[State]) -> str:
    return ", ".join(f"'{state}'" for state in states)


# The moves that runtime.states allows; a trigger on jobs looks every change of state up in here.
transitions = Table(
    "transitions",
    metadata,
    Column("from_state", Text, primary_key=True),
    Column("to_state", Text, primary_key=True),
)

# One row a job. options: what the caller gave. plan: what was decided before it began. epoch:
# raised by each claim; whoever writes with a smaller one is fenced. owner: the process that runs
# it. owner_role: the role that made it, by which row security decides who sees and changes it; NULL
# where an earlier release recorded the job and it is not known. The policies are in the migrations.
jobs = Table(
    "jobs",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("key", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("options", JSONB, nullable=False),
    Column("plan", JSONB, nullable=False),
    Column("state", Text, nullable=False, server_default=text("'pending'")),
    Column("epoch", Integer, nullable=False, server_default=text("0")),
    Column("owner", JSONB(none_as_null=True)),
    Column("claimed_at", DateTime(timezone=True)),
    Column("heartbeat_at", DateTime(timezone=True)),
    Column("progress", JSONB, nullable=False, server_default=text("'{}'")),
    Column("error", JSONB(none_as_null=True)),
    Column("receipt", JSONB(none_as_null=True)),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("owner_role", Text, server_default=text("CURRENT_USER")),
    CheckConstraint(f"state IN ({_state_list(list(State))})", name="jobs_state_known"),
    Index("jobs_key", "key", "id"),
    Index("jobs_state", "state", "id"),  # the few failed ones among a million
    # Two kernels that make the same job in the same moment make one.
    Index(
        "jobs_one_active_per_key",
        "key",
        unique=True,
        postgresql_where=text(f"state NOT IN ({_state_list(sorted(FINAL))})"),
    ),
)

# One row a committed segment: of bytes [from_byte, to_byte) of the file, `rows` records are loaded
# and `rejected` ones are kept as rejects; crc32 tells whether the file still has these bytes there.
# segments: how many it stands for, see merging.
# For a download, to_block is the block of the table with which the next segment begins. Of a
# download into a folder, a segment is a part file, its positions are blocks of the table, and file
# says which one counts: its name, bytes and sha256; such segments are never merged.
checkpoints = Table(
    "checkpoints",
    metadata,
    Column("job_id", BigInteger, ForeignKey(jobs.c.id, ondelete="CASCADE"), primary_key=True),
    Column("from_byte", BigInteger, primary_key=True),
    Column("to_byte", BigInteger, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("crc32", BigInteger, nullable=False),
    Column("to_block", BigInteger),
    Column("at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    Column("rejected", BigInteger, nullable=False, server_default=text("0")),
    Column("segments", BigInteger, nullable=False, server_default=text("1")),
    Column("file", JSONB(none_as_null=True)),
    CheckConstraint("from_byte >= 0 AND to_byte > from_byte", name="checkpoints_range"),
)

# One row a record that was not loaded, with what is wrong with it. raw: its text as it stands in
# the file, or as somebody has mended it since. replayed_at: when it was loaded after all.
rejects = Table(
    "rejects",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("job_id", BigInteger, ForeignKey(jobs.c.id, ondelete="CASCADE"), nullable=False),
    Column("line", BigInteger, nullable=False),
    Column("byte_offset", BigInteger, nullable=False),
    Column("raw", Text, nullable=False),
    Column("column", Text),
    Column("sqlstate", Text),
    Column("message", Text, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    Column("replayed_at", DateTime(timezone=True)),
    # Not unique: what one damaged line holds may be several records.
    Index("rejects_place", "job_id", "byte_offset"),
)

# One row a thing that happened to a job. kind: transition, or a word for what it was.
events = Table(
    "events",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("job_id", BigInteger, ForeignKey(jobs.c.id, ondelete="CASCADE"), nullable=False),
    Column("at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    Column("kind", Text, nullable=False),
    Column("from_state", Text),
    Column("to_state", Text),
    Column("owner", Text, nullable=False),
    Column("cause", Text, nullable=False),
    Column("details", JSONB(none_as_null=True)),
    Index("events_job", "job_id", "id"),
)

# One row a wish for a job that another process runs: to pause, resume or terminate it. The id is
# made by whoever asks, so that a wish that is sent twice is one. Its owner answers it.
requests = Table(
    "requests",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("job_id", BigInteger, ForeignKey(jobs.c.id, ondelete="CASCADE"), nullable=False),
    Column("verb", Text, nullable=False),
    Column("cause", Text, nullable=False),
    Column("asked_by", Text, nullable=False),
    Column(
        "asked_at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()
    ),
    Column("answered_at", DateTime(timezone=True)),
    Column("answer", Text),
    CheckConstraint("verb IN ('pause', 'resume', 'terminate')", name="requests_verb_known"),
    Index("requests_open", "job_id", postgresql_where=text("answered_at IS NULL")),
    Index("requests_job", "job_id"),
)

# One row a job of the user's own: what its last checkpoint said. serial counts the checkpoints, so
# that after a lost reply one can see whether the COMMIT went through.
run_states = Table(
    "run_states",
    metadata,
    Column("job_id", BigInteger, ForeignKey(jobs.c.id, ondelete="CASCADE"), primary_key=True),
    Column("serial", BigInteger, nullable=False),
    Column("state", JSONB, nullable=False),
    Column("progress", JSONB, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
)

# Of the schema itself. identity_key: the key of the hashes that identify URLs, see
# PostgresJobStore.keyed_hash.
settings = Table(
    "settings",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

# One row a file (or table of a workbook, or data frame) that an upload put into a table, written in
# the transaction of the cutover. bytes and crc32: of its data, unpacked, without the header. xid:
# the cutover's transaction; made_table: whether the table itself came with it.
loaded_contents = Table(
    "loaded_contents",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("job_id", BigInteger, ForeignKey(jobs.c.id, ondelete="CASCADE"), nullable=False),
    Column("table_oid", BigInteger, nullable=False),
    Column("table_name", Text, nullable=False),
    Column("xid", BigInteger, nullable=False),
    Column("made_table", Boolean, nullable=False),
    Column("source", Text, nullable=False),
    Column("source_key", Text),
    Column("bytes", BigInteger, nullable=False),
    Column("crc32", BigInteger, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    Index("loaded_contents_table_oid", "table_oid"),
    Index("loaded_contents_table_name", "table_name"),
    Index("loaded_contents_job_id", "job_id"),
)
