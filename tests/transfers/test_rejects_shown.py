"""What the panel's list of rejects reads and writes; how it looks, the browser tests see."""

import pytest

from taskwidgets.widgets.rejects import as_in_file, found_in, outcome_words

TYPES = {"id": "integer", "note": "text"}


def test_rejects_are_read_page_by_page(workspace, csv_file):
    """In the file's order, without those that are loaded, and no text longer than asked for."""
    rows = [f"x{number},{'long ' * number}" for number in range(30)]
    job = workspace.upload(
        csv_file("id,note", "1,good", *rows), "t", types=TYPES, on_error="reject"
    )
    job.wait()
    page, total = job.waiting_rejects(10, 20, longest=50)
    assert (list(page["line"]), total) == (list(range(23, 33)), 30)
    assert list(page.columns) == ["id", "line", "column", "message", "raw"]
    assert set(page["raw"].str.len()) == {51}
    bad = job.rejects()
    bad.loc[3, "raw"] = "3,mended"
    job.replay(bad)
    page, total = job.waiting_rejects(10)
    assert total == 29
    assert bad.id[3] not in set(page["id"])
    some, total = job.waiting_rejects(5, ids=[int(bad.id[3]), int(bad.id[4])])
    assert (list(some["id"]), total) == ([bad.id[4]], 1)
    assert (found_in(some)[0].line, found_in(some)[0].column) == (7, "id")
    assert outcome_words(1, 1, found_in(some)) == (
        '1 mended row loaded, 1 still refused:\nline 7: invalid input syntax for type integer: "x4"'
    )


@pytest.mark.parametrize(
    ("typed", "raw", "expected"),
    [
        ("a\nb", "x\r\ny", "a\r\nb"),
        ("a\nb\nc", "x\ry", "a\rb\rc"),
        ("a\nb", "x\ny", "a\nb"),
        ("a\nb", "x\r\ny\nz", "a\nb"),  # which of them was which, nobody knows any more
        ("a\nb", "x", "a\nb"),
        ("a\r\nb", "x\r\ny", "a\r\nb"),
    ],
)
def test_line_ends_stay_those_of_the_file(typed, raw, expected):
    """A text area knows LF alone; a mended record has the line ends that it had."""
    assert as_in_file(typed, raw) == expected
