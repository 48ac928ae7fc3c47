"""The exported bytes are those of one COPY: for every type, kind of relation, query and option."""

import gzip
import io
import subprocess

import pandas as pd
import pytest
import zstandard
from fix_exports import Exports, copied

from taskwidgets.transfers import tables

VALUES = {
    "texts": (
        "a text, b varchar(9), c char(5), d name",
        "('', NULL, 'x  ', ''), (NULL, '', NULL, 'n'), ('a\"b', 'c,d', 'e''f', 'g')",
    ),
    "line_ends": (
        "a text, b text",
        r"(E'one\ntwo', E'\r'), (E'a\r\nb', E'\t'), (E'\n', ' '), ('\.', '\\N'), (E'\\n', '\')",
    ),
    "one_column_of_markers": ("a text", r"('\.'), (''), (NULL), ('\N'), (' '), ('''')"),
    "bytes": ("a bytea", r"('\x00ff0a0d22'), (''), (NULL), ('abc\\def')"),
    "arrays": (
        "a int[], b text[][], c text[]",
        "('{}', NULL, '{a,NULL,\"NULL\",\"\"}'), "
        '(\'[0:1]={1,2}\', \'{{"a\\"b",c},{"d,e","\\\\"}}\', \'{"x\ny"}\')',
    ),
    "documents": (
        "a json, b jsonb, c jsonpath",
        """('{"a" : [1,  2]}', '{"b":"x","a":"\\"q\\""}', '$.a[*] ? (@ > 1)'),
        ('null', 'null', NULL), (E'{\\n"a": "ä"}', '[]', 'strict $')""",
    ),
    "intervals": (
        "a interval",
        "('1 year -2 mons +3 days -04:05:06.789'), ('-1 day'), ('0'), ('infinity'), (NULL)",
    ),
    "times": (
        "a date, b timestamp, c timestamptz, d time, e timetz",
        "('infinity', '-infinity', 'infinity', '24:00', '12:00+03'),"
        "('0044-03-15 BC', '2013-01-01 01:02:03.000001', '2013-06-01 00:00:00.5-07', NULL, NULL),"
        "('9999-12-31', 'epoch', '2013-03-31 01:30:00+00', '00:00:00.1', '00:00-15:59')",
    ),
    "numbers": (
        "a numeric, b numeric(20,4), c float8, d float4, e money, f bigint, g smallint",
        "('NaN', 'NaN', 'NaN', 'Infinity', -12.5, -9223372036854775808, -1),"
        "('Infinity', 1.5, '-0', '1e-40', 1234567.89, 9223372036854775807, NULL),"
        "('-Infinity', NULL, 0.1, 0.1, NULL, 0, 0), (1e300, 0, 1e308, 3e38, 0, 1, 2),"
        "(1.10000, 1.1, 5e-324, '-Infinity', 0, 1, 2)",
    ),
    "others": (
        "a uuid, b inet, c cidr, d macaddr, e bit(5), f varbit, g boolean, h point, i oid,"
        " j tsvector, k int4range, l int4multirange, m pg_lsn, n regclass, o regtype",
        "('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '::1/64', '10.0.0.0/8', '08:00:2b:01:02:03',"
        " B'10101', B'', true, '(1,-2.5)', 4294967295, 'a:1 fat:2,3', '[1,5)', '{[1,3),[7,9)}',"
        " '16/B374D848', 'pg_class', 'int[]'),"
        "(NULL, '1.2.3.4', NULL, NULL, NULL, NULL, false, NULL, 0, '', 'empty', '{}', NULL,"
        " NULL, NULL)",
    ),
    "made_types": (
        "a mood, b mood[], c short, d pair, e pair[], f moods",
        "('it''s \"ok\"', '{sad,NULL}', 'abc', '(1,\"a,b\")', '{\"(1,x)\",\"(,)\"}',"
        " ROW('sad', 1)), (NULL, NULL, NULL, ROW(NULL, NULL), NULL, ROW(NULL, NULL)),"
        "('sad', '{}', '=1', ROW(1, ''), '{}', NULL)",
    ),
    "generated": (
        "a int, b int GENERATED ALWAYS AS (a * 2) STORED,"
        " c text GENERATED ALWAYS AS ('v,' || a) VIRTUAL, d int GENERATED ALWAYS AS IDENTITY",
        None,
    ),
}


