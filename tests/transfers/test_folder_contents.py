"""What is in a folder of part files: the rows of one COPY, in every format, with their types."""

import datetime

import pyarrow
import pyarrow.parquet
import pytest
from fix_exports import copied
from fix_folders import fetched, unpacked

from taskwidgets import JobFailed
from taskwidgets.errors import OptionError, SourceError, TargetError
from taskwidgets.transfers import folder_download, parquet_parts

TYPES = """
    CREATE TABLE kinds AS SELECT
      n AS id, n::smallint AS small, n * 10000000000 AS large, (n * 0.25)::real AS real,
      CASE n WHEN 1 THEN 'NaN' WHEN 2 THEN '-Infinity' ELSE n / 7.0 END::double precision AS double,
      n % 2 = 0 AS flag, CASE WHEN n % 3 = 0 THEN NULL WHEN n % 3 = 1 THEN '' ELSE
        E'two\\nlines, "quoted" ' || n END AS note,
      'x'::char(3) AS padded, 'v'::varchar(5) AS short,
      date '0001-01-01' + (n % 1000) * 3000 AS day,
      timestamp '1969-12-31 23:59:59.5' + n * interval '1 hour'
        AS moment, timestamptz '2024-03-31 00:30:00.123456+01' + n * interval '1 hour' AS instant,
      (n * 1.25)::numeric(10,2) AS price, (n / 3.0)::numeric AS exact,
      (n * 1000)::numeric(5,-3) AS coarse, ARRAY[n, NULL] AS list, '\\xdead'::bytea AS raw,
      '{"a": 1}'::jsonb AS tree, interval '1 day' AS span, time '12:30' AS at
    FROM generate_series(1, 10000) AS n
"""


@pytest.mark.sample(2)
@pytest.mark.parametrize("kind", ["csv", "csv.gz", "csv.zst"])
@pytest.mark.parametrize("source", ["t", "SELECT * FROM t ORDER BY hash"])
def test_the_parts_together_are_one_copy(folders, many, source, kind):
    """The rows of all parts, in their order, are the bytes of COPY; the manifest tells of each."""
    many()
    select = source if " " in source else "SELECT * FROM t"
    job = folders.start(source, format=kind, workers=2)
    receipt = job.wait(60)
    folders.check(receipt, folders.expected(select))
    told, names = folders.manifest(), [path.name for path in folders.parts()]
    assert names == [f"part-{number:05}.{kind}" for number in range(len(names))]
    assert len(names) > 10
    assert receipt.target == f"{folders.path}/"
    assert (told["job"], told["source"], told["format"]) == (job.id, source, kind)
    assert [column["name"] for column in told["columns"]] == ["id", "hash", "note", "amount"]
    assert told["columns"][0]["type"] == "integer"
    assert {path.stat().st_mode & 0o777 for path in folders.parts()} == {0o644}


def test_each_part_has_a_header_or_none(folders, many):
    """The header is COPY's; other options are as those of one file."""
    many(3000)
    folders.start("t", delimiter=";", null_value="-", quote_all=True).wait(60)
    options = "FORMAT csv, HEADER, DELIMITER ';', NULL '-', FORCE_QUOTE *"
    header = copied(folders.look.url, "SELECT * FROM t", options).partition(b"\n")[0]
    for path in folders.parts():
        assert unpacked(path).startswith(header + b"\n")
    receipt = folders.start("t", header=False, if_exists="replace").wait(60)
    folders.check(receipt, folders.expected())


@pytest.mark.parametrize("kind", ["csv", "csv.zst", "parquet"])
@pytest.mark.parametrize("source", ["empty", "SELECT * FROM empty"])
def test_an_empty_table_is_one_part(folders, look, source, kind):
    """Columns and types are there, and no row."""
    look("CREATE TABLE empty (id int, note text)")
    receipt = folders.start(source, format=kind).wait(60)
    assert receipt.rows_read == 0
    (path,) = folders.parts()
    if kind == "parquet":
        table = pyarrow.parquet.read_table(path)
        assert (table.num_rows, table.column_names) == (0, ["id", "note"])
    else:
        assert unpacked(path) == b"id,note\n"


