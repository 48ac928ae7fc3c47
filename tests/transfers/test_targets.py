"""Names of tables and columns, and what becomes of a table that is there already."""

import psycopg2
import pytest
from fix_servers import plain, wait_until

from taskwidgets import JobFailed
from taskwidgets.errors import OptionError, TargetExists, TargetMismatch

NAMES = [
    "plain", "Capitals", "with space", 'with"quote', "with'quote", "percent%s", "co:lon", ":name",
    "a.b.c", "dot.ted", "ümläut", "日本", "select", "{brace}", "back\\slash", "semi;colon--x",
    "x" * 63, "$$", "new\nline", " ", "taskwidgets",
]  # fmt: skip


@pytest.mark.sample(7)
@pytest.mark.parametrize("name", NAMES)
def test_a_table_may_have_any_name(name, workspace, csv_file, look):
    """The table gets the very name that was given, whatever characters it has."""
    path = csv_file("a", "1")
    assert workspace.upload(path, name).wait().rows_loaded == 1
    assert look.rows(name) == [(1,)]
    workspace.upload(csv_file("a", "2", name="two.csv"), name, if_exists="append").wait()
    assert look.rows(name) == [(1,), (2,)]
    workspace.upload(csv_file("a", "3", name="three.csv"), name, if_exists="replace").wait()
    assert look.rows(name) == [(3,)]


@pytest.mark.parametrize(
    ("given", "schema", "table"),
    [
        ("Other Schema.t", "Other Schema", "t"),
        ('"Other Schema"."a.b"', "Other Schema", "a.b"),
        ('"Other Schema".a%b', "Other Schema", "a%b"),
        ('"a.b"', "public", "a.b"),
        ('"say ""x"""', "public", 'say "x"'),
        ("nowhere.t", "public", "nowhere.t"),
    ],
)
def test_a_table_may_be_in_another_schema(given, schema, table, workspace, csv_file, look):
    """schema.table and SQL's quotes lead where they say; without that schema, a dot is a letter."""
    look('CREATE SCHEMA "Other Schema"')
    workspace.upload(csv_file("a", "1"), given).wait()
    assert look.rows(schema, table) == [(1,)]


@pytest.mark.parametrize("name", ["", "x" * 64, "ä" * 32, "nul\0", 'no."such"', 5, None])
def test_what_is_no_name_is_refused(name, workspace, csv_file, look):
    """A name that Postgres cannot have, or would cut, raises OptionError before anything is."""
    with pytest.raises(OptionError):
        workspace.upload(csv_file("a", "1"), name)
    assert look.untouched()


COLUMNS = [
    "per%cent", "%s", "%(x)s", "co:lon", ":a", 'quo"te', "apo'strophe", "dot.ted", "Capital",
    "with space", " lead", "ümläut", "select", "x" * 63, "ä" * 31, "{}", "back\\slash", "new\nline",
    "tableoid_", "a;b--c",
]  # fmt: skip


def test_columns_may_have_any_name(workspace, tmp_path, look):
    """Columns get the very names of the header, for each way of making the target."""
    from fix_files import write_rows

    path = write_rows(tmp_path / "f.csv", COLUMNS, [[n for n, _ in enumerate(COLUMNS)]])
    for if_exists, rows in (("fail", 1), ("replace", 1), ("append", 2)):
        workspace.upload(path, "t", if_exists=if_exists, again=if_exists == "append").wait()
        assert list(look.types("t")) == COLUMNS
        assert look.rows("t") == [tuple(range(len(COLUMNS)))] * rows


@pytest.mark.sample(7)
@pytest.mark.parametrize("column", COLUMNS)
def test_a_failing_value_names_its_column_whatever_it_is(column, workspace, tmp_path):
    """The column in the error is the header's, also where its name looks like something else."""
    from fix_files import write_rows

    path = write_rows(tmp_path / "f.csv", ["id", column], [[1, 2], [3, "bad: x, line 9"]])
    job = workspace.upload(path, "t", types={column: "integer"})
    with pytest.raises(JobFailed) as caught:
        job.wait()
    assert caught.value.column == column
    assert caught.value.line == (4 if "\n" in column else 3)


@pytest.mark.parametrize("column", ["ctid", "xmin", "oid", "tableoid"])
def test_a_system_columns_name_is_refused_early_or_works(column, workspace, csv_file, look):
    """A column that Postgres cannot have is refused before the start, with its name."""
    from taskwidgets import TaskwidgetsError

    path = csv_file(f"{column},b", "1,2")
    if column == "oid":
        workspace.upload(path, "t").wait()
        assert look.rows("t") == [(1, 2)]
        return
    with pytest.raises(TaskwidgetsError, match=column):
        workspace.upload(path, "t")
    assert look.untouched()


