"""What the lenient reader writes is what Postgres reads."""

from __future__ import annotations

import io
import random
import tempfile
from pathlib import Path

import psycopg2
import pytest

from taskwidgets.errors import TaskwidgetsError
from taskwidgets.tabular.cleaning import clean
from taskwidgets.tabular.description import Description
from taskwidgets.tabular.grammar import Grammar
from taskwidgets.tabular.pieces import Cutter
from taskwidgets.tabular.stream import open_stream

PIECES = (
    b"1,2\n", b'1,"2, 2"\n', b'"', b",", b"\n", b"\r", b"\r\n", b"\0", b"\xff", b"a", b" ",
    b'"a\nb"', b'""', b"\\", b"\\.\n", b";", b'"x","y"\n', b"\xc3\xa9", b"'", b"\x02", b"NA",
)  # fmt: skip


@pytest.mark.sample(2)
@pytest.mark.parametrize("seed", range(4))
def test_copy_takes_what_is_cleaned(database_url: str, seed: int) -> None:
    """Whatever the bytes and the dialect, COPY takes each segment and finds the rows counted."""
    chance = random.Random(seed)
    connection = psycopg2.connect(database_url.replace("+psycopg2", ""))
    cursor = connection.cursor()
    cursor.execute("CREATE TEMP TABLE one (a text); CREATE TEMP TABLE two (a text, b text)")
    rows = 0
    for _ in range(400):
        content = b"".join(chance.choices(PIECES, k=chance.randrange(30)))
        columns = chance.choice((1, 2))
        description = Description(
            delimiter=chance.choice((",", ",", ";", "||")),
            quotechar=chance.choice(('"', '"', "'", "")),
            escapechar=chance.choice(("", "", "\\")),
            line_terminator=chance.choice(("\n", "\r\n", "\r", "")),
            skip_initial_space=chance.random() < 0.2,
            null_values=chance.choice((("",), ("NA",), ("", "NA"))),
        )
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "a.csv"
            path.write_bytes(content)
            with open_stream(path, description) as stream:
                try:
                    grammar = Grammar.of(description, columns, stream.codec)
                    cutter = Cutter(stream, grammar, 0, None)
                except TaskwidgetsError:
                    continue
                options = grammar.output.copy_options
                while (segment := cutter.next(1 << 20)) is not None:
                    cleaned = clean(segment, grammar, "ab"[:columns])
                    statement = cursor.mogrify(
                        f"COPY {'one' if columns == 1 else 'two'} FROM STDIN WITH (FORMAT csv,"
                        " DELIMITER %s, QUOTE %s, NULL %s, ENCODING %s)",
                        [options[name] for name in ("delimiter", "quote", "null", "encoding")],
                    )
                    try:
                        cursor.copy_expert(statement, io.BytesIO(bytes(cleaned.data)))
                    except psycopg2.Error as error:
                        raise AssertionError((content, description, cleaned)) from error
                    assert cursor.rowcount == cleaned.rows, (content, description, cleaned)
                    rows += cleaned.rows
    assert rows > 500
    connection.close()
