"""The forms without a front end: what they hold, what they do, and the call they end in."""

import ast
import asyncio
import threading
from datetime import UTC, datetime

import pytest
from psycopg2 import sql

import taskwidgets as tw
from taskwidgets.errors import OptionError, SourceError, TargetExists
from taskwidgets.forms import DownloadForm, UploadForm
from taskwidgets.forms.folders import Folders
from taskwidgets.runtime.threads import LoopHandle
from taskwidgets.widgets.download_view import DownloadView
from taskwidgets.widgets.newest import Newest
from taskwidgets.widgets.panel import Panel
from taskwidgets.widgets.upload_view import UploadView

NASTY = "<img src=x onerror=alert(1)> \"q\" 'a'\nnew"  # in the name of whatever can have one


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current folder, as a kernel has its notebook's."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def form(workspace, here):
    return UploadForm(workspace)


def evaluated(code, workspace):
    """What the line of code calls, with everything of it evaluated but the call itself."""
    tree = ast.parse(code, mode="eval").body
    assert isinstance(tree, ast.Call)
    assert ast.unparse(tree.func) in ("tw.upload", "tw.download")
    positional = [ast.literal_eval(one) for one in tree.args]
    options = {one.arg: ast.literal_eval(one.value) for one in tree.keywords}
    return getattr(tw, tree.func.attr)(*positional, **options, workspace=workspace)


# ---------------------------------------------------------------- the door


def test_no_arguments_make_a_form(workspace):
    """Both functions give a form without arguments, and a job with them."""
    assert isinstance(tw.upload(workspace=workspace), UploadForm)
    assert isinstance(tw.download(workspace=workspace), DownloadForm)


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: tw.upload("x.csv"), "table is missing"),
        (lambda: tw.upload(table="x"), "source is missing"),
        (lambda: tw.download("x"), "path is missing"),
        (lambda: tw.upload(if_exists="append"), "if_exists"),
    ],
)
def test_half_a_call_is_an_error_with_a_word(call, word):
    """One of the two without the other names the missing one; nothing is connected."""
    with pytest.raises(OptionError, match=word):
        call()


# ---------------------------------------------------------------- folders


def test_folders_end_at_the_root(tmp_path):
    """Neither .. nor a link nor an absolute path leads out; hidden and other files are left out."""
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (tmp_path / "secret.csv").write_text("a\n1\n")
    for name in ("b.csv", "A.tsv", "notes.ipynb", ".hidden.csv"):
        (root / name).write_text("a\n1\n")
    (root / "out").symlink_to(tmp_path)
    (root / "out.csv").symlink_to(tmp_path / "secret.csv")
    (root / "loop").symlink_to(root / "loop")
    folders = Folders(root)
    listing = folders.listing(root)
    assert [entry.name for entry in listing.entries] == ["sub", "A.tsv", "b.csv"]
    assert listing.others == 1
    assert folders.inside("sub/../b.csv") == root / "b.csv"
    for path in (
        "..",
        "sub/../..",
        "out/secret.csv",
        "out.csv",
        tmp_path / "secret.csv",
        "/",
        "a\0",
    ):
        with pytest.raises(SourceError):
            folders.inside(path)
    with pytest.raises(SourceError, match="cannot be looked into"):
        folders.listing(root / "nothing")


def test_a_sent_file_replaces_none(tmp_path):
    """A file is written under its own name, and never over another, nor elsewhere."""
    folders = Folders(tmp_path)
    assert folders.save(tmp_path, "new.csv", b"a\n1\n").read_bytes() == b"a\n1\n"
    with pytest.raises(TargetExists, match=r"new\.csv exists already"):
        folders.save(tmp_path, "new.csv", b"other")
    assert (tmp_path / "new.csv").read_bytes() == b"a\n1\n"
    for name in ("../up.csv", "a/b.csv", "", ".profile", "a\0.csv", "..\\up.csv"):
        with pytest.raises(OptionError):
            folders.save(tmp_path, name, b"")


# ---------------------------------------------------------------- upload


def test_an_upload_that_changes_nothing_is_the_shortest_call(form, csv_file, look):
    """File and proposed table alone; the job loads, and the form is its job from then on."""
    csv_file("id,name", "1,a", "2,b", name="My flights 2013.csv.txt")
    form.choose("My flights 2013.csv.txt")
    assert form.look().preview.columns == ("id", "name")
    assert form.code() == 'tw.upload("My flights 2013.csv.txt", "my_flights_2013_csv")'
    form.table = "flights"
    job = form.start()
    job.wait(60)
    assert form.job is job
    assert repr(form) == repr(job)
    assert look.rows("flights") == [(1, "a"), (2, "b")]


