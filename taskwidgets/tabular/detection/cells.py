"""What kind of value a cell looks like, whatever its column is later made of.

The kinds are coarser than Postgres' types and know more spellings: they serve to tell a true
delimiter from a comma in a sentence, and a header from the first record.
"""

from __future__ import annotations

import re
from functools import lru_cache

__all__ = ["EMPTY", "TEXT", "WORD", "is_typed", "kind_of"]

EMPTY = "empty"
WORD = "word"  # one word, or a code without a digit
TEXT = "text"

_CODE_LENGTH = 24  # characters; beyond that, shapes no longer repeat from row to row

# In this order, as the first that matches is it.
_PATTERNS = (
    ("integer", r"[+-]?[0-9]+"),
    ("number", r"[+-]?(?:[0-9]+|[0-9]{1,3}(?:[,.' \u00a0\u202f][0-9]{3})+)?[.,][0-9]+"),
    ("number", r"[+-]?[0-9]{1,3}(?:[,.' \u00a0\u202f][0-9]{3})+"),
    ("number", r"[+-]?[0-9]+[.,]?[0-9]*[eE][+-]?[0-9]{1,3}|[+-]?[0-9]+[.,]"),
    ("number", r"(?i:nan|[+-]?inf(?:inity)?)"),
    ("money", r"[-(]?[$€£¥₹]\s?-?[0-9][0-9.,' ]*\)?|-?[0-9][0-9.,' ]*\s?(?:[$€£¥₹]|EUR|USD)"),
    ("percent", r"[+-]?[0-9]+(?:[.,][0-9]+)?\s?%"),
    ("date", r"[0-9]{4}([-/.])[0-9]{1,2}\1[0-9]{1,2}"),
    ("date", r"[0-9]{1,2}([-/.])[0-9]{1,2}\1(?:[0-9]{4}|[0-9]{2})"),
    ("date", r"[0-9]{1,2}[- /.][A-Za-z]{3,9}\.?[- /,.]{1,2}(?:[0-9]{4}|[0-9]{2})"),
    ("date", r"[A-Z][a-z]{2,8}\.? [0-9]{1,2},? [0-9]{4}"),
    ("time", r"[0-2]?[0-9]:[0-5][0-9](?::[0-5][0-9](?:[.,][0-9]+)?)?(?:\s?[AaPp]\.?[Mm]\.?)?"),
    (
        "moment",
        r"(?:[0-9]{4}[-/.][0-9]{1,2}[-/.][0-9]{1,2}|[0-9]{1,2}[-/.][0-9]{1,2}[-/.][0-9]{2,4})"
        r"[T ]\s?"
        r"[0-2]?[0-9]:[0-5][0-9](?::[0-5][0-9](?:[.,][0-9]+)?)?"
        r"(?:\s?[AaPp][Mm])?\s?(?:Z|UTC|GMT|[+-][0-9]{2}:?[0-9]{2})?",
    ),
    ("boolean", r"(?i:true|false)"),
    ("url", r"(?i:https?|ftp|s3)://\S+"),
    ("email", r"[^\s@,;]+@[^\s@,;]+\.[A-Za-z]{2,}"),
)  # fmt: skip
_KINDS = tuple((name, re.compile(pattern)) for name, pattern in _PATTERNS)
_CODE = re.compile(r"(?=[^\s]*[0-9])[A-Za-z0-9][A-Za-z0-9_\-./:#]*")
_TYPED = frozenset(name for name, _ in _PATTERNS)


@lru_cache(maxsize=1 << 15)
def kind_of(cell: str) -> str:
    """The cell's kind: a name from the patterns, ``code:`` with its shape, or one of the three.

    A code's shape has A for a letter and 9 for a digit: "MG-8769" is "code:AA-9999".
    """
    cell = cell.strip()
    if not cell:
        return EMPTY
    if len(cell) > 200:  # characters; no pattern is that long, and some would try for long
        return TEXT
    for name, pattern in _KINDS:
        if pattern.fullmatch(cell):
            return name
    if len(cell) <= _CODE_LENGTH and _CODE.fullmatch(cell):
        shape = "".join("A" if sign.isalpha() else "9" if sign.isdigit() else sign for sign in cell)
        return f"code:{shape}"
    return WORD if not re.search(r"\s", cell) else TEXT


def is_typed(kind: str) -> bool:
    """Whether a header would hardly have a cell of this kind: numbers, days, addresses."""
    return kind in _TYPED
