"""names="snake" from a file's header to the table's columns, both ways of reading."""

import pytest
from fix_files import replace_line

import taskwidgets as tw
from taskwidgets import JobFailed
from taskwidgets.errors import OptionError, SourceError, TargetMismatch
from taskwidgets.tabular.identifiers import snake_names
from taskwidgets.widgets import markup

HEADER = "Größe (cm),Order,a,A,,a "
COLUMNS = ["groesse_cm", "order_", "a", "a_2", "column_5", "a_3"]
WAYS = pytest.mark.parametrize("on_error", ["stop", "reject"])


def columns_of(look, table):
    rows = look(
        "SELECT column_name, data_type FROM information_schema.columns"
        f" WHERE table_schema = 'public' AND table_name = '{table}' ORDER BY ordinal_position"
    )
    return dict(rows)


@WAYS
def test_columns_get_names_that_need_no_quotes(workspace, csv_file, look, on_error):
    """The table's columns, their types by either name, and what was renamed in the receipt."""
    path = csv_file(HEADER, "180,1,x,y,z,w", "165,2,x,y,z,w")
    types = {"Größe (cm)": "numeric(6,2)", "order_": "bigint"}
    job = workspace.upload(path, "t", names="snake", on_error=on_error, types=types)
    receipt = job.wait()
    assert list(columns_of(look, "t")) == COLUMNS
    assert list(columns_of(look, "t").values())[:2] == ["numeric", "bigint"]
    assert look("SELECT groesse_cm, order_, a, a_2, column_5, a_3 FROM t ORDER BY order_")[1:] == [
        (165, 2, "x", "y", "z", "w")
    ]
    (note,) = [note for note in receipt.notes if "renamed" in note]
    assert note == (
        "columns were renamed: 'Größe (cm)' is groesse_cm, 'Order' is order_, 'A' is a_2, "
        "'' is column_5, 'a ' is a_3"
    )
    shown = tw.preview(path, names="snake")
    assert list(shown.columns) == COLUMNS
    assert shown.renamed["groesse_cm"] == "Größe (cm)"
    assert "'Größe (cm)' is groesse_cm" in repr(shown)


@WAYS
def test_the_rule_is_part_of_what_a_call_means(workspace, csv_file, on_error):
    """The same call is the same job; with another rule it is another one."""
    path = csv_file("A b,c", "1,2")
    options = {"if_exists": "replace", "on_error": on_error}
    first = workspace.upload(path, "t", names="snake", **options)
    first.wait()
    assert workspace.upload(path, "t", names="snake", **options).id == first.id
    plain = workspace.upload(path, "t", **options)
    assert plain.id != first.id
    plain.wait()
    assert plain.receipt.notes == ()


@WAYS
def test_files_with_other_spellings_are_appended_to_one_table(workspace, csv_file, look, on_error):
    """Each file's names become those of the table, in whatever order; others are refused."""
    options = {"names": "snake", "if_exists": "append", "on_error": on_error}
    workspace.upload(csv_file("Flight No.,DepDelay", "1,5", name="a"), "t", **options).wait()
    workspace.upload(csv_file("dep_delay,flight no", "6,2", name="b"), "t", **options).wait()
    assert look("SELECT flight_no, dep_delay FROM t ORDER BY 1") == [(1, 5), (2, 6)]
    with pytest.raises(TargetMismatch, match='no column "arr_delay"'):
        workspace.upload(csv_file("Flight No.,ArrDelay", "1,5", name="c"), "t", **options)


@WAYS
def test_a_wrong_name_is_told_with_those_there_are(workspace, csv_file, on_error):
    """types= with a name that neither file nor table has names what there is; so does names=."""
    path = csv_file("Flight No.,Carrier", "1,UA")
    options = {"names": "snake", "on_error": on_error}
    with pytest.raises(OptionError, match=r"'Tail'.*it has 'flight_no', 'carrier'"):
        workspace.upload(path, "t", types={"Tail": "text"}, **options)
    with pytest.raises(OptionError, match=r"'flight_no' is named twice, also as 'Flight No.'"):
        workspace.upload(path, "t", types={"flight_no": "text", "Flight No.": "text"}, **options)
    with pytest.raises(OptionError, match='names must be "snake", or left out'):
        workspace.upload(path, "t", names="camel", on_error=on_error)
    with pytest.raises(OptionError, match='names must be "snake", or left out'):
        tw.preview(path, names="camel")


