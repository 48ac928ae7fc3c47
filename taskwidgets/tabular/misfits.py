"""Values that do not belong into a column of an inferred type, though Postgres might read them.

Only what `types.fits` says counts: ``007`` among integers is a misfit, though COPY takes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from taskwidgets.tabular.boundaries import records
from taskwidgets.tabular.dialect import Dialect
from taskwidgets.tabular.fields import split_fields
from taskwidgets.tabular.types import fits

__all__ = ["Misfit", "find_misfits"]


@dataclass
class Misfit:
    """What does not fit of a column: all values, and the record of the first one.

    ``start`` and ``stop`` are the record's bytes in the data, ``first`` is the value in it.
    """

    start: int
    stop: int
    first: str
    values: set[str] = field(default_factory=set)


def find_misfits(
    data: bytes | memoryview, dialect: Dialect, kinds: Mapping[int, str]
) -> dict[int, Misfit]:
    """The misfits of whole records, by column; ``kinds`` are inferred types, by column.

    Reads every value, some 30 ns a byte: for data of which it is known that there are some.
    """
    found: dict[int, Misfit] = {}
    good: dict[int, set[str]] = {index: set() for index in kinds}
    null, written = dialect.null_value, bytes(data)
    for start, stop in records(written, dialect.quote_byte):
        fields = split_fields(written[start:stop], dialect)
        for index, kind in kinds.items():
            if index >= len(fields):
                continue
            value, quoted = fields[index]
            if value in good[index] or (value == null and not quoted):
                continue
            if fits(value, kind):
                good[index].add(value)
                continue
            misfit = found.setdefault(index, Misfit(start, stop, value))
            misfit.values.add(value)
    return found
