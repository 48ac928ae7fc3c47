"""Staging tables belong to the role that runs the job, and nothing in them runs code of others.

A job finds its staging table by its number. Whoever may create tables in the schema, or drops a
table as the schema's owner, can put another one there: with a trigger, a default or a policy, which
would run with the rights of the role that loads into it or reads from it.
"""

from __future__ import annotations

from collections.abc import Collection

from psycopg2 import sql
from sqlalchemy import Connection, text

from taskwidgets.errors import PlanRefused, RightsMissing
from taskwidgets.store.driver import users_path
from taskwidgets.transfers.names import TableName

__all__ = ["SOURCE_SETTING", "check_staging", "revoke_grants"]

SOURCE_SETTING = "taskwidgets.source"  # what the source column says, by the transaction

FOUND = text(
    """
    SELECT c.oid::bigint AS oid, c.relkind::text AS kind, pg_get_userbyid(c.relowner) AS owner,
           pg_get_userbyid(c.relowner) = CURRENT_USER AS is_mine,
           pg_has_role(c.relowner, 'USAGE') AS may_change
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = :schema AND c.relname = :table
    """
)
# What runs code when rows are written or read. The one default that a staging table has reads a
# setting (tables.create_staging). Types of others may be domains, whose checks are code.
CODE = text(
    """
    SELECT format('trigger %I', tgname) FROM pg_trigger WHERE tgrelid = :oid AND NOT tgisinternal
    UNION ALL SELECT format('rule %I', rulename) FROM pg_rewrite WHERE ev_class = :oid
    UNION ALL SELECT format('policy %I', polname) FROM pg_policy WHERE polrelid = :oid
    UNION ALL SELECT format('constraint %I', conname) FROM pg_constraint
        WHERE conrelid = :oid AND contype NOT IN ('p', 'u', 'n')
    UNION ALL SELECT format('default of column %I', a.attname)
        FROM pg_attrdef d JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
        WHERE d.adrelid = :oid
        AND (a.attgenerated <> '' OR pg_get_expr(d.adbin, d.adrelid) !~ :default)
    UNION ALL SELECT format('column %I of the type %s', a.attname, format_type(a.atttypid, NULL))
        FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
        WHERE a.attrelid = :oid AND a.attnum > 0 AND NOT a.attisdropped
        AND t.typnamespace <> 'pg_catalog'::regnamespace
        AND t.oid::bigint <> ALL (CAST(:types AS bigint[]))
    UNION ALL SELECT format('index %s', x.indexrelid::regclass)
        FROM pg_index x WHERE x.indrelid = :oid
        AND (x.indexprs IS NOT NULL OR x.indpred IS NOT NULL OR EXISTS (
            SELECT FROM unnest(x.indclass::oid[]) AS used (oid)
            JOIN pg_opclass o ON o.oid = used.oid
            WHERE o.opcnamespace <> 'pg_catalog'::regnamespace))
    UNION ALL SELECT 'parent or child tables' FROM pg_inherits
        WHERE inhrelid = :oid OR inhparent = :oid
    LIMIT 1
    """
)
SOURCE_DEFAULT = (
    r"^\(?current_setting\('" + SOURCE_SETTING.replace(".", r"\.") + r"'::text, true\)\)?"
    r"""(::("[^"]*"|[a-z0-9_. ])+(\([0-9, ]*\))?(\[\])*)?$"""
)
GRANTEES = text(
    """
    SELECT DISTINCT acl.grantee, r.rolname
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    CROSS JOIN LATERAL aclexplode(c.relacl) AS acl
    LEFT JOIN pg_roles r ON r.oid = acl.grantee
    WHERE n.nspname = :schema AND c.relname = :table AND acl.grantee <> c.relowner
    """
)


def revoke_grants(connection: Connection, name: TableName) -> None:
    """Take from others what default privileges gave them of a new staging table.

    What they may see of the target is decided when it is put there.
    """
    for row in connection.execute(GRANTEES, {"schema": name.schema, "table": name.table}).all():
        whom = sql.SQL("PUBLIC") if row.grantee == 0 else sql.Identifier(row.rolname)
        _define(connection, sql.SQL("REVOKE ALL ON {} FROM {}").format(name.identifier, whom))


def check_staging(
    connection: Connection, name: TableName, job_id: int, types: Collection[int] = ()
) -> None:
    """Make sure of a job's staging table before rows are written to it or read from it.

    ``types``: the numbers of the plan's types. One of another role, whose job was taken over,
    becomes this role's. Nothing where there is none. Raises PlanRefused for a table with code in
    it, RightsMissing for one that this role cannot have.
    """
    found = connection.execute(FOUND, {"schema": name.schema, "table": name.table}).one_or_none()
    if found is None:
        return
    if found.kind != "r":
        raise PlanRefused(_refused(name, "it is no table"), job_id=job_id)
    if not found.is_mine:
        if not found.may_change:
            raise RightsMissing(
                f'the staging table "{name}" belongs to the role {found.owner}, and only that role '
                f"can go on with job {job_id}; or grant it: GRANT {found.owner} TO your role",
                sqlstate="42501",
            )
        # From here on, to the end of the transaction, the other role cannot change it any more.
        _define(connection, sql.SQL("ALTER TABLE {} OWNER TO CURRENT_USER").format(name.identifier))
        revoke_grants(connection, name)
    values = {"oid": found.oid, "default": SOURCE_DEFAULT, "types": list(types)}
    code = connection.scalar(CODE, values)
    if code is not None:
        raise PlanRefused(_refused(name, f"it has a {code}"), job_id=job_id)


def _define(connection: Connection, statement: sql.Composable) -> None:
    """Run a statement that changes a table; event triggers run with it, which are users' code."""
    cursor = connection.connection.cursor()
    try:
        with users_path(connection):
            cursor.execute(statement)
    finally:
        cursor.close()


def _refused(name: TableName, what: str) -> str:
    return (
        f'"{name}" is not as this job made its staging table: {what}. Somebody changed it; nothing '
        "was run. Drop it, and start over with again=True"
    )
