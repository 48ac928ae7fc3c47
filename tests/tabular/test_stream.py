"""A source's text as a stream with positions, whatever it is packed in."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from taskwidgets.errors import OptionError, SourceError
from taskwidgets.tabular.description import Description
from taskwidgets.tabular.grammar import Grammar
from taskwidgets.tabular.pieces import Cutter
from taskwidgets.tabular.stream import open_stream


def zipped(data: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", data)
    return out.getvalue()


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    "gzip": gzip.compress,
    "zstd": zstandard.compress,
    "bzip2": bz2.compress,
    "xz": lambda data: lzma.compress(data, preset=0),
    "zip": zipped,
}
TEXT = "".join(f"{number},é日,x\n" for number in range(200_000))


@pytest.mark.sample(15)
@pytest.mark.parametrize("container", PACKERS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-8-sig", "latin-1", "gb18030"])
def test_positions(tmp_path: Path, container: str, encoding: str) -> None:
    """Any stretch can be read at any time; a byte order mark is no part of the text."""
    path = tmp_path / "a"
    text = TEXT.replace("日", "ü") if encoding == "latin-1" else TEXT
    path.write_bytes(PACKERS[container](text.encode(encoding)))
    with open_stream(path, Description(container=container, encoding=encoding)) as stream:
        whole = text.encode(stream.codec)
        start = stream.text_start
        for at, length in ((0, 10), (len(whole) - 5, 100), (3, 7), (1_500_000, 1_500_000), (9, 9)):
            assert stream.read_at(start + at, length) == whole[at : at + length]
        assert stream.size == start + len(whole)


@pytest.mark.parametrize("container", [name for name in PACKERS if name])
def test_a_truncated_archive(tmp_path: Path, container: str) -> None:
    """An archive that was cut off is an error of the source, not an early end."""
    path = tmp_path / "a"
    packed = PACKERS[container](TEXT.encode())
    path.write_bytes(packed[: len(packed) // 2])
    description = Description(container=container)
    with pytest.raises(SourceError), open_stream(path, description) as stream:
        stream.read_at(len(TEXT.encode()) - 1, 1)


def test_bytes_that_are_not_of_the_encoding(tmp_path: Path) -> None:
    """Where the text has to be recoded, a wrong byte is an error with its position."""
    path = tmp_path / "a"
    path.write_bytes(b"a,b\n" + b"\x81\xff\n")
    with (
        open_stream(path, Description(encoding="shift_jis")) as stream,
        pytest.raises(SourceError, match="bytes at 4 are not valid"),
    ):
        stream.read_at(0, 100)
    with pytest.raises(OptionError, match="not an encoding"):
        open_stream(path, Description(encoding="base64"))
    with pytest.raises(SourceError, match="cannot be read"):
        open_stream(tmp_path / "none", Description())


@pytest.mark.parametrize("container", PACKERS)
def test_segments_of_a_packed_file(tmp_path: Path, container: str) -> None:
    """Segments of a packed file join to its text, and can be cut from any record on."""
    path = tmp_path / "a"
    path.write_bytes(PACKERS[container](TEXT.encode()))
    whole = TEXT.encode()
    with open_stream(path, Description(container=container)) as stream:
        cutter = Cutter(stream, Grammar(columns=3), 0, None)
        found = []
        while (segment := cutter.next(700_000)) is not None:
            found.append(segment)
        assert b"".join(segment.data for segment in found) == whole
        assert all(segment.clean for segment in found)
        assert sum(segment.records for segment in found) == 200_000
        assert sum(segment.lines for segment in found) == 200_000
        again = Cutter(stream, Grammar(columns=3), 0, None, [(found[2].start, None)]).next(700_000)
        assert again == found[2]


@pytest.mark.sample(3)
@pytest.mark.parametrize("container", PACKERS)
def test_progress_without_a_size(tmp_path: Path, container: str) -> None:
    """How far the packed file is read stands in for a size that is not known."""
    path = tmp_path / "a"
    path.write_bytes(PACKERS[container](random.Random(1).randbytes(4_000_000).hex().encode()))
    with open_stream(path, Description(container=container)) as stream:
        assert (stream.fraction is None) == (stream.size is not None)
        seen = []
        for at in range(0, 8_000_001, 500_000):
            stream.read_at(at, 500_000)
            seen.append(stream.fraction)
        if container:
            assert sorted(seen) == seen
            assert 0.2 < seen[5] < 0.8
            assert seen[-1] == 1.0


@pytest.mark.parametrize("container", PACKERS)
def test_bytes_of_no_archive(tmp_path: Path, container: str) -> None:
    """Whatever the bytes, an error is one of this package."""
    path = tmp_path / "a"
    for content in (b"", b"PK\x03\x04abc", b"\x1f\x8b\x08" + b"x" * 99, bytes(range(256))):
        path.write_bytes(content)
        if not container or (not content and container in ("gzip", "zstd")):
            with open_stream(path, Description(container=container)) as stream:
                assert stream.read_at(0, 1000) == content
            continue
        with (
            pytest.raises(SourceError, match=f"a is a (broken )?{container} file"),
            open_stream(path, Description(container=container)) as stream,
        ):
            stream.read_at(0, 1000)
