"""tw.preview: what a file is, before anything is loaded."""

import pytest

import taskwidgets as tw
from taskwidgets.errors import OptionError, SourceError

TEXT = (
    "Stock report\n\nname;<img src=x onerror=alert(1)>;price\n"
    'Anna;"a;b";1.234,50\nBob;;2,5\nCid;<b>x</b>;12,75\n\nSource: me\n'
)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "<i>stock.csv"
    path.write_text(TEXT)
    return path


def test_a_preview_says_what_was_decided(path):
    """Decisions, columns, types and rows as they would land in the table."""
    shown = tw.preview(path)
    assert shown.columns == ("name", "<img src=x onerror=alert(1)>", "price")
    assert shown.types["price"] == "double precision"
    assert shown.rows == [
        ("Anna", "a;b", "1234.50"),
        ("Bob", None, "2.5"),
        ("Cid", "<b>x</b>", "12.75"),
    ]
    assert (shown.total, shown.ragged) == (3, 0)
    assert shown.description.skip_rows == 2
    assert shown.description.footer_rows == 2
    assert list(shown.preamble) == ["Stock report", ""]
    assert 0 < shown.findings["delimiter"].sure <= 1


def test_as_many_rows_as_asked_for(path):
    """``rows`` limits what is shown, not what is looked at; 0 shows the columns alone."""
    assert len(tw.preview(path, 2).rows) == 2
    assert tw.preview(path, 0).to_dataframe().empty
    assert tw.preview(path, rows=1).total == 3


def test_the_frame_has_the_columns(path):
    """to_dataframe has one row a record, NULL as None."""
    frame = tw.preview(path).to_dataframe()
    assert list(frame.columns) == list(tw.preview(path).columns)
    assert frame.iloc[1, 1] is None


def test_html_escapes_all_that_comes_from_the_file(path):
    """Neither the file's name nor a column's nor a cell's becomes an element."""
    html = tw.preview(path)._repr_html_()
    for hostile in ("<img", "<b>", "<i>"):
        assert hostile not in html
    assert "&lt;img src=x onerror=alert(1)&gt;" in html
    assert "double precision" in html
    assert "left out above the table" in html


def test_text_holds_no_control_characters(tmp_path):
    """What is printed moves no terminal's cursor."""
    path = tmp_path / "a.csv"
    path.write_text("na\x1b[31mme,n\nred\x1b[0m,1\nblue,2\n")
    assert "\x1b" not in repr(tw.preview(path))


def test_an_override_holds_and_is_said(path):
    """What is given is marked as given."""
    shown = tw.preview(path, delimiter=",", header=False)
    assert shown.description.header_rows == 0
    assert "(as given)" in repr(shown)


def test_further_tables_are_offered(tmp_path):
    """A second table is named with its lines."""
    path = tmp_path / "a.csv"
    path.write_text("id,n\n1,2\n2,3\n3,4\n\ncity,people,area\nUlm,1,4\nBonn,3,5\nKiel,2,6\n")
    shown = tw.preview(path)
    assert [(one.first_line, one.last_line) for one in shown.tables] == [(6, 9)]
    assert "lines 6 to 9, with city, people, area" in repr(shown)
    assert "lines 6 to 9" in shown._repr_html_()


def test_an_empty_file_has_nothing_to_show(tmp_path):
    """No columns, no rows, no error."""
    path = tmp_path / "a.csv"
    path.touch()
    shown = tw.preview(path)
    assert (shown.columns, shown.rows, shown.total) == ((), [], 0)
    assert "nothing is in it" in shown._repr_html_()
    assert repr(shown)


def test_what_cannot_be_previewed(tmp_path):
    """A missing file is a SourceError, a senseless number of rows an OptionError."""
    with pytest.raises(SourceError):
        tw.preview(tmp_path / "none.csv")
    with pytest.raises(OptionError):
        tw.preview(tmp_path / "none.csv", rows=-1)