@pytest.fixture
def types(look):
    look("CREATE TYPE mood AS ENUM ('sad', 'it''s \"ok\"')")
    look("CREATE DOMAIN short AS text CHECK (length(VALUE) < 9)")
    look("CREATE TYPE pair AS (n int, t text)")
    look("CREATE TYPE moods AS (m mood, n int)")


@pytest.fixture(params=["text", "binary"])
def given_in(request, monkeypatch):
    """In which format the server gives the rows of which CSV is made."""
    if request.param == "binary":
        monkeypatch.setattr(tables, "has_aside", lambda *_: True)


@pytest.mark.sample(8)
@pytest.mark.parametrize("kind", VALUES)
def test_values_of_each_type_are_written_as_copy_writes_them(exports, look, types, kind, given_in):
    """For a table and for a query on it, the bytes are COPY's, whatever the type."""
    columns, values = VALUES[kind]
    look(f"CREATE TABLE t ({columns})")
    if values is None:
        look("INSERT INTO t (a) SELECT nullif(n, 3) FROM generate_series(1, 9) AS n")
    else:
        look(f"INSERT INTO t VALUES {values}")
    assert exports.same("t").count(b"\n") > 2


@pytest.mark.sample(3)
@pytest.mark.parametrize(
    "settings",
    [
        {"DateStyle": "SQL, DMY", "TimeZone": "Asia/Kolkata", "IntervalStyle": "sql_standard"},
        {"DateStyle": "German", "TimeZone": "America/Lima", "extra_float_digits": "-3"},
        {"DateStyle": "Postgres, MDY", "bytea_output": "escape", "IntervalStyle": "iso_8601"},
    ],
)
def test_a_database_s_own_notation_is_kept(look, another_workspace, tmp_path, settings, given_in):
    """With other styles of dates, intervals, floats and bytes set for the database, too."""
    database = look.one("SELECT current_database()")
    for name, value in settings.items():
        look(f"ALTER DATABASE {database} SET {name} TO '{value}'")
    look(
        "CREATE TABLE t AS SELECT date '2013-02-03' AS a,"
        " timestamptz '2013-02-03 04:05:06+00' AS b,"
        r" interval '1 year -2 days' AS c, 0.1::float8 + 0.2 AS d, '\x00ff'::bytea AS e"
    )
    Exports(another_workspace(), look, tmp_path).same("t")


def test_functions_of_a_user_s_own_are_not_taken_for_the_server_s(
    look, another_workspace, tmp_path, given_in
):
    """Another concat() and left(), which the search path has before the server's own."""
    database = look.one("SELECT current_database()")
    look("CREATE TABLE t AS SELECT 0.5::float8 AS a, '=x'::text AS b, now() AS c")
    for argument in ("float8", "text", "timestamptz", "anyelement"):
        look(f"CREATE FUNCTION concat({argument}) RETURNS text LANGUAGE sql AS $$SELECT 'bad'$$")
    look("CREATE FUNCTION left(text, int) RETURNS text LANGUAGE sql AS $$SELECT 'bad'$$")
    look(f"ALTER DATABASE {database} SET search_path TO public, pg_catalog")
    own = Exports(another_workspace(), look, tmp_path)
    assert b"bad" not in own.same("t")
    assert b"'=x" in own.run("t", "safe.csv", escape_formulas=True)


def test_dropped_columns_are_left_out(exports, look, given_in):
    """A dropped column, and one added with a default afterwards, are as COPY has them."""
    look("CREATE TABLE t (a int, b text, c int)")
    look("INSERT INTO t SELECT n, 'b', n FROM generate_series(1, 500) n")
    look("ALTER TABLE t DROP COLUMN b")
    look("ALTER TABLE t ADD COLUMN d text DEFAULT 'new'")
    look("INSERT INTO t SELECT n, n FROM generate_series(1, 500) n")
    assert exports.same("t").startswith(b"a,c,d\n1,1,new\n")


