"""A description made ready for reading bytes: its marks as bytes, and what COPY is told of them.

Two ways lead to COPY. Where its own options can say how the file is written, clean stretches go
to it as they stand, and what is repaired is written in the same way (`Grammar.direct`). Otherwise
every record is written anew, as RFC 4180 has it, in UTF-8.
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from functools import cached_property

from taskwidgets.errors import OptionError
from taskwidgets.tabular.description import Description
from taskwidgets.tabular.dialect import Dialect, postgres_encoding

__all__ = ["Grammar"]

_UNUSED_QUOTE = "\x02"  # what COPY is told to be the quote where a file has none
# Where nothing stands for NULL, what a short row is filled with: no field can be it.
_NO_TEXT = "\0"


@dataclass(frozen=True)
class Grammar:
    """How to read records of ``columns`` fields, and how to write clean ones.

    ``codec`` is Python's name for the text of the stream that is read, whose bytes are those of
    ASCII below 0x80. ``quote``, ``escape`` and ``delimiter`` are text, "" for none; ``newline`` is
    "\\n", "\\r\\n" or "\\r", and what cleaned records end with is ``output_newline``.
    ``spaced_rows`` says that in a row with a blank after each of its delimiters the blanks are no
    part of the values, though the file as a whole has none.
    """

    columns: int
    codec: str = "utf-8"
    delimiter: str = ","
    quote: str = '"'
    escape: str = ""
    newline: str = "\n"
    mixed_newlines: bool = False
    skip_initial_space: bool = False
    null_values: tuple[str, ...] = ("",)
    spaced_rows: bool = False
    converted: bool = False  # values are to be changed, so that every record is written anew

    @classmethod
    def of(
        cls,
        description: Description,
        columns: int,
        codec: str = "utf-8",
        *,
        spaced_rows: bool = False,
        converted: bool = False,
    ) -> Grammar:
        """The grammar of a description, for a stream whose text is in ``codec``.

        Raises OptionError for marks that no reader can go by.
        """
        delimiter, quote, escape = (
            description.delimiter,
            description.quotechar,
            description.escapechar,
        )
        if columns < 1:
            raise OptionError(f"a table has at least one column, not {columns}")
        if len(quote) > 1 or not quote.isascii() or quote in ("\r", "\n", "\0"):
            raise OptionError(f"quotechar must be one ASCII character or none, not {quote!r}")
        if len(escape) > 1 or not escape.isascii() or escape in ("\r", "\n", "\0"):
            raise OptionError(f"escapechar must be one ASCII character or none, not {escape!r}")
        if any(mark in delimiter for mark in "\r\n\0") or (quote and quote in delimiter):
            raise OptionError(f"delimiter={delimiter!r} holds a quote, a line ending or NUL")
        if description.line_terminator not in ("\n", "\r\n", "\r", ""):
            raise OptionError(f"line_terminator={description.line_terminator!r} ends no line")
        try:
            delimiter.encode(codec)
        except (LookupError, UnicodeEncodeError):
            raise OptionError(f"delimiter={delimiter!r} cannot be written in {codec}") from None
        return cls(
            columns=columns,
            codec=codec,
            delimiter=delimiter,
            quote=quote,
            escape="" if escape == quote else escape,
            newline=description.line_terminator or "\n",
            mixed_newlines=not description.line_terminator,
            skip_initial_space=description.skip_initial_space,
            null_values=description.null_values or (_NO_TEXT,),
            spaced_rows=spaced_rows,
            converted=converted,
        )

    @property
    def blank_runs(self) -> bool:
        """Whether a run of blanks is one delimiter, and blanks at a line's ends are none."""
        return self.skip_initial_space and self.delimiter == " "

    @cached_property
    def direct(self) -> bool:
        """Whether COPY can be given clean stretches as they stand.

        A record with an escape in it cannot, but the others of such a file can.
        """
        return (
            not self.converted
            and not self.skip_initial_space
            and len(self.delimiter) == 1
            and self.delimiter.isascii()
            and self.newline != "\r"
            and len(self.null_values) == 1
            and self._dialect() is not None
        )

    def _dialect(self) -> Dialect | None:
        try:
            return Dialect(
                delimiter=self.delimiter,
                quotechar=self.quote or _UNUSED_QUOTE,
                encoding=self.codec,
                header=False,
                null_value=self.null_values[0],
            )
        except OptionError:
            return None

    @cached_property
    def output(self) -> Dialect:
        """What COPY is to be told of the cleaned data; it has no header."""
        dialect = self._dialect() if self.direct else None
        return dialect or Dialect(header=False)

    @property
    def output_newline(self) -> str:
        """What ends a cleaned record: the file's own, as COPY takes only one in its input."""
        return "\r\n" if self.direct and self.newline == "\r\n" else "\n"

    @property
    def end_byte(self) -> int:
        """The byte that ends a record."""
        return 0x0D if self.newline == "\r" else 0x0A

    @property
    def is_utf8(self) -> bool:
        """Whether the text is UTF-8 (or ASCII, its subset)."""
        return postgres_encoding(codecs.lookup(self.codec).name) == "UTF8"
