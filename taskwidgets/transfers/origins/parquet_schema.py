"""What a Parquet file's own schema says of its columns, beside their Arrow types."""

from __future__ import annotations

from typing import Any

import numpy as np

from taskwidgets.transfers.origins.types.arrow_columns import ArrowColumn

__all__ = ["SchemaColumn", "fits_by_statistics", "schema_columns"]


class SchemaColumn:
    """A column of the file's table, and the leaves that Parquet keeps of it."""

    def __init__(self, file: Any, place: int, first_leaf: int, leaves: int) -> None:
        self.field = file.schema_arrow.field(place)
        self.place = place
        self._file = file
        self.leaves = range(first_leaf, first_leaf + leaves)

    @property
    def has_int96(self) -> bool:
        """Whether it holds INT96 timestamps, which are nanoseconds of all years."""
        return any(self._file.schema.column(n).physical_type == "INT96" for n in self.leaves)

    @property
    def extension(self) -> tuple[str, bytes]:
        """(name, description) of its extension type, where Arrow's type does not say it."""
        metadata = self.field.metadata or {}
        name = metadata.get(b"ARROW:extension:name", b"").decode(errors="replace")
        if name:
            return name, metadata.get(b"ARROW:extension:metadata", b"")
        if len(self.leaves) > 1:
            return "", b""
        leaf = self._file.schema.column(self.leaves[0])
        if leaf.max_repetition_level:
            return "", b""
        kinds = {"JSON": "arrow.json", "UUID": "arrow.uuid", "ENUM": "parquet.enum"}
        if leaf.converted_type == "INTERVAL":
            return "parquet.interval", b""
        return kinds.get(leaf.logical_type.type, ""), b""

    def statistics(self) -> list[Any] | None:
        """Of each row group; None where one has none, or there are several leaves."""
        metadata = self._file.metadata
        if len(self.leaves) > 1:
            return None
        found = [
            metadata.row_group(group).column(self.leaves[0]).statistics
            for group in range(metadata.num_row_groups)
        ]
        return found if all(one is not None and one.has_min_max for one in found) else None


def schema_columns(file: Any) -> list[SchemaColumn]:
    """The columns of the file's table."""
    found, leaf = [], 0
    for place, field in enumerate(file.schema_arrow):
        leaves = _leaves(field.type)
        found.append(SchemaColumn(file, place, leaf, leaves))
        leaf += leaves
    return found


def _leaves(kind: Any) -> int:
    storage = getattr(kind, "storage_type", None)
    if storage is not None:
        return _leaves(storage)
    if str(kind).startswith("dictionary"):
        return 1
    fields = kind.num_fields
    return sum(_leaves(kind.field(number).type) for number in range(fields)) if fields else 1


def fits_by_statistics(arrow: Any, column: SchemaColumn, loaded: ArrowColumn) -> bool:
    """Whether the least and the largest values tell that the Postgres type holds all of them."""
    kind = column.field.type
    if loaded.misfits is None:
        return True
    if not arrow.types.is_temporal(kind) or getattr(kind, "unit", "") == "ns":
        return False  # of nanoseconds, each value must be looked at
    if column.has_int96:
        return False
    statistics = column.statistics()
    if statistics is None:
        return False
    size = np.int32 if kind.bit_width == 32 else np.int64
    ends = [end for one in statistics for end in (one.min_raw, one.max_raw)]
    return not loaded.misfits(arrow.array(np.array(ends, size)).cast(kind)).any()
