"""What a replaced table passes on to the new one, and tables that are not replaced."""

import pytest

from taskwidgets.errors import TargetMismatch


@pytest.fixture
def roles(look):
    """Two roles, whose names no other database of the server uses."""
    name = look.one("SELECT current_database()")
    made = [f"{name}_reader", f"{name}_owner"]
    for role in made:
        look(f"CREATE ROLE {role}")
    look(f"GRANT ALL ON SCHEMA public TO {made[1]}")
    yield made
    look(f"DROP OWNED BY {', '.join(made)}")
    for role in made:
        look(f"DROP ROLE {role}")


def grants(look, table="t"):
    return set(
        look(
            "SELECT coalesce(a.attname, ''), acl.grantee::regrole::text, acl.privilege_type,"
            " acl.is_grantable FROM pg_class c LEFT JOIN pg_attribute a"
            " ON a.attrelid = c.oid AND a.attacl IS NOT NULL,"
            " LATERAL (SELECT * FROM aclexplode(CASE WHEN a.attname IS NULL THEN c.relacl END)"
            " UNION ALL SELECT * FROM aclexplode(a.attacl)) acl"
            " WHERE c.oid = %s::regclass AND acl.grantee <> c.relowner",
            (table,),
        )
    )


def test_owner_grants_and_comment_are_kept(workspace, csv_file, look, roles):
    """Nobody gains or loses a right by a replace."""
    reader, owner = roles
    look("CREATE TABLE t (a int, b int)")
    look(f"GRANT SELECT ON t TO {reader} WITH GRANT OPTION")
    look(f"ALTER TABLE t OWNER TO {owner}")
    look("COMMENT ON TABLE t IS 'the one'")
    before = grants(look)
    assert before == {("", reader, "SELECT", True)}
    workspace.upload(csv_file("a,b", "1,2"), "t", if_exists="replace").wait(60)
    assert look.rows("t") == [(1, 2)]
    assert grants(look) == before
    assert look.one("SELECT relowner::regrole::text FROM pg_class WHERE relname = 't'") == owner
    assert look.one("SELECT obj_description('t'::regclass)") == "the one"


def test_grants_on_columns_are_kept(workspace, csv_file, look, roles):
    """Of columns that the new table has."""
    reader, _ = roles
    look("CREATE TABLE t (a int, b int)")
    look(f"GRANT SELECT (a), UPDATE (b) ON t TO {reader}")
    workspace.upload(csv_file("a,c", "1,2"), "t", if_exists="replace").wait(60)
    assert grants(look) == {("a", reader, "SELECT", False)}


def test_default_privileges_apply_to_a_new_table(workspace, csv_file, look, roles):
    """As to any table that this role makes in the schema; a replaced one keeps its own."""
    reader, _ = roles
    look(f"ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO {reader}")
    workspace.upload(csv_file("a", "1"), "t").wait(60)
    assert grants(look) == {("", reader, "SELECT", False)}
    look(f"REVOKE ALL ON t FROM {reader}")
    look(f"ALTER DEFAULT PRIVILEGES GRANT INSERT ON TABLES TO {reader}")
    workspace.upload(csv_file("a", "2"), "t", if_exists="replace").wait(60)
    assert grants(look) == set()
    look(f"ALTER DEFAULT PRIVILEGES REVOKE INSERT ON TABLES FROM {reader}")
    look(f"ALTER DEFAULT PRIVILEGES IN SCHEMA public REVOKE SELECT ON TABLES FROM {reader}")


REFUSED = {
    "it is a partition of public.p": [
        "CREATE TABLE p (a int) PARTITION BY LIST (a)",
        "CREATE TABLE t PARTITION OF p FOR VALUES IN (1)",
    ],
    "it inherits from public.p": ["CREATE TABLE p (a int)", "CREATE TABLE t () INHERITS (p)"],
    "public.c inherits from it": ["CREATE TABLE t (a int)", "CREATE TABLE c () INHERITS (t)"],
    "it has row security": [
        "CREATE TABLE t (a int)",
        "CREATE POLICY limited ON t USING (a = 1)",
    ],
    "it is in the publication feed": [
        "CREATE TABLE t (a int)",
        "CREATE PUBLICATION feed FOR TABLE t",
    ],
    "column r of table public.u depends on it": ["CREATE TABLE t (a int)", "CREATE TABLE u (r t)"],
    "function public.f(public.t) depends on it": [
        "CREATE TABLE t (a int)",
        "CREATE FUNCTION f(t) RETURNS int LANGUAGE sql AS 'SELECT 1'",
    ],
}


@pytest.mark.parametrize("reason", REFUSED)
def test_a_table_that_cannot_be_replaced_is_told_before_the_load(workspace, csv_file, look, reason):
    """In the call, with the reason; nothing is made."""
    for statement in REFUSED[reason]:
        look(statement)
    with pytest.raises(TargetMismatch) as caught:
        workspace.upload(csv_file("a", "1"), "t", if_exists="replace")
    assert reason in str(caught.value)
    assert look.untouched()


def test_what_came_while_the_job_ran_is_found_at_the_end(workspace, many_rows, look):
    """A policy that is made meanwhile is not lost."""
    look("CREATE TABLE t (a int)")
    job = workspace.upload(many_rows(4000), "t", if_exists="replace", max_rate=1e5)
    look("CREATE POLICY limited ON t USING (a = 1)")
    job.max_rate = None
    with pytest.raises(Exception, match="it has row security"):
        job.wait(60)
    assert look.rows("t") == []
    look("DROP POLICY limited ON t")
    job.resume()
    assert job.wait(60).rows_loaded == 4000
