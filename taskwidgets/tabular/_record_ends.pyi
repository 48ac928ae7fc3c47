"""What record_ends.c is compiled to."""

def scan(
    data: bytes | bytearray | memoryview, quote: int, inside: bool, start: int, stop: int, /
) -> tuple[int, int, int, int, int, bool]: ...
