"""A table in the place of another: what it takes over, and what forbids to replace a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from psycopg2 import sql
from sqlalchemy import Connection, TextClause, text

__all__ = ["Inherited", "blockers", "default_grants", "inherited"]

# What DROP TABLE would take along without a word, or what would keep the transaction at the end
# from doing it. Each row is one sentence about the table.
BLOCKERS = text(
    """
    SELECT pg_catalog.format('it is a partition of %s', i.inhparent::pg_catalog.regclass)
    FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
    WHERE i.inhrelid = :oid AND c.relispartition
    UNION ALL
    SELECT pg_catalog.format('it inherits from %s', i.inhparent::pg_catalog.regclass)
    FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
    WHERE i.inhrelid = :oid AND NOT c.relispartition
    UNION ALL
    SELECT pg_catalog.format('%s inherits from it', i.inhrelid::pg_catalog.regclass)
    FROM pg_catalog.pg_inherits i WHERE i.inhparent = :oid
    UNION ALL
    SELECT 'it has row security, and everybody would see all rows of the new table'
    FROM pg_catalog.pg_class c
    WHERE c.oid = :oid AND (c.relrowsecurity
        OR EXISTS (SELECT FROM pg_catalog.pg_policy p WHERE p.polrelid = c.oid))
    UNION ALL
    SELECT pg_catalog.format(
        'it is in the publication %I, and the new table would not be', p.pubname)
    FROM pg_catalog.pg_publication_rel r
    JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid
    WHERE r.prrelid = :oid
    UNION ALL
    SELECT DISTINCT pg_catalog.format('%s depends on it',
        pg_catalog.pg_describe_object(d.classid, d.objid, d.objsubid))
    FROM pg_catalog.pg_depend d
    JOIN pg_catalog.pg_class c ON c.oid = :oid
    LEFT JOIN pg_catalog.pg_type t ON t.oid = c.reltype
    WHERE d.deptype = 'n' AND (
        (d.refclassid = 'pg_catalog.pg_type'::pg_catalog.regclass
            AND d.refobjid IN (c.reltype, t.typarray))
        OR (d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = c.oid
            AND d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass))
    """
)
OWN = text(
    """
    SELECT pg_catalog.pg_get_userbyid(c.relowner) AS owner,
           c.relowner <> (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = CURRENT_USER)
               AS is_others,
           pg_catalog.obj_description(c.oid, 'pg_class') AS comment
    FROM pg_catalog.pg_class c WHERE c.oid = :oid
    """
)
# Grants on the table (no column) and on single columns; those of the owner are implied.
GRANTS = text(
    """
    SELECT NULL AS column, acl.grantee, acl.privilege_type AS privilege, acl.is_grantable
    FROM pg_catalog.pg_class c, LATERAL pg_catalog.aclexplode(c.relacl) AS acl
    WHERE c.oid = :oid AND acl.grantee <> c.relowner
    UNION ALL
    SELECT a.attname, acl.grantee, acl.privilege_type, acl.is_grantable
    FROM pg_catalog.pg_attribute a
    JOIN pg_catalog.pg_class c ON c.oid = a.attrelid,
    LATERAL pg_catalog.aclexplode(a.attacl) AS acl
    WHERE a.attrelid = :oid AND NOT a.attisdropped AND acl.grantee <> c.relowner
    """
)
# A staging table is made in another schema, where default privileges are taken from it again, and
# moved. What it gets in its new schema: those of all schemas, and those of that one.
DEFAULT_GRANTS = text(
    """
    SELECT NULL AS column, acl.grantee, acl.privilege_type AS privilege, acl.is_grantable
    FROM pg_catalog.pg_default_acl d
    LEFT JOIN pg_catalog.pg_namespace n ON n.oid = d.defaclnamespace,
    LATERAL pg_catalog.aclexplode(d.defaclacl) AS acl
    WHERE (d.defaclnamespace = 0 OR n.nspname = :schema)
    AND d.defaclobjtype = 'r' AND acl.grantee <> d.defaclrole
    AND d.defaclrole = (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = CURRENT_USER)
    """
)
ROLE = text("SELECT rolname FROM pg_catalog.pg_roles WHERE oid = :oid")


@dataclass(frozen=True)
class _Grant:
    column: str | None
    role: str | None  # None: PUBLIC
    privilege: str
    is_grantable: bool


@dataclass(frozen=True)
class Inherited:
    """What a table passes on to the one that replaces it."""

    owner: str | None  # None: this very role
    comment: str | None
    grants: tuple[_Grant, ...]
    replaces_grants: bool  # of those that the new table has already, by default privileges

    def apply(self, connection: Connection, table: sql.Identifier, columns: frozenset[str]) -> None:
        """Give it to the new table; the owner last, who may not be this role."""
        cursor = connection.connection.cursor()
        try:
            if self.replaces_grants:
                driver: Any = connection.connection.driver_connection
                oid = connection.scalar(
                    text("SELECT CAST(:name AS pg_catalog.regclass)::pg_catalog.oid"),
                    {"name": table.as_string(driver)},
                )
                for role in {grant.role for grant in _grants(connection, GRANTS, oid=oid)}:
                    cursor.execute(sql.SQL("REVOKE ALL ON {} FROM {}").format(table, _role(role)))
            for grant in self.grants:
                if grant.column is None or grant.column in columns:
                    cursor.execute(_statement(grant, table))
            if self.comment is not None:
                cursor.execute(
                    sql.SQL("COMMENT ON TABLE {} IS {}").format(table, sql.Literal(self.comment))
                )
            if self.owner is not None:
                cursor.execute(
                    sql.SQL("ALTER TABLE {} OWNER TO {}").format(table, sql.Identifier(self.owner))
                )
        finally:
            cursor.close()


def blockers(connection: Connection, oid: int) -> list[str]:
    """Why a table cannot be replaced, a sentence each; `tables` knows of views and foreign keys."""
    return [str(one) for one in connection.scalars(BLOCKERS, {"oid": oid})]


def inherited(connection: Connection, oid: int) -> Inherited:
    """What the table with this number passes on."""
    row = connection.execute(OWN, {"oid": oid}).one()
    return Inherited(
        row.owner if row.is_others else None,
        row.comment,
        tuple(_grants(connection, GRANTS, oid=oid)),
        replaces_grants=True,
    )


def default_grants(connection: Connection, schema: str) -> Inherited:
    """What a new table in this schema gets by the default privileges that this role has set."""
    grants = tuple(_grants(connection, DEFAULT_GRANTS, schema=schema))
    return Inherited(None, None, grants, replaces_grants=False)


def _grants(connection: Connection, statement: TextClause, **values: object) -> list[_Grant]:
    found = []
    for row in connection.execute(statement, values).all():
        role = None if row.grantee == 0 else connection.scalar(ROLE, {"oid": row.grantee})
        if row.grantee == 0 or role is not None:
            found.append(_Grant(row.column, role, row.privilege, row.is_grantable))
    return found


def _role(role: str | None) -> sql.Composable:
    return sql.SQL("PUBLIC") if role is None else sql.Identifier(role)


def _statement(grant: _Grant, table: sql.Identifier) -> sql.Composable:
    columns = (
        sql.SQL("")
        if grant.column is None
        else sql.SQL(" ({})").format(sql.Identifier(grant.column))
    )
    return sql.SQL("GRANT {}{} ON {} TO {}{}").format(
        sql.SQL(grant.privilege),  # a word of the server's own
        columns,
        table,
        _role(grant.role),
        sql.SQL(" WITH GRANT OPTION" if grant.is_grantable else ""),
    )
