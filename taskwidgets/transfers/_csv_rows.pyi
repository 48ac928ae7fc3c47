"""What csv_rows.c is compiled to."""

def convert(
    data: bytes | bytearray | memoryview,
    out: memoryview,
    delimiter: int,
    null: bytes,
    quote_all: bool,
    is_only: bool,
    /,
) -> tuple[int, int, int, bool]: ...
def convert_binary(
    data: bytes | bytearray | memoryview,
    out: memoryview,
    delimiter: int,
    null: bytes,
    quote_all: bool,
    kinds: bytes,
    /,
) -> tuple[int, int, int, bool]: ...
