"""A dialect is one that COPY can read, or it cannot be made."""

from __future__ import annotations

import json
import re

import pytest

from taskwidgets.errors import OptionError
from taskwidgets.tabular.dialect import Dialect, postgres_encoding


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"delimiter": ""}, "delimiter must be one character, not ''"),
        ({"delimiter": ",,"}, "delimiter must be one character"),
        ({"delimiter": 7}, "delimiter must be one character, not 7"),
        ({"delimiter": "\n"}, "delimiter must not be a line ending"),
        ({"delimiter": "\0"}, "delimiter must not be a line ending or NUL"),
        ({"delimiter": "§"}, "delimiter must be an ASCII character"),
        ({"quotechar": "\r"}, "quotechar must not be a line ending"),
        ({"quotechar": "«"}, "quotechar must be an ASCII character"),
        ({"quotechar": ","}, "delimiter and quotechar are both ','"),
        ({"header": "yes"}, "header must be True or False"),
        ({"null_value": None}, "null_value must be a string"),
        ({"null_value": "a,b"}, "null_value='a,b' must not contain the delimiter"),
        ({"null_value": 'a"'}, "must not contain the quote character"),
        ({"null_value": "a\n"}, "must not contain a newline"),
        ({"null_value": "ø", "encoding": "ascii"}, "cannot be written in encoding='ascii'"),
        ({"encoding": "klingon"}, "encoding='klingon' is not an encoding that Python knows"),
        ({"encoding": None}, "encoding=None is not an encoding that Python knows"),
        ({"encoding": "rot13"}, "is not an encoding that Postgres knows"),
        ({"encoding": "mac_roman"}, "is not an encoding that Postgres knows"),
        ({"encoding": "sjis"}, "Convert the file to UTF-8 first"),
        ({"encoding": "big5"}, "Convert the file to UTF-8 first"),
        ({"encoding": "gbk"}, "Convert the file to UTF-8 first"),
        ({"encoding": "utf-16-le"}, "iconv -f UTF-16-LE -t UTF-8"),
        ({"encoding": "utf_32"}, "Convert the file to UTF-8 first"),
    ],
)
def test_nonsense_is_refused(arguments: dict[str, object], text: str) -> None:
    """An argument that makes no sense raises OptionError with its name."""
    with pytest.raises(OptionError, match=re.escape(text)):
        Dialect(**arguments)


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("utf8", "UTF8"),
        ("U8", "UTF8"),
        ("utf-8-sig", "UTF8"),
        ("us-ascii", "UTF8"),
        ("latin1", "LATIN1"),
        ("iso-8859-15", "LATIN9"),
        ("l10", "LATIN10"),
        ("latin5", "LATIN5"),
        ("windows-1252", "WIN1252"),
        ("cp1258", "WIN1258"),
        ("koi8_r", "KOI8R"),
        ("iso-8859-7", "ISO_8859_7"),
        ("ibm866", "WIN866"),
        ("eucjp", "EUC_JP"),
        ("euckr", "EUC_KR"),
        ("gb2312", "EUC_CN"),
    ],
)
def test_encoding_aliases(alias: str, name: str) -> None:
    """Any of Python's names for an encoding finds Postgres' name."""
    assert postgres_encoding(alias) == name


def test_json_round_trip() -> None:
    """A dialect survives a checkpoint."""
    dialect = Dialect(";", "'", "cp1252", False, "NA")
    assert Dialect.from_json(json.loads(json.dumps(dialect.to_json()))) == dialect
    with pytest.raises(OptionError, match="a dialect has no escape"):
        Dialect.from_json({"escape": "\\"})


def test_copy_options() -> None:
    """COPY is told everything but the header, which segments never hold."""
    assert Dialect(delimiter="\t", encoding="latin-1").copy_options == {
        "format": "csv",
        "delimiter": "\t",
        "quote": '"',
        "null": "",
        "encoding": "LATIN1",
    }
    assert Dialect(encoding="utf-8-sig").codec == "utf-8"
