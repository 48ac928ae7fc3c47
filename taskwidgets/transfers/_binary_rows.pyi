"""What binary_rows.c is compiled to."""

def encode(
    data: bytes | memoryview,
    out: memoryview,
    kinds: bytes,
    delimiter: int,
    quote: int,
    null: bytes,
    ends_in_cr: int,
    /,
) -> tuple[int, int, int, int] | None: ...
