"""Who may do what with the schema ``taskwidgets``: roles, grants, triggers of others.

The policies themselves are in the migration 0007. They say that a role sees and changes the jobs of
its own and of roles that it has the privileges of; that members of ``taskwidgets_viewer`` and
``taskwidgets_operator`` see all jobs; and that operators make requests for all.
"""

from __future__ import annotations

from sqlalchemy import Connection, text

from taskwidgets.errors import DatabaseError
from taskwidgets.runtime.store import JobRecord
from taskwidgets.store.schema import SCHEMA

__all__ = [
    "FOREIGN_TRIGGERS",
    "OPERATOR",
    "OWNER",
    "VIEWER",
    "changes_needed",
    "check_triggers",
    "member_grants",
    "other_role_text",
    "refused_trigger",
    "risky_grants",
    "role_grants",
    "what_would_run",
]

VIEWER, OPERATOR, OWNER = (f"{SCHEMA}_{name}" for name in ("viewer", "operator", "owner"))

READ = ("alembic_version", "transitions", "jobs", "checkpoints", "events", "requests", "v_jobs")
WRITTEN = (
    "jobs", "checkpoints", "events", "requests", "run_states", "rejects", "loaded_contents",
)  # fmt: skip
LONGEST_SHOWN = 2000  # characters of a query in an error

# A trigger runs with the rights of the role whose statement fires it. Superusers and the owner of
# the table can have a role's statements run what they like anyway.
FOREIGN_TRIGGERS = """
    SELECT format('%I on %s, of the role %I', t.tgname, t.tgrelid::regclass, r.rolname)
    FROM pg_trigger t
    JOIN pg_class c ON c.oid = t.tgrelid
    JOIN pg_proc p ON p.oid = t.tgfoid
    JOIN pg_roles r ON r.oid = p.proowner
    WHERE c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'taskwidgets')
      AND c.relname NOT LIKE 'taskwidgets\\_staging\\_%'
      AND NOT t.tgisinternal AND NOT r.rolsuper AND p.proowner <> c.relowner
      AND r.rolname <> CURRENT_USER
    ORDER BY 1 LIMIT 1
"""
# Privileges with which a role can have others run its code, or pass row security by.
RISKY_GRANTS = text(
    """
    SELECT DISTINCT coalesce(quote_ident(r.rolname), 'PUBLIC') AS grantee
    FROM pg_class c
    CROSS JOIN LATERAL aclexplode(c.relacl) AS acl
    LEFT JOIN pg_roles r ON r.oid = acl.grantee
    WHERE c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'taskwidgets')
      AND c.relkind = 'r' AND acl.grantee <> c.relowner
      AND acl.privilege_type IN ('TRIGGER', 'TRUNCATE', 'REFERENCES')
    ORDER BY 1
    """
)


def check_triggers(connection: Connection) -> None:
    """DatabaseError where another role has put a trigger on the tables."""
    found = connection.scalar(text(FOREIGN_TRIGGERS))
    if found is not None:
        raise refused_trigger(str(found))


def refused_trigger(found: str) -> DatabaseError:
    """The error for a trigger of another role."""
    return DatabaseError(
        f'the schema "{SCHEMA}" has a trigger that is not its own ({found}): it would run with '
        "your rights. Nothing was run. Ask the owner of the table to drop it, and to run: "
        f"REVOKE TRIGGER, TRUNCATE, REFERENCES ON ALL TABLES IN SCHEMA {SCHEMA} FROM the role"
    )


def risky_grants(connection: Connection) -> list[str]:
    """The roles, quoted, that have privileges with which they can do more than is meant."""
    return list(connection.scalars(RISKY_GRANTS))


def member_grants(role: str) -> list[str]:
    """Statements that let a role have jobs of its own; ``role`` is quoted where it has to be."""
    tables = ", ".join(f"{SCHEMA}.{name}" for name in WRITTEN)
    read = ", ".join(f"{SCHEMA}.{name}" for name in (*READ, "settings"))
    return [
        f"GRANT USAGE, CREATE ON SCHEMA {SCHEMA} TO {role}",
        f"GRANT SELECT ON {read} TO {role}",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON {tables} TO {role}",
    ]


def role_grants() -> list[str]:
    """Statements that make the three roles and give them what they need; for the tables' owner."""
    read = ", ".join(f"{SCHEMA}.{name}" for name in READ)
    return [
        f"CREATE ROLE {VIEWER} NOLOGIN",
        f"GRANT USAGE ON SCHEMA {SCHEMA} TO {VIEWER}",
        f"GRANT SELECT ON {read} TO {VIEWER}",
        f"GRANT SELECT (job_id, serial, progress, at) ON {SCHEMA}.run_states TO {VIEWER}",
        f"CREATE ROLE {OPERATOR} NOLOGIN",
        f"GRANT {VIEWER} TO {OPERATOR}",
        f"GRANT INSERT ON {SCHEMA}.requests, {SCHEMA}.events TO {OPERATOR}",
        f"CREATE ROLE {OWNER} NOLOGIN",
        *member_grants(OWNER),
    ]


def changes_needed(tables_owner: str) -> str:
    """What to do where the schema is of an earlier release, and the role may not change it."""
    return (
        "they are of an earlier release, and only their owner can bring them up to this one: run "
        f"tw.connect() once as the role {tables_owner}"
    )


def what_would_run(record: JobRecord) -> str:
    """What a job does, for whoever is to run it with rights of their own."""
    spec = record.spec
    lines = [f"source: {_shown(spec.source)}", f"target: {_shown(spec.target)}"]
    if spec.kind == "function":
        lines = [f"function: {_shown(spec.source)}", f"arguments: {_shown(str(spec.options))}"]
    elif spec.options.get("if_exists"):
        lines.append(f"if_exists: {_shown(str(spec.options['if_exists']))}")
    return "\n".join(f"  {line}" for line in [f"kind: {_shown(spec.kind)}", *lines])


def other_role_text(record: JobRecord) -> str:
    """Why a job is not run, what it would run, and how it is run all the same."""
    made = (
        "was recorded by an earlier release, which did not keep the role that made it"
        if record.role is None
        else f"was made by the role {record.role}"
    )
    return (
        f"job {record.id} {made}. It would run with the rights of your role, so it is not run:"
        f"\n{what_would_run(record)}\n"
        f"If that is what you want: tw.resume({record.id}, take_over=True); the job is then your "
        "role's"
    )


def _shown(words: str) -> str:
    """As it may be printed on a terminal: without control characters, cut where it is very long."""
    clean = "".join(one if one.isprintable() or one in "\n\t" else "\N{REPLACEMENT CHARACTER}"
                    for one in words)  # fmt: skip
    return clean if len(clean) <= LONGEST_SHOWN else f"{clean[:LONGEST_SHOWN]}… (cut)"
