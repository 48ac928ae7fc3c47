"""Which encoding other than Unicode a text is in: chardet's candidates, weighed by their letters.

chardet compares pairs of bytes with those of texts in many languages. A table is a short text, and
hardly a sentence: names, words, numbers. Of these, chardet's best candidate often has letters that
no language of that encoding has ("Mu\u0144oz" in place of "Mu\u00f1oz"), or signs where nobody puts
them. So each candidate's score is multiplied by how much of its text could be written by a person.

The letters of each language are those of Unicode's CLDR (main and auxiliary exemplar characters,
https://cldr.unicode.org), as far as they are not ASCII.
"""

from __future__ import annotations

import codecs
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from unicodedata import category

import chardet

__all__ = ["Candidate", "find_legacy_encoding"]

# What is looked at: lines with bytes beyond ASCII, whole, as a character may have several bytes.
MOST_BYTES = 1 << 13
MOST_CANDIDATES = 16
RIVAL = 0.5  # the share of the best one's score from which a candidate is a rival
MIXED = 0.95  # what letters of several languages are worth beside those of one
BOOST = 20  # of the most usual encodings where a single letter is all that there is
WEIGHT = 4  # the power of the share of fitting characters by which a score is multiplied

_LETTERS = {
    "western": (
        "éèêëïîôöüñçàâäáíóú",  # English, with words from its neighbours
        "àâæçéèêëîïôœùûüÿ", "áéíñóúüçºª", "áâãàçéêíóôõúüºª", "àèéìíîòóùúº", "äöüßéèëáàçñ",
        "éëïóöüèáíúêäç",         "æøåéèêóòôäöü", "åäöéüàë", "áðéíóúýþæö",
    ),
    "central": (
        "ąćęłńóśźż", "áčďéěíňóřšťúůýžöü", "áäčďéíĺľňóôŕšťúýž", "áéíóöőúüűä", "čćđšž", "ăâîșțşţ",
        "äöüßé", "çë",
    ),
    "turkish": ("çğıİöşüâîû",),
    "baltic": ("äõöüšž", "ąčęėįšųūž", "āčēģīķļņšūž"),
}  # fmt: skip
_GROUPS = {
    **dict.fromkeys(
        ("cp1252", "iso8859-1", "iso8859-15", "mac-roman", "cp850", "cp858", "cp437"), "western"
    ),
    **dict.fromkeys(("cp1250", "iso8859-2", "mac-latin2", "cp852", "iso8859-16"), "central"),
    **dict.fromkeys(("cp1254", "iso8859-9", "mac-turkish", "cp857"), "turkish"),
    **dict.fromkeys(("cp1257", "iso8859-13", "iso8859-4", "cp775"), "baltic"),
}
_WESTERN = frozenset("".join(_LETTERS["western"]) + "".join(_LETTERS["western"]).upper())
_MOST_USUAL = frozenset({"cp1252", "iso8859-1", "iso8859-15"})
_OTHER_SCRIPTS = (
    *("cp1251", "koi8-r", "koi8-u", "iso8859-5", "cp866", "cp855", "mac-cyrillic", "cp1125"),
    *("cp1253", "iso8859-7", "mac-greek", "cp737", "cp869"),
    *("cp1255", "iso8859-8", "cp862", "cp1256", "iso8859-6", "cp720"),
    *("cp874", "tis-620", "cp1258"),
)
_EAST_ASIAN = (
    *("cp932", "shift_jis_2004", "euc_jis_2004", "gb18030", "big5hkscs", "cp949", "johab"),
)
_ASIAN_NAMES = frozenset(
    codecs.lookup(name).name for name in (*_EAST_ASIAN, "shift_jis", "euc_jp", "euc_kr", "big5")
)
# Windows' encodings are the usual ones; of two that read the same text, the more usual one is told.
_PRIORS = (
    (re.compile(r"cp125|iso8859-[578]$|cp932|gb18030|cp949|big5|euc"), 1.0),
    (re.compile(r"mac-cyrillic|koi8-r|cp866"), 0.99),
    (re.compile(r"iso8859-(1|2|9|15)$"), 0.97),
    (re.compile(r"cp85[08]|cp852|cp437|mac-(roman|latin2)"), 0.93),
)
_RARE = 0.85

# Signs, and what each of them is worth beside a letter: currencies are what tables have most.
_CURRENCIES = frozenset("€£¥")
_SIGNS = frozenset("§°²³µ·½¼¾™©®±×÷\u00a0¿¡ªº–—•´¹≤≥≠№")
_OPENING, _CLOSING = frozenset("“‘„‚«‹”»"), frozenset("”’“»›…«")
_APOSTROPHES = frozenset("’´‘")
_SIGN_WORTH = 0.9
_WORDS = frozenset("àáâåäçéèêíìóòôöùúÀÁÂÅÄÉÈÍÓÒÖÙ")  # letters that are words by themselves
# Replacement characters, controls, and characters for private use.
_IMPOSSIBLE = re.compile("[\ufffd\x80-\x9f\ue000-\uf8ff]")
_HIGH = re.compile("[^\x00-\x7f]")
_ALONE = re.compile("(?<![^\x00-\x7f])[^\x00-\x7f](?![^\x00-\x7f])")
_ALONE_IN_WORD = re.compile(
    "(?<=[A-Za-z])[^\x00-\x7f](?![^\x00-\x7f])|(?<![^\x00-\x7f])[^\x00-\x7f](?=[A-Za-z])"
)
_MIXED = re.compile("(?<=[A-Za-z])[^\x00-\x7f]+|[^\x00-\x7f]+(?=[A-Za-z])")