def test_only_what_was_changed_is_passed(form, csv_file):
    """Options stand in the call when they were changed, and go when they are taken back."""
    csv_file("a;b", "1;x", "2;y", name="semi.csv")
    form.choose("semi.csv")
    form.look()
    assert form.code() == 'tw.upload("semi.csv", "semi")'  # an upload finds the semicolon itself
    form.change(delimiter=",", header=False)
    form.types["b"] = "varchar(3)"  # of a column that is not there any more
    assert form.look().preview.columns == ("column_1",)
    assert form.options() == {"delimiter": ",", "header": False}
    form.change(delimiter=None, header=None)
    form.if_exists, form.on_error, form.workers, form.max_rate = "append", "reject", 2, 1e6
    assert form.look().preview.columns == ("a", "b")
    assert form.options() == {
        "if_exists": "append", "on_error": "reject", "types": {"b": "varchar(3)"}, "workers": 2,
        "max_rate": 1e6,
    }  # fmt: skip
    assert len(form.code().splitlines()) > 1
    with pytest.raises(OptionError, match="escapechar"):
        form.change(escapechar="\\")


@pytest.mark.parametrize(
    ("content", "changes", "expected"),
    [
        (b"id,city\n1,K\xf6ln\n2,M\xfcnchen\n3,F\xfcrth\n", {}, [(1, "Köln"), (2, "München"),
                                                                 (3, "Fürth")]),
        (b"id,n\n1,5\n2,NA\n3,7\n4,NA\n", {}, [(1, 5), (2, None), (3, 7), (4, None)]),
        (b"id;price\n1;1,50\n2;2,25\n3;0,75\n", {}, [(1, 1.5), (2, 2.25), (3, 0.75)]),
        (b"id,n\n1,-\n2,x\n3,\n", {"null_values": ["-", ""]}, [(1, None), (2, "x"), (3, None)]),
        ("id,n\n1,é\n".encode("utf-16"), {}, [(1, "é")]),
        (b"x,1\ny,2\n", {"header": False}, [("x", 1), ("y", 2)]),
        (b"id,n\n1,a\"\"b\n2,\"c\n", {"quotechar": ""}, [(1, 'a""b'), (2, '"c')]),
        (b"made today\n\nid,n\n1,2\n2,3\n3,4\n", {}, [(1, 2), (2, 3), (3, 4)]),
    ],
    ids=["latin", "NA", "comma", "nulls", "utf16", "no header", "no quotes", "preamble"],
)  # fmt: skip
def test_what_is_seen_is_what_is_loaded(form, here, look, workspace, content, changes, expected):
    """The table has the rows of the preview, in a load that stops at faults as well; the line of
    code is the same job."""
    (here / "seen.csv").write_bytes(content)
    form.choose("seen.csv")
    form.change(**changes)
    shown = form.look().preview
    job = form.start()
    job.wait(60)
    assert look.rows("seen") == expected
    assert look.types("public", "seen") == dict(shown.types)
    assert evaluated(form.code(), workspace) is job


def test_names_of_all_kinds_come_through(form, here, look, workspace):
    """A file, a table and a column named with markup, quotes and newlines; also a leading ~."""
    name = f"~{NASTY.replace('/', '')}.csv"
    (here / name).write_text(f'id,"{NASTY.replace(chr(34), chr(34) * 2)}"\n1,2\n')
    form.choose(name)
    form.table = NASTY
    form.types[NASTY] = "numeric(5,1)"
    job = form.start()
    job.wait(60)
    assert look.types("public", NASTY)[NASTY] == "numeric(5,1)"
    assert evaluated(form.code(), workspace) is job


def test_an_error_leaves_the_form_as_it_is(form, csv_file):
    """What is missing or wrong is raised; all that was filled in stays."""
    with pytest.raises(OptionError, match="choose a file"):
        form.start()
    csv_file("a", "1", name="x.csv")
    form.choose("x.csv")
    form.table = " "
    with pytest.raises(OptionError, match="name first"):
        form.start()
    form.table, form.types = "x", {"a": "nonsense"}
    with pytest.raises(OptionError, match="nonsense"):
        form.start()
    assert (form.table, form.types, form.job) == ("x", {"a": "nonsense"}, None)
    with pytest.raises(SourceError):
        form.choose("../x.csv")


# ---------------------------------------------------------------- download