@pytest.mark.parametrize("rows", [0, 3])
def test_a_table_without_columns_gives_empty_lines(exports, look, rows, given_in):
    """A table with no columns has a header of nothing, and an empty line a row."""
    look("CREATE TABLE t ()")
    for _ in range(rows):
        look("INSERT INTO t DEFAULT VALUES")
    assert exports.same("t") == b"\n" * (rows + 1)


def test_a_table_without_rows_gives_a_header(exports, look):
    """No rows: the header alone, for the table and the query."""
    look('CREATE TABLE t (a int, "B ""c" text)')
    assert exports.same("t") == b'a,"B ""c"\n'


def test_one_row_of_100_mb_is_written(exports, look):
    """One value of 100 MB comes out whole."""
    look("CREATE TABLE t (a text)")
    look("INSERT INTO t SELECT repeat('0123456789', 10000000)")
    exports.run("t", "t.csv")
    with (exports.folder / "t.csv").open("rb") as file:
        assert file.readline() == b"a\n"
        line = file.readline()
        assert file.readline() == b""
    assert line == b"0123456789" * 10_000_000 + b"\n"


def test_many_rows_come_in_order(exports, many):
    """100,000 rows, read in many ranges by several workers, are in the order of COPY."""
    exports.same(many(100_000), workers=4)


def test_rows_come_in_order_where_the_server_reads_with_several_processes(
    exports, look, many, another_workspace, tmp_path
):
    """Rows of several processes come as they like; an export's lie as in the table."""
    many(60_000)
    database = look.one("SELECT current_database()")
    for name, value in {
        "parallel_setup_cost": 0,
        "parallel_tuple_cost": 0,
        "min_parallel_table_scan_size": 0,
        "max_parallel_workers_per_gather": 4,
        "enable_tidscan": "off",  # as before Postgres 14
    }.items():
        look(f"ALTER DATABASE {database} SET {name} TO {value}")
    workspace = another_workspace()
    for number, source in enumerate(("t", "SELECT * FROM t ORDER BY id")):
        path = tmp_path / f"{number}.csv"
        workspace.download(source, path, workers=1).wait(100)
        assert pd.read_csv(path).id.tolist() == list(range(1, 60_001))


def test_a_query_s_order_is_kept(exports, look):
    """ORDER BY holds in the file, also with rows of very different sizes."""
    look(
        "CREATE TABLE t AS SELECT n, repeat(md5(n::text), (n * 7919) % 400) AS a"
        " FROM generate_series(1, 4000) AS n"
    )
    query = "SELECT * FROM t ORDER BY md5(n::text) DESC"
    assert exports.run(query, workers=3) == copied(look.url, query)


def test_large_values_stored_aside_are_written(exports, look):
    """Values in TOAST, compressed and not, some 100 KB each, in many rows of few blocks."""
    look("CREATE TABLE t (n int, a text, b text)")
    look("ALTER TABLE t ALTER COLUMN b SET STORAGE EXTERNAL")
    look(
        "INSERT INTO t SELECT n, repeat(md5(n::text), 3000), repeat(n::text, 20000 / (n % 9 + 1))"
        " FROM generate_series(1, 150) AS n"
    )
    exports.same("t", workers=2)


def test_holes_are_passed_over(exports, look, many):
    """Deleted rows, emptied pages in front and in the middle, and rows put in again behind."""
    many(60_000)
    look("DELETE FROM t WHERE id < 25000 OR id % 3 = 0 OR id BETWEEN 40000 AND 50000")
    look("VACUUM t")
    look("UPDATE t SET note = 'moved' WHERE id % 100 = 1")
    exports.same("t")
    look("DELETE FROM t")
    assert exports.same("t") == b"id,hash,note,amount\n"


NAMES = [
    'Capital "quoted" name', "dots.in.it", "100%", "%s %(x)s", "{braces} {0}", ":colon ::int",
    "comma,semi;colon", "naïve ☃", "select", "line\nbreak", "back\\slash",
]  # fmt: skip