# ------------------------------------------------------------------ fail and replace


@pytest.mark.parametrize("kind", ["TABLE t (x int)", "VIEW t AS SELECT 1", "SEQUENCE t"])
def test_an_existing_target_is_refused_early(kind, workspace, csv_file, look):
    """if_exists="fail" raises TargetExists before anything is created, for any kind of relation."""
    look(f"CREATE {kind}")
    with pytest.raises(TargetExists, match=r'"public\.t" exists already'):
        workspace.upload(csv_file("a", "1"), "t")
    assert look.untouched()


@pytest.mark.parametrize("kind", ["VIEW t AS SELECT 1", "SEQUENCE t"])
def test_only_a_table_is_replaced(kind, workspace, csv_file, look):
    """if_exists="replace" leaves views and sequences alone."""
    look(f"CREATE {kind}")
    with pytest.raises(TargetMismatch, match="only an ordinary table"):
        workspace.upload(csv_file("a", "1"), "t", if_exists="replace")
    assert look.untouched()


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("CREATE VIEW v AS SELECT * FROM t", "public.v"),
        ("CREATE TABLE child (id int REFERENCES t (id))", "public.child"),
        ("CREATE MATERIALIZED VIEW m AS SELECT * FROM t", "public.m"),
    ],
)
def test_a_table_that_others_depend_on_is_not_replaced(statement, named, workspace, csv_file, look):
    """replace is refused early when views or foreign keys depend on the table, naming them."""
    look("CREATE TABLE t (id int PRIMARY KEY)")
    look(statement)
    with pytest.raises(TargetMismatch, match=named):
        workspace.upload(csv_file("id", "1"), "t", if_exists="replace")
    assert look.untouched()


def test_replace_is_invisible_until_the_end(workspace, many_rows, look):
    """A reader sees all old rows until the job is completed, and then all new ones."""
    look("CREATE TABLE t AS SELECT 7 AS old")
    job = workspace.upload(many_rows(20_000), "t", if_exists="replace", max_rate=1.5e6)
    seen = set()
    while job.state in ("pending", "running"):
        seen.add(look.one("SELECT count(*) FROM t"))
    job.wait()
    assert seen <= {1, 20_000}
    assert 1 in seen
    assert look.one("SELECT count(*) FROM t") == 20_000


def test_a_target_that_comes_into_being_meanwhile_is_not_touched(workspace, many_rows, look):
    """A table made by another while a "fail" job runs stays; dropped, the job can be resumed."""
    job = workspace.upload(many_rows(20_000), "t", max_rate=1e6)
    wait_until(lambda: job.progress.rows > 0)
    look("CREATE TABLE t AS SELECT 7 AS theirs")
    job.max_rate = None
    with pytest.raises(JobFailed, match="come into being meanwhile"):
        job.wait()
    assert look.rows("t") == [(7,)]
    look("DROP TABLE t")
    job.resume()
    assert job.wait().rows_loaded == 20_000
    assert look.contents("t")[0] == 20_000


def test_a_replaced_table_that_somebody_reads_is_waited_for(workspace, many_rows, look):
    """The switch waits for a long reader, who sees the old rows to the end; nothing is lost."""
    look("CREATE TABLE t AS SELECT 7 AS old")
    reader = psycopg2.connect(plain(look.url))
    with reader.cursor() as cursor:
        cursor.execute("SELECT * FROM t")
        job = workspace.upload(many_rows(2000), "t", if_exists="replace")
        wait_until(lambda: bool(look("SELECT 1 FROM pg_locks WHERE NOT granted")))
        cursor.execute("SELECT * FROM t")
        assert cursor.fetchall() == [(7,)]
    assert job.state == "running"
    reader.rollback()
    reader.close()
    job.wait()
    assert look.contents("t")[0] == 2000


# ------------------------------------------------------------------ append


def test_append_leaves_defaults_to_the_database(workspace, csv_file, look):
    """Serial, identity and default columns that the file lacks are filled in by the database."""
    look(
        "CREATE TABLE t (n serial, i int GENERATED BY DEFAULT AS IDENTITY, b text, a int,"
        " c text DEFAULT 'std', up text GENERATED ALWAYS AS (upper(b)) STORED)"
    )
    workspace.upload(csv_file("a,b", "1,x", "2,y"), "t", if_exists="append").wait()
    rows = look("SELECT a, b, c, up FROM t ORDER BY a")
    assert rows == [(1, "x", "std", "X"), (2, "y", "std", "Y")]
    assert look.one("SELECT count(DISTINCT n) FROM t") == 2


