"""Addresses without their secrets: what may be kept and shown of a URL and its options."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

__all__ = ["Secrets", "masked_url"]

# What a parameter is called that lets whoever has it in: signatures, tokens, keys.
_SECRET = re.compile(
    r"sig|signature|token|key|secret|passw|pwd|auth|credential|session|code", re.IGNORECASE
)
_MASK = "***"
_SHORTEST = 3  # characters of a secret that is looked for in a text; a shorter one is in any word


def masked_url(url: str) -> str:
    """The URL with ``***`` for user and password, and for parameters that may be secrets."""
    parts = urlsplit(url)
    where = parts.netloc
    if "@" in where:
        where = f"{_MASK}@{where.rpartition('@')[2]}"
    query = urlencode(
        [
            (name, _MASK if _SECRET.search(name) else value)
            for name, value in parse_qsl(parts.query, keep_blank_values=True)
        ],
        safe="*/:",
    )
    return urlunsplit((parts.scheme, where, parts.path, query, ""))


class Secrets:
    """The secrets of a URL and its options, to be kept out of every text."""

    def __init__(self, url: str, options: Mapping[str, object]) -> None:
        parts = urlsplit(url)
        found = {url} if masked_url(url) != url else set()
        if "@" in parts.netloc:
            user = parts.netloc.rpartition("@")[0]
            found |= {user, *user.split(":", 1)}
        for name, value in parse_qsl(parts.query, keep_blank_values=True):
            if _SECRET.search(name):
                found |= {value, quote(value), quote(value, safe="")}
        found |= set(_texts(options.values()))
        found |= {unquote(text) for text in found}
        self._url, self._shown = url, masked_url(url)
        self._found = sorted((t for t in found if len(t) >= _SHORTEST), key=len, reverse=True)

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._found)

    def out_of(self, text: str) -> str:
        """The text without them."""
        text = text.replace(self._url, self._shown)
        for secret in self._found:
            text = text.replace(secret, _MASK)
        return text


def _texts(values: Iterable[object]) -> Iterable[str]:
    for value in values:
        if isinstance(value, str):
            yield value
        elif isinstance(value, Mapping):
            yield from _texts(value.values())
        elif isinstance(value, list | tuple | set):
            yield from _texts(value)
