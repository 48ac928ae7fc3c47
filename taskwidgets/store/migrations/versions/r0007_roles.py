"""Jobs have the role that made them, and row security keeps the roles apart; the view v_jobs.

Written out in full, not taken from schema.py: a migration stays what it was.

Row security is not forced: the owner of the tables and superusers see all jobs. Forced, it would
keep the owner's pg_dump from working ("query would be affected by row-level security policy"), and
a later migration that the owner runs would silently change a part of the rows only. The owner of a
table can switch its row security off anyway.
"""

import time

from alembic import op
from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError

from taskwidgets.errors import DatabaseError

revision = "0007"
down_revision = "0006"

LOCK_TIMEOUT = 2  # seconds for one attempt: whoever comes later waits behind it
ATTEMPTS = 20
LOCK_FAILED = ("55P03", "40P01")  # lock_not_available, deadlock_detected

CHILDREN = ("checkpoints", "events", "loaded_contents", "rejects", "requests", "run_states")
FIXED = ("alembic_version", "settings", "transitions")  # changed by migrations only


def upgrade() -> None:
    """Add the column, the policies and the view."""
    connection = op.get_bind()
    _lock_tables(connection)
    for statement in (*COLUMN, *FUNCTIONS, *_policies(), *VIEW, *GRANTS):
        op.execute(statement)


def _lock_tables(connection: Connection) -> None:
    """Lock all tables at once, so that no process of an earlier release is in between.

    A process of a user's function may hold its lock for as long as the function's transaction
    takes. Nobody is kept waiting for that long: each attempt is short.
    """
    tables = ", ".join(f"taskwidgets.{name}" for name in (*CHILDREN, *FIXED, "jobs"))
    connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}s'"))
    for attempt in range(ATTEMPTS):
        try:
            with connection.begin_nested():
                connection.execute(text(f"LOCK TABLE {tables} IN ACCESS EXCLUSIVE MODE"))
            break
        except OperationalError as error:
            if getattr(error.orig, "pgcode", None) not in LOCK_FAILED:
                raise
            if attempt == ATTEMPTS - 1:
                raise DatabaseError(
                    'the schema "taskwidgets" cannot be brought up to this release: other sessions '
                    "have its tables locked. Pause the jobs that run, and connect again",
                    sqlstate=error.orig.pgcode,  # type: ignore[union-attr]
                ) from None
            time.sleep(0.2)
    connection.execute(text("SET LOCAL lock_timeout TO DEFAULT"))


COLUMN = (
    # Rows that are there get NULL: the role that migrates need not be the one that made them.
    "ALTER TABLE taskwidgets.jobs ADD COLUMN owner_role text",
    "ALTER TABLE taskwidgets.jobs ALTER COLUMN owner_role SET DEFAULT CURRENT_USER",
    # Who made a job is known where it has a staging table, and where a session holds its lock.
    """
    UPDATE taskwidgets.jobs SET owner_role = pg_get_userbyid(c.relowner)
    FROM pg_class c
    WHERE c.relnamespace = 'taskwidgets'::regnamespace AND c.relkind = 'r'
      AND c.relname = 'taskwidgets_staging_' || jobs.id
    """,
    """
    UPDATE taskwidgets.jobs SET owner_role = a.usename
    FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
    WHERE jobs.owner_role IS NULL AND a.usename IS NOT NULL
      AND l.locktype = 'advisory' AND l.granted AND l.objsubid = 2 AND l.classid = 1953983074
      AND l.objid = (jobs.id % 2147483647)::int
      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND jobs.state IN ('running', 'pausing', 'terminating')
    """,
    # Where nobody else may use the tables, the others are the owner's as well. Where others may,
    # nobody knows; those jobs stay without a role.
    """
    UPDATE taskwidgets.jobs SET owner_role = pg_get_userbyid(c.relowner)
    FROM pg_class c
    WHERE jobs.owner_role IS NULL AND c.oid = 'taskwidgets.jobs'::regclass
      AND NOT EXISTS (
          SELECT FROM aclexplode(c.relacl) AS acl
          WHERE acl.grantee <> c.relowner AND acl.privilege_type IN ('INSERT', 'UPDATE')
      )
    """,
)