@pytest.fixture
def tables(look):
    """A table, a view, one in another schema, one nobody names without care."""
    look("CREATE TABLE flights AS SELECT n AS id, 'x' || n AS name, n % 3 AS third"
         " FROM generate_series(1, 30) n")  # fmt: skip
    look("CREATE TABLE measured AS SELECT 1 AS a")
    look("ANALYZE measured")
    look("CREATE VIEW seen AS SELECT * FROM flights WHERE id < 5")
    look('CREATE SCHEMA "other"')
    look("CREATE TABLE other.flights (id integer)")
    look(sql.SQL("CREATE TABLE {} AS SELECT 1 AS id, NULL::text AS {}").format(
        sql.Identifier(NASTY), sql.Identifier(NASTY)))  # fmt: skip


@pytest.fixture
def export(workspace, here, tables):
    return DownloadForm(workspace)


def test_tables_are_listed_with_rows_and_sizes(export):
    """Names as a download takes them, rows counted where the server has no estimate."""
    found = {one.source: one for one in export.relations()}
    nasty = '"' + NASTY.replace('"', '""') + '"'
    assert set(found) == {"flights", "measured", "seen", "other.flights", nasty}
    assert found["measured"].rows == 1
    assert found["flights"].rows is None
    assert found["flights"].bytes > 0
    assert (found["seen"].kind, found["seen"].bytes) == ("view", None)
    counted = export.counted(list(found.values()))
    assert {one.source: rows for one, rows in counted.items()} == {
        "flights": 30, "other.flights": 0, nasty: 1,
    }  # fmt: skip


def test_a_table_is_downloaded_by_its_name(export, workspace, here):
    """Nothing chosen of it: the call has the table's name, and the file all of it."""
    export.choose("flights")
    assert export.path == "flights.csv"
    export.pack("CSV, packed with gzip")
    assert (export.path, export.format) == ("flights.csv.gz", "CSV, packed with gzip")
    export.pack("CSV")
    assert export.code() == 'tw.download("flights", "flights.csv")'
    job = export.start()
    assert job.wait(60).rows_loaded == 30
    assert evaluated(export.code(), workspace) is job


def test_columns_and_a_filter_make_a_query(export, workspace, here):
    """Kept columns in their order, identifiers quoted, and the rows that the filter lets by."""
    export.choose("flights")
    export.columns, export.where = ("name", "id"), "third = 1 -- and a comment"
    shown = export.look(2)
    assert (shown.columns, shown.rows) == (("name", "id"), [("x1", "1"), ("x4", "4")])
    assert shown.types == {"name": "text", "id": "integer"}
    job = export.start()
    job.wait(60)
    lines = (here / "flights.csv").read_text().splitlines()
    assert lines[:2] == ["name,id", "x1,1"]
    assert len(lines) == 11
    assert evaluated(export.code(), workspace) is job
    export.columns = ()
    with pytest.raises(OptionError, match="one column"):
        export.start()


def test_a_query_is_looked_at_and_downloaded(export, workspace, here):
    """As it is written; with columns and a filter around it, comments and all."""
    export.ask("SELECT id, name, NULL AS gone, E'a\\tb\\\\' AS odd FROM flights; -- all")
    assert export.look(1).rows == [("1", "x1", None, "a\tb\\")]
    assert export.source().startswith("SELECT id, name")
    export.ask("SELECT id, name FROM flights ORDER BY id -- all")
    export.columns, export.where, export.path = ("name",), "id > 28", "q.csv"
    assert export.look().rows == [("x29",), ("x30",)]
    assert export.look(whole=True).columns == ("id", "name")
    job = export.start()
    job.wait(60)
    assert (here / "q.csv").read_text().splitlines() == ["name", "x29", "x30"]
    assert evaluated(export.code(), workspace) is job


def test_names_of_all_kinds_are_exported(export, here):
    """A table and a column named with markup, quotes and newlines."""
    export.choose(NASTY)
    assert export.look().columns == ("id", NASTY)
    export.columns, export.where = (NASTY,), f'"{NASTY.replace(chr(34), chr(34) * 2)}" IS NULL'
    assert export.look().rows == [(None,)]
    assert export.start().wait(60).rows_loaded == 1
    assert [path.name for path in here.iterdir()] == [export.path]


