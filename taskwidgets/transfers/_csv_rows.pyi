"""What csv_rows.c is compiled to."""

def convert(
    data: bytes | memoryview,
    out: memoryview,
    delimiter: int,
    null: bytes,
    quote_all: bool,
    is_only: bool,
    /,
) -> tuple[int, int, int, bool]: ...