FUNCTIONS = (
    # The fixed path also keeps the operator = in it from being another one.
    "ALTER FUNCTION taskwidgets.check_transition() SET search_path = pg_catalog, pg_temp",
    """
    CREATE FUNCTION taskwidgets.roles_of_caller() RETURNS text[]
    LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
        SELECT coalesce(array_agg(rolname::text), '{}') FROM pg_roles
        WHERE pg_has_role(oid, 'USAGE')
    $$
    """,
    """
    CREATE FUNCTION taskwidgets.caller_is(role text) RETURNS boolean
    LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
        SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = role AND pg_has_role(oid, 'USAGE'))
    $$
    """,
    # Whether a role may read all of a job's target: then it may also read the rows of the source
    # that did not get in. With the rights of the tables' owner, as the caller may not see the job.
    """
    CREATE FUNCTION taskwidgets.may_read_target(job bigint, caller name) RETURNS boolean
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
        SELECT coalesce(bool_or(
            has_schema_privilege(caller, n.oid, 'USAGE')
            AND has_table_privilege(caller, c.oid, 'SELECT') AND NOT c.relrowsecurity), false)
        FROM taskwidgets.jobs j
        JOIN pg_namespace n ON n.nspname = j.plan -> 'target' ->> 0
        JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = j.plan -> 'target' ->> 1
        WHERE j.id = job AND j.kind = 'upload'
    $$
    """,
    "GRANT EXECUTE ON FUNCTION taskwidgets.roles_of_caller(), taskwidgets.caller_is(text),"
    " taskwidgets.may_read_target(bigint, name) TO PUBLIC",
)

# The subqueries are run once for each statement, and only where the first condition does not hold.
OWN = (
    "({0} = CURRENT_USER OR {0} IS NULL"
    " OR {0} = ANY ((SELECT taskwidgets.roles_of_caller())::text[]))"
)
STRICTLY_OWN = "({0} = CURRENT_USER OR {0} = ANY ((SELECT taskwidgets.roles_of_caller())::text[]))"
OPERATES = "(SELECT taskwidgets.caller_is('taskwidgets_operator'))"
VIEWS = f"((SELECT taskwidgets.caller_is('taskwidgets_viewer')) OR {OPERATES})"
# Which jobs these subqueries find is limited by the policies of jobs.
OF_SEEN_JOB = "EXISTS (SELECT FROM taskwidgets.jobs j WHERE j.id = job_id)"
OF_OWN_JOB = (
    f"EXISTS (SELECT FROM taskwidgets.jobs j WHERE j.id = job_id AND {OWN.format('j.owner_role')})"
)


def _policies() -> list[str]:
    own, strictly_own = OWN.format("owner_role"), STRICTLY_OWN.format("owner_role")
    made = [
        f"ALTER TABLE taskwidgets.{name} ENABLE ROW LEVEL SECURITY"
        for name in (*CHILDREN, *FIXED, "jobs")
    ]
    # Without a policy for other commands, only the owner of the tables changes them.
    made += [
        f"CREATE POLICY all_read ON taskwidgets.{name} FOR SELECT USING (true)" for name in FIXED
    ]
    made += [
        f"CREATE POLICY read ON taskwidgets.jobs FOR SELECT USING ({own} OR {VIEWS})",
        f"CREATE POLICY make ON taskwidgets.jobs FOR INSERT WITH CHECK ({strictly_own})",
        f"CREATE POLICY change ON taskwidgets.jobs FOR UPDATE USING ({own})",
        f"CREATE POLICY remove ON taskwidgets.jobs FOR DELETE USING ({strictly_own})",
    ]
    read = dict.fromkeys(CHILDREN, OF_SEEN_JOB)
    read["rejects"] = f"{OF_OWN_JOB} OR taskwidgets.may_read_target(job_id, CURRENT_USER)"
    # Who appends to a table must know what others have put into it.
    read["loaded_contents"] = (
        f"{OF_SEEN_JOB}"
        " OR coalesce(has_any_column_privilege(table_oid::oid, 'SELECT, INSERT'), false)"
    )
    make = dict.fromkeys(CHILDREN, OF_OWN_JOB)
    # An operator's request, and the event that tells of it.
    make["requests"] = make["events"] = f"{OF_OWN_JOB} OR {OPERATES}"
    make["loaded_contents"] = (
        f"{OF_OWN_JOB} AND coalesce(has_any_column_privilege(table_oid::oid, 'INSERT'), false)"
    )
    for name in CHILDREN:
        made += [
            f"CREATE POLICY read ON taskwidgets.{name} FOR SELECT USING ({read[name]})",
            f"CREATE POLICY make ON taskwidgets.{name} FOR INSERT WITH CHECK ({make[name]})",
            f"CREATE POLICY change ON taskwidgets.{name} FOR UPDATE USING ({OF_OWN_JOB})",
            f"CREATE POLICY remove ON taskwidgets.{name} FOR DELETE USING ({OF_OWN_JOB})",
        ]
    return made