@pytest.mark.parametrize(
    ("query", "where", "word"),
    [
        ("DELETE FROM flights", "", "SELECT"),
        ("", "", "choose a table"),
        ("WITH d AS (DELETE FROM flights RETURNING 1) SELECT * FROM d", "", "only reads"),
        ("SELECT 1; DROP TABLE flights", "", "only reads|syntax"),
        ("SELECT nothing FROM flights", "", "nothing"),
        ("SELECT 1 AS a", "a = 1); DROP TABLE flights; SELECT (1", "only reads|syntax"),
        ("SELECT 1 AS a", "nextval('s') > 0", "does not exist"),
    ],
)
def test_a_look_only_reads(export, look, query, where, word):
    """Whatever is written into the form, nothing is changed, and the error says what is wrong."""
    export.ask(query)
    export.where = where
    with pytest.raises((OptionError, SourceError), match=word):
        export.look()
    assert look.one("SELECT count(*) FROM flights") == 30


def test_a_look_is_cancelled(export, workspace):
    """cancel() ends it from another thread; it is nothing where there is no look."""
    export.cancel()
    export.ask("SELECT pg_sleep(600)")
    caught = []

    def looks():
        try:
            export.look()
        except OptionError as error:
            caught.append(str(error))

    thread = threading.Thread(target=looks)
    thread.start()
    while thread.is_alive():  # also when it came before the statement
        export.cancel()
        thread.join(0.05)
    assert "was ended" in caught[0]


def test_a_download_that_cannot_begin_leaves_the_form(export, here):
    """A folder that is missing, a file that is there: raised, and all that was filled in stays."""
    export.choose("flights")
    export.path = "there/flights.csv"
    with pytest.raises(tw.TaskwidgetsError, match="does not exist"):
        export.start()
    (here / "flights.csv").write_text("mine")
    export.path = "flights.csv"
    with pytest.raises(TargetExists):
        export.start()
    assert (export.job, export.table.source) == (None, "flights")
    export.if_exists = "replace"
    export.start().wait(60)
    assert (here / "flights.csv").read_text() != "mine"


# ---------------------------------------------------------------- the widgets, without a browser


async def until(condition):
    """Waits while the loop goes on; the suite's own guard ends what never comes."""
    while not condition():
        await asyncio.sleep(0.02)


def follow(job, _display_id):
    panel = Panel(job)
    job.watch(panel.refresh)
    panel.refresh()
    return panel


def posted(name, content):
    """What ipywidgets makes of a file that came through the kernel's socket."""
    return (
        {"name": name, "type": "", "size": len(content), "content": memoryview(content),
         "last_modified": datetime.now(UTC)},
    )  # fmt: skip


def shown(view):
    """All the HTML that a view shows."""
    parts, found = [view.root], []
    while parts:
        one = parts.pop()
        if getattr(one.layout, "display", None) == "none":
            continue
        parts += getattr(one, "children", ())
        if "<style" not in (value := str(getattr(one, "value", ""))):
            found.append(value)
    return "\n".join(found)


async def test_where_no_server_is_known_a_file_comes_through_the_socket(form, here, look):
    """It is written under its name, chosen, read and loaded; one that exists is left alone."""
    view = UploadView(form, follow)
    view.begin()
    await until(lambda: "Folder: " in shown(view))
    assert "Up to 10.0 MB" in shown(view)
    view._file._post.value = posted("came.csv", b"a,b\n1,2\n")
    await until(lambda: "read as 2 columns, 1 row" in shown(view))
    assert (here / "came.csv").read_bytes() == b"a,b\n1,2\n"
    assert view._file._post.value == ()
    view._file._post.value = posted("came.csv", b"other")
    await until(lambda: "came.csv exists already" in shown(view))
    assert (here / "came.csv").read_bytes() == b"a,b\n1,2\n"
    view._file._post.value = posted("../up.csv", b"a,b\n1,2\n")
    await until(lambda: "is no name for a file" in shown(view))
    view._table.value = "came_in"
    view._reading._types[0].value = "bigint"
    await until(lambda: form.types == {"a": "bigint"})
    view._start.click()
    view._start.click()  # a double click begins one job
    await until(lambda: form.job is not None and len(view.root.children) == 3)
    await form.job
    assert look.types("public", "came_in") == {"a": "bigint", "b": "integer"}
    assert look.one("SELECT count(*) FROM taskwidgets.jobs") == 1


