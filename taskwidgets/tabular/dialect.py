"""How a delimited file is written: delimiter, quote, encoding, header, null marker.

A `Dialect` can only be made with values that both Python and Postgres' COPY in CSV mode
understand (https://www.postgresql.org/docs/current/sql-copy.html), so that nobody further on
needs to ask again.
"""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

from taskwidgets.errors import OptionError

__all__ = ["Dialect", "postgres_encoding"]

# Python's canonical codec name -> Postgres' encoding name, for those encodings whose multi-byte
# characters have no byte below 0x80: only there is a byte that looks like a quote, a delimiter
# or a newline always one. Source: Postgres manual, "Character Set Support", table 24.3.
_POSTGRES_ENCODINGS = {
    "ascii": "UTF8",  # a subset; SQL_ASCII would switch the server's checks off
    "utf-8": "UTF8",
    "utf-8-sig": "UTF8",
    "iso8859-1": "LATIN1",
    "iso8859-2": "LATIN2",
    "iso8859-3": "LATIN3",
    "iso8859-4": "LATIN4",
    "iso8859-5": "ISO_8859_5",
    "iso8859-6": "ISO_8859_6",
    "iso8859-7": "ISO_8859_7",
    "iso8859-8": "ISO_8859_8",
    "iso8859-9": "LATIN5",
    "iso8859-10": "LATIN6",
    "iso8859-13": "LATIN7",
    "iso8859-14": "LATIN8",
    "iso8859-15": "LATIN9",
    "iso8859-16": "LATIN10",
    "cp866": "WIN866",
    "cp874": "WIN874",
    **{f"cp{page}": f"WIN{page}" for page in range(1250, 1259)},
    "koi8-r": "KOI8R",
    "koi8-u": "KOI8U",
    "euc_jp": "EUC_JP",
    "euc_jis_2004": "EUC_JIS_2004",
    "euc_kr": "EUC_KR",
    "gb2312": "EUC_CN",
}

# Text encodings in which a byte of one character can look like a delimiter, a quote or a newline:
# the second byte of SJIS, BIG5, GBK and their like can be 0x40..0x7e ("|" and "\" among them),
# GB18030 has digits in it, ISO-2022 shifts ASCII's meaning, UTF-16 and UTF-32 have NUL bytes.
_UNSAFE_PREFIXES = (
    *("utf-16", "utf-32", "utf-7", "iso2022", "hz"),
    *("shift_jis", "shift_jisx", "cp932", "big5", "cp950", "gbk", "gb18030", "cp949", "johab"),
)


@dataclass(frozen=True)
class Dialect:
    """How a file is written; every instance is one that COPY can read.

    ``delimiter`` and ``quotechar`` are one ASCII character each. ``encoding`` is any name that
    Python has for it. ``header`` says whether the first record holds the columns' names.
    ``null_value`` is the text that, unquoted, stands for NULL; quoted it is that text.
    Raises OptionError, naming the argument, for anything else.
    """

    delimiter: str = ","
    quotechar: str = '"'
    encoding: str = "utf-8"
    header: bool = True
    null_value: str = ""

    def __post_init__(self) -> None:
        self.validate()

    def validate(self) -> None:
        """Raise OptionError at the first argument that makes no sense."""
        _check_character("delimiter", self.delimiter)
        _check_character("quotechar", self.quotechar)
        if self.delimiter == self.quotechar:
            raise OptionError(
                f"delimiter and quotechar are both {self.delimiter!r}; they must differ"
            )
        postgres_encoding(self.encoding)
        if not isinstance(self.header, bool):
            raise OptionError(f"header must be True or False, not {self.header!r}")
        if not isinstance(self.null_value, str):
            raise OptionError(f"null_value must be a string, not {self.null_value!r}")
        for character, what in (
            (self.delimiter, "the delimiter"),
            (self.quotechar, "the quote character"),
            ("\r", "a carriage return"),
            ("\n", "a newline"),
            ("\0", "a NUL character"),
        ):
            if character in self.null_value:
                raise OptionError(f"null_value={self.null_value!r} must not contain {what}")
        try:
            self.null_value.encode(self.encoding)
        except UnicodeEncodeError:
            raise OptionError(
                f"null_value={self.null_value!r} cannot be written in encoding={self.encoding!r}"
            ) from None

    @property
    def postgres_encoding(self) -> str:
        """The encoding's name for COPY's option ENCODING: "UTF8", "LATIN1", "WIN1252" ..."""
        return postgres_encoding(self.encoding)

    @property
    def codec(self) -> str:
        """Python's codec for the file's text after a byte order mark, if it has one."""
        name = codecs.lookup(self.encoding).name
        return "utf-8" if name == "utf-8-sig" else name

    @property
    def quote_byte(self) -> int:
        """The quote character as a byte, 0..127."""
        return ord(self.quotechar)

    @property
    def copy_options(self) -> dict[str, str]:
        """COPY's options for the data after the header, as plain values, not yet quoted as SQL.

        There is no HEADER among them: segments hold data only.
        """
        return {
            "format": "csv",
            "delimiter": self.delimiter,
            "quote": self.quotechar,
            "null": self.null_value,
            "encoding": self.postgres_encoding,
        }

    def to_json(self) -> dict[str, str | bool]:
        """A plain dict for a checkpoint; `from_json` makes an equal dialect of it."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, object]) -> Dialect:
        """The dialect that `to_json` wrote; OptionError for keys that a dialect does not have."""
        unknown = sorted(set(data) - {field.name for field in fields(cls)})
        if unknown:
            raise OptionError(f"a dialect has no {', '.join(unknown)}")
        return cls(**data)  # type: ignore[arg-type]  # __post_init__ checks every value


def postgres_encoding(encoding: str) -> str:
    """Postgres' name for a Python encoding, by whatever alias; OptionError where there is none."""
    try:
        codec = codecs.lookup(encoding)
    except (LookupError, TypeError, ValueError):
        raise OptionError(f"encoding={encoding!r} is not an encoding that Python knows") from None
    name = codec.name
    if name in _POSTGRES_ENCODINGS:
        return _POSTGRES_ENCODINGS[name]
    if name.startswith(_UNSAFE_PREFIXES):
        raise OptionError(
            f"encoding={encoding!r} cannot be loaded as it is: in it, a byte of another character "
            "can look like a delimiter, a quote or a newline. Convert the file to UTF-8 first, "
            f"for instance: iconv -f {name.upper().replace('_', '-')} -t UTF-8 in.csv > out.csv"
        )
    raise OptionError(
        f"encoding={encoding!r} is not an encoding that Postgres knows; convert the file to UTF-8"
    )


def _check_character(argument: str, value: object) -> None:
    if not isinstance(value, str) or len(value) != 1:
        raise OptionError(f"{argument} must be one character, not {value!r}")
    if value in "\r\n\0":
        raise OptionError(f"{argument} must not be a line ending or NUL, as {value!r} is")
    if ord(value) > 0x7F:
        raise OptionError(
            f"{argument} must be an ASCII character, as COPY takes a single byte; {value!r} is not"
        )