def test_any_name_of_a_table_and_a_column_is_quoted(exports, look):
    """A table and a column of an awkward name are exported, by name and by query."""
    for number, name in enumerate(NAMES):
        quoted = '"' + name.replace('"', '""') + '"'
        look(f"CREATE TABLE {quoted} ({quoted} text, b int)")
        look(f"INSERT INTO {quoted} VALUES ('a', 1), (NULL, 2)")
        expected = exports.same(quoted)
        assert exports.run(quoted, f"{number}.csv", escape_formulas=True) == expected, name


def test_a_schema_is_found(exports, look):
    """sales.orders and "My Schema"."T.x" are found in their schemas, not in another."""
    look("CREATE SCHEMA sales")
    look('CREATE SCHEMA "My Schema"')
    look("CREATE TABLE orders AS SELECT 'wrong' AS a")
    look("CREATE TABLE sales.orders AS SELECT 'right' AS a")
    look('CREATE TABLE "My Schema"."T.x" AS SELECT 1 AS "A"')
    assert exports.same("sales.orders") == b"a\nright\n"
    assert exports.same('"My Schema"."T.x"') == b"A\n1\n"


RELATIONS = {
    "view": "CREATE VIEW v AS SELECT id, hash FROM t WHERE id % 2 = 0 ORDER BY hash",
    "materialized view": "CREATE MATERIALIZED VIEW v AS SELECT id, hash FROM t ORDER BY hash",
    "unlogged table": "CREATE UNLOGGED TABLE v AS SELECT * FROM t",
    "view of a type that is not read back": "CREATE VIEW v AS SELECT adbin FROM pg_attrdef",
}


@pytest.mark.parametrize("kind", RELATIONS)
def test_views_are_exported(exports, look, many, kind):
    """What is no plain table is exported as COPY of a SELECT does."""
    many(3000)
    look(RELATIONS[kind])
    exports.same("v")


def test_partitions_and_children_are_included(exports, look):
    """A partitioned table, and one that others inherit from, give their children's rows too."""
    look("CREATE TABLE p (a int, b text) PARTITION BY RANGE (a)")
    look("CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (500)")
    look("CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (500) TO (1000)")
    look("INSERT INTO p SELECT (n * 37) % 1000, n FROM generate_series(1, 2000) AS n")
    look("CREATE TABLE parent (a int)")
    look("CREATE TABLE child (b int) INHERITS (parent)")
    look("INSERT INTO parent VALUES (1), (2)")
    look("INSERT INTO child SELECT n, n FROM generate_series(3, 9000) AS n")
    exports.same("p")
    exports.same("p1")
    assert exports.same("parent").startswith(b"a\n1\n2\n3\n")
    exports.same("child")


def test_row_level_security_hides_rows(look, reader):
    """A role to which a policy shows some rows gets those, and no other."""
    role, exports = reader
    look("CREATE TABLE t AS SELECT n AS a FROM generate_series(1, 1000) AS n")
    look("ALTER TABLE t ENABLE ROW LEVEL SECURITY")
    look("CREATE POLICY few ON t USING (a % 100 = 0)")
    look(f"GRANT SELECT ON t TO {role}")
    expected = "a\n" + "".join(f"{n}\n" for n in range(100, 1001, 100))
    assert exports.run("t").decode() == expected
    assert exports.run("SELECT * FROM t", "q.csv").decode() == expected


