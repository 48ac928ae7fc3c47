"""The server's second role: it reads and writes all tables, and reaches nothing outside of them.

The role of the notebooks, ``postgres``, is a superuser: a query of his may read each file of the
server's account and run programs. Queries that come over HTTP run in sessions that have logged in
as the role of this module. A session can take only roles that its login may take, so there is no
way out of it by SET ROLE, RESET ROLE or SET SESSION AUTHORIZATION in the text of a query.

https://www.postgresql.org/docs/current/predefined-roles.html
"""

from __future__ import annotations

from typing import Any

__all__ = ["EMBEDDED_SETTING", "RESTRICTED_ROLE", "ensure_restricted_role"]

RESTRICTED_ROLE = "taskwidgets_http"
EMBEDDED_SETTING = "taskwidgets.embedded"  # of the server's configuration: on

# The role's comment, for those who list the roles.
MARK = "taskwidgets: jobs over HTTP log in as this role"

# The rows of all tables, as the superuser sees them: row security (BYPASSRLS) is no border between
# two roles of one person, and an export would silently have fewer rows. pg_maintain is for ANALYZE
# after an upload. No role for server files, programs, monitoring, or signals to other roles.
ATTRIBUTES = "LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION INHERIT BYPASSRLS"
MEMBERSHIPS = ("pg_read_all_data", "pg_write_all_data", "pg_maintain")

# Two services that start at the same moment would both make the role. An advisory lock would not
# do: it is one of its database, and roles are of the whole server.
LOCK = "LOCK TABLE pg_catalog.pg_authid IN SHARE UPDATE EXCLUSIVE MODE"

FIND = """
    SELECT rolcanlogin AND NOT rolsuper AND NOT rolcreatedb AND NOT rolcreaterole
               AND NOT rolreplication AND rolinherit AND rolbypassrls AS is_right,
           (SELECT count(*) FROM pg_catalog.pg_auth_members m
            JOIN pg_catalog.pg_roles granted ON granted.oid = m.roleid
            WHERE m.member = r.oid AND granted.rolname = ANY (%(memberships)s))
               = pg_catalog.cardinality(%(memberships)s)
               AND pg_catalog.shobj_description(r.oid, 'pg_authid') = %(mark)s AS is_whole
    FROM pg_catalog.pg_roles r WHERE r.rolname = %(role)s
"""


def ensure_restricted_role(cursor: Any) -> None:
    """Make the role where it is missing, and take rights back that it must not have.

    ``cursor``: of a superuser's session, in a transaction.
    """
    values = {"memberships": list(MEMBERSHIPS), "mark": MARK, "role": RESTRICTED_ROLE}
    cursor.execute(FIND, values)
    if cursor.fetchone() == (True, True):
        return
    cursor.execute(LOCK)
    cursor.execute(FIND, values)
    found = cursor.fetchone()
    if found != (True, True):
        verb = "CREATE" if found is None else "ALTER"
        cursor.execute(f"{verb} ROLE {RESTRICTED_ROLE} {ATTRIBUTES}")
        cursor.execute(f"GRANT {', '.join(MEMBERSHIPS)} TO {RESTRICTED_ROLE}")
        cursor.execute(f"COMMENT ON ROLE {RESTRICTED_ROLE} IS '{MARK}'")