def test_deleted_rows_leave_parts_with_few_rows(folders, look, many):
    """Blocks without rows are no fault."""
    many()
    look("DELETE FROM t WHERE id BETWEEN 1000 AND 59000")
    folders.check(folders.start("t").wait(60), folders.expected())


@pytest.mark.parametrize("source", ["kinds", "SELECT * FROM kinds"])
def test_parquet_has_the_types_and_the_values(folders, look, source, monkeypatch):
    """Every value is the database's; NULL is no empty text; what Parquet does not know is text."""
    monkeypatch.setattr(parquet_parts, "GROUP_BYTES", 4000)
    monkeypatch.setattr(folder_download, "PART_BYTES", 64 << 20)  # more than comes in one piece
    monkeypatch.setattr(folder_download, "SMALLEST_PART", 64 << 20)
    look(TYPES)
    look(
        "ALTER DATABASE {} SET DateStyle TO 'German'".format(look.one("SELECT current_database()"))
    )
    folders.exports.workspace.engine.dispose()
    receipt = folders.start(source, format="parquet").wait(60)
    table = pyarrow.parquet.read_table(folders.path / "part-00000.parquet")
    assert receipt.rows_loaded == table.num_rows == 10_000
    assert pyarrow.parquet.ParquetFile(folders.path / "part-00000.parquet").num_row_groups > 1
    text = pyarrow.string()
    assert table.schema.types == [
        pyarrow.int32(), pyarrow.int16(), pyarrow.int64(), pyarrow.float32(), pyarrow.float64(),
        pyarrow.bool_(), text, text, text, pyarrow.date32(), pyarrow.timestamp("us"),
        pyarrow.timestamp("us", tz="UTC"), pyarrow.decimal128(10, 2), text, text, text, text, text,
        text, text,
    ]  # fmt: skip
    kept = "id, small, large, real, double, flag, note, padded, short, day, moment, instant, price"
    written = "exact, coarse, list, raw, tree, span, at"
    casts = ", ".join(f"{name}::text" for name in written.split(", "))
    expected = fetched(look.url, f"SELECT {kept}, {casts} FROM kinds ORDER BY ctid")
    found = [tuple(row.values()) for row in table.to_pylist()]
    assert repr(found).replace("zoneinfo.ZoneInfo(key='UTC')", "datetime.timezone.utc") == repr(
        expected
    )
    assert [column["type"] for column in folders.manifest()["columns"]][9:15] == [
        "date", "timestamp without time zone", "timestamp with time zone", "numeric(10,2)",
        "numeric", "numeric(5,-3)",
    ]  # fmt: skip


def test_parquet_parts_together_are_the_table(folders, look, many):
    """Of many parts, written by two workers, no row is lost or doubled."""
    many()
    folders.start("t", format="parquet", workers=2).wait(60)
    table = pyarrow.concat_tables(pyarrow.parquet.read_table(path) for path in folders.parts())
    assert len(folders.parts()) > 10
    assert [tuple(row.values()) for row in table.to_pylist()] == fetched(
        look.url, "SELECT * FROM t ORDER BY ctid"
    )


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("date", "infinity"),
        ("timestamp", "0044-03-15 12:00:00 BC"),
        ("timestamptz", "-infinity"),
        ("numeric(5,2)", "NaN"),
    ],
)
def test_a_value_without_a_place_in_parquet_says_so(folders, look, column, value):
    """The job fails and names the column; the query that it proposes goes through."""
    look(f"CREATE TABLE odd AS SELECT 1 AS id, '{value}'::{column} AS odd")
    job = folders.start("odd", format="parquet")
    with pytest.raises(JobFailed, match=r'column "odd" .* has no place for') as caught:
        job.wait(60)
    assert isinstance(caught.value.__cause__, TargetError)
    job.terminate()
    job.join(None)
    assert folders.names() == []
    folders.start("SELECT id, odd::text FROM odd", format="parquet").wait(60)
    (path,) = folders.parts()
    assert pyarrow.parquet.read_table(path).to_pylist() == [{"id": 1, "odd": value}]