def test_append_finds_its_columns_by_name(workspace, csv_file, look):
    """Columns in another order land in the columns of their names, in the table's types."""
    look("CREATE TABLE t (a text, b int, c date)")
    path = csv_file("c,b,a", "2013-01-02,5,00123")
    workspace.upload(path, "t", if_exists="append").wait()
    assert look("SELECT a, b, c::text FROM t") == [("00123", 5, "2013-01-02")]


def test_append_makes_a_table_that_is_missing(workspace, csv_file, look):
    """if_exists="append" without a table makes it, as in pandas."""
    workspace.upload(csv_file("a", "1"), "t", if_exists="append").wait()
    assert look.rows("t") == [(1,)]


def test_append_goes_into_partitions_and_views(workspace, csv_file, look):
    """Partitioned tables and simple views take appended rows."""
    look("CREATE TABLE p (a int) PARTITION BY RANGE (a)")
    look("CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10)")
    look("CREATE VIEW v AS SELECT a FROM p")
    path = csv_file("a", "1", "2")
    workspace.upload(path, "p", if_exists="append").wait()
    workspace.upload(path, "v", if_exists="append").wait()
    assert look.rows("p") == [(1,), (1,), (2,), (2,)]


@pytest.mark.parametrize(
    ("table", "what"),
    [
        ("(a int)", 'no column "b"'),
        ("(a int, b text, c int NOT NULL)", '"c" must have a value'),
        ("(a int, b text GENERATED ALWAYS AS ('x') STORED)", '"b" is computed'),
        ("(a int GENERATED ALWAYS AS IDENTITY, b text)", '"a" is computed'),
        ('("A" int, b text)', 'no column "a"'),
    ],
)
def test_append_into_other_columns_is_refused_early(table, what, workspace, csv_file, look):
    """TargetMismatch says which columns do not fit, before anything is created."""
    look(f"CREATE TABLE t {table}")
    with pytest.raises(TargetMismatch, match=what):
        workspace.upload(csv_file("a,b", "1,x"), "t", if_exists="append")
    assert look.untouched()


@pytest.mark.parametrize("types", ["text", {"a": "text"}])
def test_append_with_types_that_the_table_cannot_take_is_refused_early(
    types, workspace, csv_file, look
):
    """Types given for an append that the table's column cannot be assigned are refused early."""
    from taskwidgets import TaskwidgetsError

    look("CREATE TABLE t (a int, b text)")
    with pytest.raises(TaskwidgetsError, match="integer"):
        workspace.upload(csv_file("a,b", "1,x"), "t", if_exists="append", types=types)
    assert look.untouched()


def test_a_broken_constraint_at_the_append_appends_nothing(workspace, csv_file, look):
    """A unique violation at the end appends nothing, and names the row; the ledger stands."""
    look("CREATE TABLE t (a int PRIMARY KEY)")
    look("INSERT INTO t VALUES (2)")
    job = workspace.upload(csv_file("a", "1", "2", "3"), "t", if_exists="append")
    with pytest.raises(JobFailed, match=r"duplicate key.*\(a\)=\(2\)"):
        job.wait()
    assert look.rows("t") == [(2,)]
    assert look.ledger(job.id)[1] == 3
    job.terminate()
    job.join(None)
    assert look.rows("t") == [(2,)]


def test_a_broken_constraint_mended_in_the_table_resumes(workspace, csv_file, look):
    """After the row in the way is deleted, the same call completes with every row once."""
    path = csv_file("a", "1", "2", "3")
    look("CREATE TABLE t (a int PRIMARY KEY)")
    look("INSERT INTO t VALUES (2)")
    job = workspace.upload(path, "t", if_exists="append")
    with pytest.raises(JobFailed):
        job.wait()
    look("DELETE FROM t")
    again = workspace.upload(path, "t", if_exists="append")
    assert again is job
    assert again.wait().rows_loaded == 3
    assert look.rows("t") == [(1,), (2,), (3,)]


def test_a_trigger_that_swallows_rows_fails_the_append(workspace, csv_file, look):
    """Where a trigger holds rows back, nothing at all is appended, and the counts are named."""
    look("CREATE TABLE t (a int)")
    look(
        "CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN IF NEW.a % 2 = 0 THEN RETURN NULL; END IF; RETURN NEW; END'"
    )
    look("CREATE TRIGGER s BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION swallow()")
    job = workspace.upload(csv_file("a", "1", "2", "3"), "t", if_exists="append")
    with pytest.raises(JobFailed, match="of 3 rows, 2 arrived"):
        job.wait()
    assert look.rows("t") == []
    job.terminate()
    job.join(None)
    assert look.staging() == []