# Before Postgres 15 a view reads with the rights of its owner, to whom the policies do not apply;
# so the condition is in the view as well. Functions in it are always called with the rights of the
# caller. security_barrier keeps a function in a caller's condition from seeing other rows.
VIEW = (
    f"""
    CREATE VIEW taskwidgets.v_jobs WITH (security_barrier) AS
    SELECT j.id, j.kind, j.name, j.source, j.target, j.owner_role AS role,
           CASE WHEN j.state NOT IN ('running', 'pausing', 'terminating') OR a.alive THEN j.state
                ELSE 'interrupted' END AS state,
           CASE WHEN r.progress IS NOT NULL AND NOT j.is_over THEN (r.progress ->> 'done')::bigint
                WHEN j.counts_live AND c.bytes IS NOT NULL
                THEN CASE j.progress ->> 'unit' WHEN 'rows' THEN c.rows
                     WHEN 'blocks' THEN c.blocks ELSE c.bytes END
                ELSE (j.progress ->> 'done')::bigint END AS done,
           coalesce(CASE WHEN NOT j.is_over THEN (r.progress ->> 'total')::bigint END,
                    (j.progress ->> 'total')::bigint) AS total,
           coalesce(CASE WHEN NOT j.is_over THEN r.progress ->> 'unit' END,
                    j.progress ->> 'unit') AS unit,
           CASE WHEN j.counts_live AND c.bytes IS NOT NULL THEN c.rows
                ELSE (j.progress ->> 'rows')::bigint END AS rows,
           CASE WHEN j.counts_live AND c.bytes IS NOT NULL THEN c.rejected
                ELSE (j.progress ->> 'rejected')::bigint END AS rejected,
           j.error ->> 'message' AS error,
           j.owner ->> 'host' AS host, (j.owner ->> 'pid')::integer AS pid,
           j.owner ->> 'notebook' AS notebook,
           j.created_at, j.claimed_at AS started_at, coalesce(c.at, r.at) AS checkpoint_at,
           j.updated_at,
           (j.receipt ->> 'rows_read')::bigint AS rows_read,
           (j.receipt ->> 'rows_loaded')::bigint AS rows_loaded,
           (j.receipt ->> 'rows_rejected')::bigint AS rows_rejected,
           (j.receipt ->> 'bytes')::bigint AS bytes,
           (j.receipt ->> 'seconds')::double precision AS seconds
    FROM (
        SELECT *, state IN ('completed', 'terminated') AS is_over,
               state IN ('running', 'pausing', 'terminating', 'interrupted') AS counts_live
        FROM taskwidgets.jobs
    ) j
    LEFT JOIN taskwidgets.run_states r ON r.job_id = j.id
    CROSS JOIN LATERAL (
        SELECT sum(k.rows)::bigint AS rows, max(k.to_block) AS blocks, max(k.at) AS at,
               sum(k.rejected)::bigint AS rejected,
               sum(k.to_byte - k.from_byte)::bigint AS bytes
        FROM taskwidgets.checkpoints k WHERE k.job_id = j.id
    ) c
    CROSS JOIN LATERAL (
        SELECT CASE WHEN j.owner ->> 'lease' IS NOT NULL
            THEN coalesce(j.heartbeat_at > clock_timestamp()
                 - (j.owner ->> 'lease')::double precision * interval '1 second', false)
            ELSE EXISTS (
                SELECT FROM pg_locks l
                WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2
                  AND l.classid = 1953983074 AND l.objid = (j.id % 2147483647)::int
                  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
            ) END AS alive
    ) a
    WHERE {OWN.format("j.owner_role")} OR {VIEWS}
       OR NOT row_security_active('taskwidgets.jobs'::regclass)
    """,
    """
    DO $$BEGIN
        IF current_setting('server_version_num')::int >= 150000 THEN
            ALTER VIEW taskwidgets.v_jobs SET (security_invoker = true);
        END IF;
    END$$
    """,
    "COMMENT ON VIEW taskwidgets.v_jobs IS"
    " 'Jobs of taskwidgets that the caller may see: a stable interface, see its documentation'",
)

GRANTS = (
    # A trigger runs with the rights of whoever changes the table; TRUNCATE passes row security by.
    """
    DO $$DECLARE found record; BEGIN
        FOR found IN
            SELECT c.oid::regclass AS relation, acl.privilege_type AS privilege,
                   CASE WHEN acl.grantee = 0 THEN 'PUBLIC'
                        ELSE quote_ident(pg_get_userbyid(acl.grantee)) END AS grantee
            FROM pg_class c, aclexplode(c.relacl) AS acl
            WHERE c.relnamespace = 'taskwidgets'::regnamespace AND c.relkind = 'r'
              AND c.relname NOT LIKE 'taskwidgets\\_staging\\_%' AND acl.grantee <> c.relowner
              AND acl.privilege_type IN ('TRIGGER', 'TRUNCATE', 'REFERENCES', 'MAINTAIN')
        LOOP
            EXECUTE format('REVOKE %s ON %s FROM %s CASCADE',
                           found.privilege, found.relation, found.grantee);
        END LOOP;
        FOR found IN
            SELECT DISTINCT CASE WHEN acl.grantee = 0 THEN 'PUBLIC'
                            ELSE quote_ident(pg_get_userbyid(acl.grantee)) END AS grantee
            FROM pg_class c, aclexplode(c.relacl) AS acl
            WHERE c.oid = 'taskwidgets.jobs'::regclass AND acl.grantee <> c.relowner
              AND acl.privilege_type = 'SELECT'
        LOOP
            EXECUTE format('GRANT SELECT ON taskwidgets.v_jobs TO %s', found.grantee);
        END LOOP;
    END$$
    """,
)