def test_one_column_of_nulls_and_empty_texts(folders, look):
    """An empty line is NULL, a pair of quotes an empty text, also where there is nothing else."""
    look("CREATE TABLE one AS SELECT unnest(ARRAY[NULL, '', 'a', NULL, E'\\n']) AS note")
    folders.start("one", format="parquet").wait(60)
    (path,) = folders.parts()
    assert pyarrow.parquet.read_table(path)["note"].to_pylist() == [None, "", "a", None, "\n"]


def test_a_record_larger_than_a_row_group(folders, look, monkeypatch):
    """What is held back until a record is whole may be of any size."""
    monkeypatch.setattr(parquet_parts, "GROUP_BYTES", 1000)
    look(
        "CREATE TABLE wide AS SELECT n, repeat(E'\\n\"', 3000000) AS note"
        " FROM generate_series(1, 2) n"
    )
    folders.start("wide", format="parquet").wait(60)
    notes = [
        note
        for path in folders.parts()
        for note in pyarrow.parquet.read_table(path)["note"].to_pylist()
    ]
    assert notes == ['\n"' * 3_000_000] * 2


@pytest.mark.parametrize(
    ("target", "options", "fault"),
    [
        ("out", {"format": "csv"}, "ends in /"),
        ("out.csv", {"format": "parquet"}, "ends in /"),
        ("out/", {"format": "xml"}, "format must be one of"),
        ("out/", {"format": "parquet", "delimiter": ";"}, "delimiter= is for CSV"),
        ("out/", {"format": "parquet", "header": False}, "header= is for CSV"),
        ("out/", {"format": "parquet", "escape_formulas": True}, "escape_formulas= is for CSV"),
        ("out/", {"storage_options": {}}, "storage_options are for a URL"),
        ("memory://b/out.csv", {}, "end it with a /"),
        ("https://example.org/out/", {}, "nothing can be written by https"),
        ("nonsense://b/out/", {}, "knows no protocol 'nonsense'"),
        ("memory://b/out/", {"storage_options": 3}, "must be a dictionary"),
    ],
)
def test_options_that_make_no_sense(folders, look, target, options, fault):
    """They are refused at once, and nothing is begun."""
    look("CREATE TABLE t AS SELECT 1 AS id")
    where = target if "://" in target else f"{folders.base}/{target}"
    with pytest.raises(OptionError, match=fault):
        folders.start("t", where, **options)
    assert look.untouched()
    assert folders.names() == []


def test_two_columns_of_one_name_are_csv_and_no_parquet(folders):
    """What Parquet cannot tell apart is refused before anything is begun."""
    query = "SELECT 1 AS a, 2 AS a"
    with pytest.raises(OptionError, match='two columns are called "a"'):
        folders.start(query, format="parquet")
    folders.check(folders.start(query).wait(60), b"1,2\n")


@pytest.mark.parametrize(
    ("package", "options", "extra"),
    [("pyarrow", {"format": "parquet"}, "parquet"), ("fsspec", {}, "remote")],
)
def test_a_missing_package_names_its_extra(folders, look, monkeypatch, package, options, extra):
    """Without pyarrow no Parquet, without fsspec no URL; the error says what to install."""
    look("CREATE TABLE t AS SELECT 1 AS id")
    found = parquet_parts.extra.__globals__["importlib"].util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *rest: None if name == package else found(name)
    )
    target = "memory://b/out/" if package == "fsspec" else None
    with pytest.raises(SourceError, match=rf"taskwidgets\[{extra}\]"):
        folders.start("t", target, **options)
    assert look.untouched()


def test_moments_before_the_calendar(folders, look):
    """Days of the first year are days."""
    look("CREATE TABLE early AS SELECT date '0001-01-01' AS day")
    folders.start("early", format="parquet").wait(60)
    (path,) = folders.parts()
    assert pyarrow.parquet.read_table(path)["day"].to_pylist() == [datetime.date(1, 1, 1)]