QUERIES = [
    "SELECT * FROM t ORDER BY id DESC",
    "select id, hash from t where id < 100;",
    "SELECT 1 AS a; -- the end",
    "SELECT 1 AS a -- the end",
    "SELECT 1 AS a /* the end */ ; ;\n-- again\n",
    "/* first */ -- then\n  (SELECT 1 AS a) UNION ALL (SELECT 2) ORDER BY 1",
    "WITH x AS (SELECT * FROM t LIMIT 3) SELECT * FROM x",
    "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 9) SELECT * FROM r",
    "VALUES (1, 'a'), (2, NULL), (3, '')",
    "TABLE t",
    "SELECT id AS a, hash AS a, 1, 2 FROM t LIMIT 5",
    "SELECT '50%' AS \"100%\", '%s' AS \"%(x)s\" FROM t WHERE hash LIKE '%a%' AND id % 2 = 0",
    "SELECT '{}' AS \"{0}\", '{x}'::text[] AS \"{{y}}\"",
    "SELECT ':a' AS \":b\", '1'::int AS c",
    "SELECT ';' AS a, $$;--$$ AS \"b;\", $x$;$x$ AS c, E'\\';' AS d;",
    "SELECT 'it''s -- no comment' AS a;",
    "SELECT * FROM t WHERE false",
    "SELECT FROM t LIMIT 3",
    "SELECT pg_sleep(0), ROW(1, 'a,b') AS r, 'lit', NULL AS n",
    "SELECT ARRAY[ROW(1, NULL)] AS a",
    "SELECT s.short FROM (VALUES (1)) v(a) LEFT JOIN (SELECT 'x'::must AS short) s ON false",
    "SELECT *, now() IS NULL AS never FROM pg_stats ORDER BY tablename, attname LIMIT 50",
    "SELECT adbin FROM pg_attrdef ORDER BY oid LIMIT 3",
    "SELECT(1)AS a",
    "SELECT-1 AS a",
    "select'x'as a",
    "SELECT 1 AS \"\t\"",
    "SELECT " + ", ".join(f"{n}::float8 / 7 AS c{n}" for n in range(700)),
]  # fmt: skip


@pytest.fixture
def queried(look, many):
    look("CREATE DOMAIN must AS text NOT NULL")
    look("CREATE TABLE d (a int DEFAULT 5, b text DEFAULT 'x' || now())")
    return many(400)


def test_queries_of_each_kind_give_what_copy_gives(exports, look, queried):
    """SELECT, WITH, VALUES, TABLE; comments, semicolons, percent signs, braces, odd types."""
    for number, query in enumerate(QUERIES):
        bare = query.partition("; -- ")[0].partition(" /* the end")[0].rstrip(";")
        exported = exports.run(query, f"{number}.csv", workers=1)
        assert exported == copied(look.url, bare), query


def test_a_query_that_takes_long_shows_its_rows(exports, look, many):
    """While a query is materialized, progress counts its rows; at the end done equals total."""
    many(50_000)
    job = exports.start("SELECT * FROM t")
    receipt = job.wait(60)
    assert (job.progress.done, job.progress.total, job.progress.unit) == (50_000, 50_000, "rows")
    assert receipt.rows_loaded == 50_000
    job = exports.start("t", "t.csv")
    job.wait(60)
    blocks = look.one("SELECT pg_relation_size('t') / 8192")
    assert (job.progress.done, job.progress.total, job.progress.unit) == (blocks, blocks, "blocks")
    assert job.progress.rows == 50_000


OPTIONS = {
    "delimiter": ({"delimiter": ";"}, "FORMAT csv, HEADER, DELIMITER ';'"),
    "tab": ({"delimiter": "\t"}, "FORMAT csv, HEADER, DELIMITER E'\\t'"),
    "quote as delimiter": ({"delimiter": "'"}, "FORMAT csv, HEADER, DELIMITER ''''"),
    "backslash": ({"delimiter": "\\"}, "FORMAT csv, HEADER, DELIMITER '\\'"),
    "null": ({"null_value": "NA"}, "FORMAT csv, HEADER, NULL 'NA'"),
    "long null": ({"null_value": r"\N 'é' %s {}"}, r"FORMAT csv, HEADER, NULL '\N ''é'' %s {}'"),
    "no header": ({"header": False}, "FORMAT csv"),
    "quoted": ({"quote_all": True}, "FORMAT csv, HEADER, FORCE_QUOTE *"),
    "all": (
        {"delimiter": "|", "null_value": "-", "header": False, "quote_all": True},
        "FORMAT csv, DELIMITER '|', NULL '-', FORCE_QUOTE *",
    ),
}


