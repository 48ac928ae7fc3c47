"""How a source is written, whatever program wrote it: what was decided, or what the user said.

A `Dialect` is the narrow form of it: what COPY reads as it stands. Where `Description.dialect`
gives one, the bytes go straight to COPY; everything else is read leniently and written clean.
The words are those of the W3C's "Metadata Vocabulary for Tabular Data" where it has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

from taskwidgets.errors import OptionError
from taskwidgets.tabular.dialect import Dialect, postgres_encoding

__all__ = ["CONTAINERS", "Description"]

CONTAINERS = ("", "gzip", "zstd", "bzip2", "xz", "zip")


# COPY in CSV mode cannot be told that nothing is quoted. This control character (start of text) is
# a quote that no text file has, so that quotation marks stay letters.
_NO_QUOTE = "\x02"


@dataclass(frozen=True)
class Description:
    """How a source is written.

    - ``container``: what it is packed in, one of `CONTAINERS`; "" is not packed.
    - ``encoding``: any text encoding that Python knows, UTF-16 among them.
    - ``delimiter``: one or more characters; "" for a file of one column.
    - ``quotechar``: one character, or "" where nothing is quoted.
    - ``escapechar``: what stands before a quote (or itself) inside quotes; "" where quotes are
      doubled.
    - ``skip_initial_space``: blanks after a delimiter are no part of the value.
    - ``line_terminator``: "\\n", "\\r\\n", "\\r", or "" where several of them end records.
    - ``skip_rows``: physical lines before the header that are no part of the table.
    - ``header_rows``: 0 for none, or how many records make up the names.
    - ``footer_rows``: physical lines after the last record that are no part of the table.
    - ``columns``: the names as the table has them, renamed where a ``names=`` rule says so.
    - ``decimal``, ``thousands``: how numbers are written; ``thousands`` "" for not at all.
    - ``null_values``: texts that, unquoted, stand for NULL.
    - ``date_formats``: column -> strptime format, where it is not ISO already.
    - ``booleans``: column -> (word for true, word for false), where Postgres would not know them.
    - ``clean``: False where records are known that COPY would refuse or misread as they stand:
      another number of fields, quotes where none should be, NUL, bytes wrong in the encoding.
    """

    container: str = ""
    encoding: str = "utf-8"
    delimiter: str = ","
    quotechar: str = '"'
    escapechar: str = ""
    skip_initial_space: bool = False
    line_terminator: str = "\n"
    skip_rows: int = 0
    header_rows: int = 1
    footer_rows: int = 0
    columns: tuple[str, ...] = ()
    decimal: str = "."
    thousands: str = ""
    null_values: tuple[str, ...] = ("",)
    date_formats: Mapping[str, str] | None = None
    booleans: Mapping[str, tuple[str, str]] | None = None
    clean: bool = True

    @property
    def dialect(self) -> Dialect | None:
        """The dialect with which COPY reads the data as they stand; None where it cannot."""
        plain = (
            not self.container
            and len(self.delimiter) == 1
            and not self.escapechar
            and not self.skip_initial_space
            and self.line_terminator in ("\n", "\r\n")
            and not self.skip_rows
            and not self.footer_rows
            and self.header_rows <= 1
            and self.decimal == "."
            and not self.thousands
            and len(self.null_values) == 1
            and not self.date_formats
            and not self.booleans
            and self.clean
        )
        if not plain:
            return None
        try:
            postgres_encoding(self.encoding)
            return Dialect(
                delimiter=self.delimiter,
                quotechar=self.quotechar or _NO_QUOTE,
                encoding=self.encoding,
                header=self.header_rows == 1,
                null_value=self.null_values[0],
            )
        except OptionError:
            return None

    def to_json(self) -> dict[str, object]:
        """A plain dict for a plan; `from_json` makes an equal description of it."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, object]) -> Description:
        """The description that `to_json` wrote; OptionError for keys that there are none of."""
        unknown = sorted(set(data) - {field.name for field in fields(cls)})
        if unknown:
            raise OptionError(f"a description has no {', '.join(unknown)}")
        values = {
            name: tuple(value) if isinstance(value, list) else value for name, value in data.items()
        }
        return cls(**values)  # type: ignore[arg-type]