async def test_folders_are_walked_and_filtered(form, here):
    """Many entries: the first of them are shown, a filter finds the others, Enter takes the first;
    the folder above ends at the root."""
    (here / "deep").mkdir()
    (here / "deep" / "x.csv").write_text("a\n1\n")
    for number in range(120):
        (here / f"{number:03}.csv").write_text("a\n1\n")
    view = UploadView(form, follow)
    view.begin()
    entries = view._file._list
    await until(lambda: len(entries._list.children) == 50)
    assert "and 71 more" in shown(view)
    entries.filter.value = "DEEP"
    await until(lambda: [one.description for one in entries._list.children] == ["deep/"])
    entries._on_message(entries.filter, {"event": "submit"}, [])
    await until(lambda: [one.description for one in entries._list.children] == ["..", "x.csv"])
    assert entries.filter.value == ""
    entries._list.children[0].click()
    await until(lambda: len(entries._list.children) == 50)
    entries.filter.value = "119"
    await until(lambda: [one.description for one in entries._list.children] == ["119.csv"])
    entries._list.children[0].click()
    await until(lambda: form.source == here / "119.csv")


async def test_what_was_changed_stays_when_the_file_is_read_again(form, here):
    """Each change reads the file again, and none undoes another; another file begins anew."""
    (here / "one.csv").write_text("a;b\n1,5;x\n2,5;y\n")
    (here / "two.csv").write_text("a,b\n1,2\n")
    view = UploadView(form, follow)
    view.begin()
    entries = view._file._list
    await until(lambda: len(entries._list.children) == 2)
    entries._list.children[0].click()
    await until(lambda: "read as 2 columns" in shown(view))
    inputs = view._reading._inputs
    assert inputs["delimiter"].label == "detected: semicolon"
    inputs["header"].value = False
    await until(lambda: "column_1" in shown(view))
    inputs["delimiter"].value = ","
    view._reading._nulls.value = "x, y"
    await until(lambda: len(form.options()) == 4)
    assert (inputs["header"].value, inputs["delimiter"].value) == (False, ",")
    assert form.options() == {
        "delimiter": ",", "header": False, "null_values": ["x", "y"], "decimal": ".",
    }  # fmt: skip
    entries._list.children[1].click()
    await until(lambda: form.reading == {} and "read as 2 columns, 1 row" in shown(view))
    assert inputs["delimiter"].label == "detected: comma"
    assert form.code() == 'tw.upload("two.csv", "two")'


async def test_a_table_is_chosen_and_then_a_query(export, here):
    """Columns and first rows follow what is chosen; going back to the tables chooses none."""
    view = DownloadView(export, follow)
    view.begin()
    buttons = view._list._list
    await until(lambda: "table, 30 rows" in [one.tooltip.rpartition(",")[0] for one in
                                             buttons.children])  # fmt: skip
    next(one for one in buttons.children if one.description == "flights").click()
    await until(lambda: "the first 8 rows" in shown(view))
    assert view._columns.options == (("id", 0), ("name", 1), ("third", 2))
    view._columns.value = (0, 2)
    view._where.value = "third = 0"
    view._on_where_message(view._where, {"event": "submit"}, [])
    await until(lambda: export.code().startswith("tw.download(") and "third" in export.source())
    await until(lambda: "x1" not in shown(view))
    assert export.columns == ("id", "third")
    view._kind.value = "query"
    view._query.value = "SELECT 1 AS one"
    await until(lambda: export.query == "SELECT 1 AS one")
    view._first.click()
    await until(lambda: view._columns.options == (("one", 0),))
    view._format.value = "CSV, packed with zstd"
    await until(lambda: view._file.value == "query.csv.zst")
    view._kind.value = "table"
    await until(lambda: not export.query)
    view._start.click()
    await until(lambda: "choose a table, or write a query" in shown(view))


async def test_only_the_newest_wish_is_answered():
    """What was asked for meanwhile waits, the last of it is done, and nothing older is told."""
    told, begun, go_on = [], threading.Event(), threading.Event()

    def slow():
        begun.set()
        go_on.wait()
        return "slow"

    newest = Newest(LoopHandle(), "try", told.append, lambda error: told.append(error))
    newest.ask(slow)
    await until(begun.is_set)
    newest.ask(lambda: "between")
    newest.ask(lambda: 1 // 0)
    go_on.set()
    await until(lambda: told)
    assert told == ["ZeroDivisionError: integer division or modulo by zero"]


def test_a_printed_form_is_the_call(form, export, capsys):
    """Where there is no notebook, a form is a line of text."""
    form._ipython_display_()
    assert capsys.readouterr().out == (
        "an upload form, which a notebook shows; in code: tw.upload(..., ...)\n"
    )
    export.choose("flights")
    assert repr(export).endswith('in code: tw.download("flights", "flights.csv")')