@pytest.mark.sample(6)
@pytest.mark.parametrize("case", OPTIONS)
def test_options_are_those_of_copy(exports, look, case, given_in):
    """Each option does what COPY's does, for a table and for a query."""
    given, options = OPTIONS[case]
    look('CREATE TABLE t (a text, "b;|\'\\" text, "NA" int)')
    look(
        "INSERT INTO t VALUES ('', NULL, 1), (NULL, 'NA', 2), ('a;b|c,d', E'\\t', NULL),"
        " ('-', E'\\\\N ''é'' %s {}', 3), ('\"', '''', 4)"
    )
    expected = copied(look.url, "SELECT * FROM t", options)
    assert exports.run("t", "t.csv", **given) == expected
    assert exports.run("SELECT * FROM t", "q.csv", **given) == expected


def test_formulas_are_made_harmless_in_texts_alone(exports, look, given_in):
    """escape_formulas puts an apostrophe before = + - @ tab and CR in texts and in the header."""
    look(
        'CREATE TABLE t ("=h" text, b char(6), c int, d numeric, e timestamptz, f text[], g json,'
        ' "h" varchar)'
    )
    look(
        "INSERT INTO t VALUES ('=1+1', '-x', -1, -1.5, '2013-01-01', '{=1}', '\"=\"', E'\\tx'),"
        " ('+1', 'ab', 1, 2, NULL, NULL, NULL, '@a'), (NULL, '', 0, 0, NULL, NULL, '-3', ''),"
        " ('a=1', '=', 0, 0, NULL, NULL, NULL, E'\\r')"
    )
    expected = copied(
        look.url,
        'SELECT CASE WHEN "=h" ~ \'^[-=+@]\' THEN \'\'\'\' || "=h" ELSE "=h" END AS "\'=h",'
        " CASE WHEN b ~ '^[-=]' THEN ('''' || concat(b)) ELSE concat(b) END AS b, c, d, e, f,"
        " CASE WHEN g::text = '-3' THEN '''-3' ELSE g::text END AS g,"
        " CASE WHEN h ~ E'^[@\\t\\r]' THEN '''' || h ELSE h END AS h FROM t",
    )
    assert exports.run("t", "t.csv", escape_formulas=True) == expected
    assert exports.run("SELECT * FROM t", "q.csv", escape_formulas=True) == expected
    assert exports.run("t", "plain.csv") == copied(look.url, "SELECT * FROM t")


def unpacked(path):
    data = path.read_bytes()
    if path.suffix == ".gz":
        subprocess.run(["gzip", "-t", str(path)], check=True)
        return gzip.decompress(data)
    reader = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data), read_across_frames=True)
    return reader.read()


@pytest.mark.sample(3)
@pytest.mark.parametrize("ending", ["gz", "zst", "GZ"])
@pytest.mark.parametrize("source", ["t", "SELECT * FROM t ORDER BY hash"])
def test_compressed_exports_unpack_to_the_same_bytes(exports, look, many, ending, source):
    """gzip and zstd read the members of all ranges as one file, and so does pandas."""
    many(30_000)
    select = source if " " in source else f"SELECT * FROM {source}"
    exports.run(source, f"t.csv.{ending}", workers=3)
    path = exports.folder / f"t.csv.{ending}"
    path = path.rename(path.with_suffix(path.suffix.lower()))
    expected = copied(look.url, select)
    assert unpacked(path) == expected
    assert path.stat().st_size < len(expected) / 1.5
    frame = pd.read_csv(path)
    assert len(frame) == 30_000
    assert frame.equals(pd.read_csv(io.BytesIO(expected)))


@pytest.mark.parametrize("ending", ["gz", "zst"])
@pytest.mark.parametrize("header", [True, False])
def test_empty_exports_are_valid_compressed_files(exports, look, ending, header):
    """Without rows, with or without a header, the file still is one that unpacks."""
    look("CREATE TABLE t (a int, b int)")
    for name, source in (("t", "t"), ("q", "SELECT * FROM t")):
        exports.run(source, f"{name}.{ending}", header=header)
        assert unpacked(exports.folder / f"{name}.{ending}") == (b"a,b\n" if header else b"")
        assert (exports.folder / f"{name}.{ending}").stat().st_size > 0