def test_options_that_name_columns_take_the_files_names(workspace, csv_file, look):
    """date_formats and booleans mean the same column by its old name or its new one."""
    path = csv_file("Tag der Buchung;Bezahlt?;N", "03.02.2024;wahr;1", "04.02.2024;falsch;2")
    job = workspace.upload(
        path, "t", names="snake", on_error="reject",
        types={"Tag der Buchung": "date", "bezahlt": "boolean"},
        date_formats={"Tag der Buchung": "%d.%m.%Y"}, booleans={"bezahlt": ("wahr", "falsch")},
    )  # fmt: skip
    job.wait()
    assert look("SELECT tag_der_buchung::text, bezahlt, n FROM t ORDER BY n") == [
        ("2024-02-03", True, 1), ("2024-02-04", False, 2),
    ]  # fmt: skip


@WAYS
def test_a_mended_file_goes_on_under_the_new_names(workspace, many_rows, on_error):
    """A failed job's file is mended, and its header still is the one that was renamed."""
    path = many_rows(5_000)
    replace_line(path, 1, "Flight ID,ID,Day,Note")
    good = path.read_text().split("\n")[3999]
    replace_line(path, 4000, "x" + good[1:])
    options = {"names": "snake", "types": {"flight_id": "integer"}, "on_error": on_error}
    if on_error == "reject":
        options |= {"max_rejects": 0}
    job = workspace.upload(path, "t", **options)
    with pytest.raises(JobFailed):
        job.wait()
    replace_line(path, 4000, good)
    again = workspace.upload(path, "t", **options)
    assert again.id == job.id
    if on_error == "stop":
        assert again.wait().rows_loaded == 5_000
    else:  # the reject is in the ledger already: that part of the file is loaded
        with pytest.raises(JobFailed, match="changed in a part that is loaded already"):
            again.wait()


def test_every_keyword_and_system_column_is_kept_off(workspace, look):
    """Of this server's keywords and system columns, each becomes a name that it takes unquoted."""
    words = [word for (word,) in look("SELECT word FROM pg_get_keywords()")]
    words += [
        name for (name,) in look(
            "SELECT attname FROM pg_attribute WHERE attrelid = 'pg_class'::regclass AND attnum < 0"
        )
    ]  # fmt: skip
    names = snake_names([word.upper() for word in words])
    with workspace.engine.begin() as connection:
        connection.exec_driver_sql(
            f"CREATE TABLE keywords ({', '.join(n + ' int' for n in names)})"
        )
        for name in names:
            connection.exec_driver_sql(f"SELECT {name} FROM keywords WHERE {name} = 1")
    free = [word for word, kind in look("SELECT word, catcode FROM pg_get_keywords()")
            if kind in "UC"]  # fmt: skip
    assert snake_names(free) == tuple(free)  # those that need no change have none


def test_without_the_rule_names_are_kept(workspace, csv_file, look):
    """Columns keep their names, and the strict way refuses those that Postgres cannot have."""
    workspace.upload(csv_file("Größe (cm),B", "1,2"), "t").wait()
    assert list(columns_of(look, "t")) == ["Größe (cm)", "B"]
    with pytest.raises(SourceError, match="stands at positions"):
        workspace.upload(csv_file("a,a", "1,2", name="twice"), "u")
    job = workspace.upload(csv_file("a,a", "1,2", name="twice"), "u", on_error="reject")
    assert job.wait().notes == ("columns were renamed: 'a' is a_2",)


@WAYS
def test_a_system_column_s_name_is_refused_with_a_way_out(workspace, csv_file, look, on_error):
    """Boxes have xmin and xmax: the error says what makes columns of them."""
    path = csv_file("image,xmin,xmax", "a,1,2", "b,3,4")
    with pytest.raises(SourceError, match='names="snake" makes it xmin_') as caught:
        workspace.upload(path, "boxes", on_error=on_error)
    assert caught.value.column == "xmin"
    workspace.upload(path, "boxes", on_error=on_error, names="snake").wait()
    assert look("SELECT image, xmin_, xmax_ FROM boxes ORDER BY image")[1] == ("b", 3, 4)


def test_a_panel_stays_small_whatever_was_renamed(workspace, csv_file):
    """The receipt has all names, the panel the first of them, escaped."""
    names = ",".join(f"Column <b>{number}" for number in range(60))
    job = workspace.upload(csv_file(names, ",".join("1" * 60)), "t", names="snake")
    (note,) = job.wait().notes
    assert note.endswith("'Column <b>59' is column_b_59")
    shown = markup.facts(job, None)
    assert "(job.receipt.notes has all of it)" in shown
    assert "<b>" not in shown
    assert len(shown) < 2000