@dataclass(frozen=True, slots=True)
class Candidate:
    """An encoding by Python's name; ``score``: as chardet's, which are small; ``fit``: 0 to 1."""

    name: str
    score: float
    fit: float
    text: str


def find_legacy_encoding(pieces: Sequence[bytes]) -> tuple[Candidate | None, float]:
    """The best candidate, and how far the next one that reads another text is behind it (0..1).

    Parameters
    ----------
    pieces : sequence of bytes
        The beginning of a source, then others of it, each of which may begin and end anywhere.
    """
    sample = _lines(pieces)
    found: list[Candidate] = []
    best_score = 0.0
    for name, score in _candidates(sample):
        if score * (1 + BOOST) < RIVAL * best_score:
            break  # they come by their scores, and no weight is larger
        weighed = _weighed(name, score, sample)
        found.append(weighed)
        best_score = max(best_score, weighed.score)
    found.sort(key=lambda one: -one.score)
    if not found or not found[0].score:
        return None, 0.0
    best = found[0]
    rival = next((one for one in found if one.text != best.text), None)
    behind = 1.0 if rival is None else 1 - rival.score / best.score
    return best, behind


def _lines(pieces: Sequence[bytes]) -> bytes:
    """Lines with bytes beyond ASCII, from all pieces in turn; those that are cut are left out."""
    found: list[bytes] = []
    each = MOST_BYTES // max(1, len(pieces))
    for number, piece in enumerate(pieces):
        lines = piece.splitlines(keepends=True)
        if number and len(lines) > 1:
            del lines[0]
        if len(pieces) > 1 and len(lines) > 1:
            del lines[-1]
        taken = 0
        for line in lines:
            if line.isascii():
                continue
            if taken >= each:
                break
            if len(line) > each:  # cut where no character of several bytes can be
                line = line[: max(line.rfind(sign, 0, each) for sign in b" ,;\t|")]
            found.append(line if line.endswith((b"\n", b"\r")) else line + b"\n")
            taken += len(line)
    return b"".join(found)


def _candidates(sample: bytes) -> list[tuple[str, float]]:
    answers = chardet.detect_all(
        sample, include_encodings=(*_GROUPS, *_OTHER_SCRIPTS, *_EAST_ASIAN), ignore_threshold=True
    )
    found: dict[str, float] = {}
    for answer in answers:
        if answer["encoding"] is None:
            continue
        name = codecs.lookup(answer["encoding"]).name
        found.setdefault(name, answer["confidence"])
    return list(found.items())[:MOST_CANDIDATES]


def _weighed(name: str, score: float, sample: bytes) -> Candidate:
    text = sample.decode(name, errors="replace")
    fit = _fit(name, text)
    weight = fit**WEIGHT * _prior(name)
    if name in _MOST_USUAL:  # where hardly anything tells
        weight *= 1 + BOOST / max(1, len(set(_HIGH.findall(text)))) ** 3
    return Candidate(name, score * weight, fit, text)


def _prior(name: str) -> float:
    return next((prior for pattern, prior in _PRIORS if pattern.match(name)), _RARE)


def _fit(name: str, text: str) -> float:
    """The share of characters beyond ASCII that a person could have written, at their places."""
    group = _GROUPS.get(name)
    if group is None:
        return _fit_of_other_script(text, is_east_asian=name in _ASIAN_NAMES)
    places = [match.start() for match in _HIGH.finditer(text)]
    signs = 0.0
    letters: Counter[str] = Counter()
    for place in places:
        one, before, after = text[place], text[place - 1 : place], text[place + 1 : place + 2]
        if one.isalpha() and one not in "ªº":
            if before.isalpha() or after.isalpha() or one in _WORDS:
                letters[one] += 1
        else:
            signs += _worth(one, before, after)
    best: float = max(
        sum(count for one, count in letters.items() if one in known or one.lower() in known)
        for known in _LETTERS[group]
    )
    if name in _MOST_USUAL:  # names from several countries
        best = max(best, MIXED * sum(letters[one] for one in letters if one in _WESTERN))
    return (best + signs) / max(1, len(places))


def _worth(sign: str, before: str, after: str) -> float:
    """What a sign is worth at its place."""
    if before.isalpha() and after.isalpha():
        return _SIGN_WORTH if sign in _APOSTROPHES else 0.0
    if sign in _CURRENCIES:
        return 1.0
    if sign in _SIGNS:
        return _SIGN_WORTH
    opens = sign in _OPENING and (after.isalnum() or after in "¿¡") and not before.isalnum()
    closes = sign in _CLOSING and not after.isalnum() and bool(before.strip(" ;,"))
    return _SIGN_WORTH if opens or closes else 0.0


def _fit_of_other_script(text: str, *, is_east_asian: bool) -> float:
    """Of a script other than Latin, letters stand together, and not in words of Latin ones.

    Those of East Asia are written with Latin letters among them, and in single characters; but
    hardly in single characters within words of Latin letters, which is what a letter of Western
    Europe and the one behind it look like.
    """
    high = len(_HIGH.findall(text))
    wrong = len(_IMPOSSIBLE.findall(text))
    if is_east_asian:
        wrong += len(_ALONE_IN_WORD.findall(text))
    else:
        known = _SIGNS | _CURRENCIES | _OPENING | _CLOSING
        wrong += sum(len(one) for one in _MIXED.findall(text))
        wrong += sum(one not in known for one in _ALONE.findall(text))
        wrong += sum(
            category(one)[0] not in "LMN" and one not in known for one in _HIGH.findall(text)
        )
    return max(0.0, 1 - wrong / max(1, high))
