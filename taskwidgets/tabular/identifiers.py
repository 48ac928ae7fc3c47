"""Column names made into identifiers that SQL takes without quotes: ``names="snake"``.

``Flight Number`` is flight_number, ``DepDelay`` dep_delay, ``Größe (cm)`` groesse_cm, ``% paid``
percent_paid, ``2019`` _2019 and ``Order`` order_, as ORDER is a reserved word.

Latin letters are written in ASCII, as any keyboard has it: ä, ö, ü, å, ø, æ and ß as passports
have them (ICAO Doc 9303, part 3, section 6: ae, oe, ue, aa, oe, ae, ss), since a word that only
loses its marks may be another one; é, ç, ñ and the like without their marks. Letters of other
scripts stay, in lower case: Postgres takes them without quotes, and a transliteration would be
a guess. The same name becomes the same identifier whatever stands beside it, unless two collide.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TypeVar

from taskwidgets.errors import OptionError
from taskwidgets.tabular.header import MAX_NAME_BYTES

__all__ = ["NAMES", "SYSTEM_COLUMNS", "by_column", "renamed", "snake_names"]

T = TypeVar("T")

NAMES = ("snake",)
"""The rules that ``names=`` knows."""

# Before marks are taken off: one letter that is two in ASCII, or that Unicode does not take apart.
_LETTERS = str.maketrans(
    {
        "ä": "ae", "ö": "oe", "ü": "ue", "å": "aa", "ø": "oe", "æ": "ae", "œ": "oe", "ß": "ss",
        "þ": "th", "ð": "d", "đ": "d", "ħ": "h", "ı": "i", "ĸ": "k", "ł": "l", "ŋ": "n", "ŧ": "t",
        "ə": "e", "ƒ": "f",
    }
)  # fmt: skip
_SIGNS = {
    "%": "percent", "‰": "permille", "#": "number", "&": "and", "@": "at",
    "€": "euro", "$": "dollar", "£": "pound", "¥": "yen",
}  # fmt: skip
_MICRO = "\u00b5"  # the sign in µg; units are written with u where there is no Greek
_APOSTROPHES = "'’ʼ`´"  # within a word they part nothing: driver's is drivers

# What an unquoted column cannot be called: the keywords of the manual's appendix C that are
# "reserved" (also "can be function or type") in Postgres 14 to 18.
_RESERVED = frozenset(
    """
    all analyse analyze and any array as asc asymmetric authorization binary both case cast check
    collate collation column concurrently constraint create cross current_catalog current_date
    current_role current_schema current_time current_timestamp current_user default deferrable
    desc distinct do else end except false fetch for foreign freeze from full grant group having
    ilike in initially inner intersect into is isnull join lateral leading left like limit
    localtime localtimestamp natural not notnull null offset on only or order outer overlaps
    placing primary references returning right select session_user similar some symmetric
    system_user table tablesample then to trailing true union unique user using variadic verbose
    when where window with
    """.split()  # noqa: SIM905 - a hundred words are read better so
)
SYSTEM_COLUMNS = frozenset({"cmax", "cmin", "ctid", "tableoid", "xmax", "xmin"})
"""Each table has these already, and none of its own can be called so, quoted or not."""

# Where a word begins within CamelCase, on the letters' kinds (u: upper, l: lower, n: digit). Units
# such as kWh, pH and MHz are one word; UserIDs is user_ids, pValue p_value.
_INNER = re.compile(
    r"(?<=ll)(?=u)"  # depDelay
    r"|(?<=nl)(?=ul)"
    r"|(?<=ul)(?=ul)"  # AtBat
    r"|(?<=l)(?=ull)"  # pValue
    r"|(?<=u)(?=ull)"  # HTTPServer
    r"|(?<=n)(?=ull)"  # Q1Sales
)


def snake_names(names: Sequence[str]) -> tuple[str, ...]:
    """An identifier for each name: lower case, none empty, none twice, 63 bytes at most.

    An empty one becomes column_N, N its place counted from 1; of names that become the same, the
    first has it, and the others are numbered: ``a``, ``A``, ``"a "`` are a, a_2, a_3. Made of its
    own result, nothing changes.
    """
    wanted = [_snake(name) or f"column_{number}" for number, name in enumerate(names, start=1)]
    taken, used = set(wanted), set[str]()
    numbers: dict[str, int] = {}
    found: list[str] = []
    for name in wanted:
        unique, number = name, numbers.get(name, 1)
        while unique in used or (number > 1 and unique in taken):
            number += 1
            ending = f"_{number}"
            unique = _cut(name, MAX_NAME_BYTES - len(ending)) + ending
        numbers[name] = number
        used.add(unique)
        found.append(unique)
    return tuple(found)


def renamed(header: Sequence[str], columns: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """(what the file says, what the column is called) where they differ by more than blanks."""
    return tuple((old, new) for old, new in zip(header, columns, strict=True) if old.strip() != new)


def by_column(
    given: Mapping[str, T], header: Sequence[str], columns: Sequence[str], option: str
) -> dict[str, T]:
    """What an option says of columns, by the names that these have now.

    A column may be called by its new name, which goes first, or by the file's. A key that is
    neither stays, and is not judged here. Raises OptionError for a name that stands in the file
    more than once, or where two keys mean one column.
    """
    new = set(columns)
    places: dict[str, list[str]] = {}
    for old, column in zip(header, columns, strict=True):
        places.setdefault(old.strip(), []).append(column)
    found: dict[str, T] = {}
    for key, value in given.items():
        meant = [key] if key in new else places.get(str(key).strip(), [key])
        if len(meant) > 1:
            raise OptionError(
                f"{option}: {key!r} stands {len(meant)} times in the file; "
                f"name the column as it is called now: {', '.join(map(repr, meant))}"
            )
        if meant[0] in found:
            raise OptionError(f"{option}: the column {meant[0]!r} is named twice, also as {key!r}")
        found[meant[0]] = value
    return found


def _snake(name: str) -> str:
    """The identifier of one name, "" where nothing is left of it."""
    found = _once(name)
    # Unicode's forms interact in ways that no order of steps covers. Nearly all names are through
    # after the first round; the bound is for what nobody has seen.
    for _ in range(8):
        again = _once(found)
        if again == found:
            break
        found = again
    return found


def _once(name: str) -> str:
    text = unicodedata.normalize("NFKC", _worded(name))
    words = "_".join(_words(text))
    plain = unicodedata.normalize("NFC", _ascii(words))
    found = _cut(re.sub(r"_+", "_", _separated(plain)).strip("_"), MAX_NAME_BYTES)
    if found[:1].isdigit():
        return "_" + _cut(found, MAX_NAME_BYTES - 1)
    return found + "_" if found in _RESERVED | SYSTEM_COLUMNS else found


def _worded(name: str) -> str:
    """Signs that mean a word, as words."""
    name = unicodedata.normalize("NFC", name)
    name = re.sub(rf"(?<=\w)[{_APOSTROPHES}](?=\w)", "", name)
    name = re.sub(rf"{_MICRO}|(?<!\w)μ(?=[A-Za-z])", "u", name)
    return "".join(f" {_SIGNS[sign]} " if sign in _SIGNS else sign for sign in name)


def _words(text: str) -> list[str]:
    """The text in lower case, parted where CamelCase begins a word."""
    kinds = "".join(map(_kind, text))
    edges = [0, *(match.start() for match in _INNER.finditer(kinds)), len(text)]
    return [text[start:stop].lower() for start, stop in pairwise(edges)]


def _kind(letter: str) -> str:
    category = unicodedata.category(letter)
    if category in ("Lu", "Lt"):
        return "u"
    if category == "Ll":
        return "l"
    return "n" if category == "Nd" else "-"


def _ascii(text: str) -> str:
    """Latin letters without marks and in ASCII, digits of any script as 0 to 9."""
    # Once more composed: a letter in lower case may have been taken apart (Turkish I with a dot).
    text = unicodedata.normalize("NFKC", text).translate(_LETTERS)
    found: list[str] = []
    for sign in unicodedata.normalize("NFKD", text):
        category = unicodedata.category(sign)
        if category == "Nd":
            found.append(str(unicodedata.decimal(sign)))
        elif category[0] == "M":
            # A mark on a letter of another script is a part of it, as are the vowels of Hindi.
            if found and not found[-1].isascii():
                found.append(sign)
        elif category != "Cf":  # marks of direction, joiners, the byte order mark: not seen
            found.append(sign)
    return "".join(found).translate(_LETTERS)


def _separated(text: str) -> str:
    """Whatever is no letter, digit or mark as an underscore."""
    return "".join(
        sign if sign in "_" or unicodedata.category(sign)[0] in "LMN" else "_" for sign in text
    )


def _cut(name: str, most_bytes: int) -> str:
    encoded = name.encode("utf-8")
    if len(encoded) <= most_bytes:
        return name.rstrip("_") if most_bytes < MAX_NAME_BYTES else name
    return encoded[:most_bytes].decode("utf-8", errors="ignore").rstrip("_")
