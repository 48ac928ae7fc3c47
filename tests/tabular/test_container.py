"""What a source is packed in, and reading it."""

import bz2
import gzip
import io
import lzma
import os
import zipfile

import pytest
import zstandard

from taskwidgets.errors import SourceError
from taskwidgets.tabular.container import detect_container, open_container

TEXT = b"id,name\n" + b"".join(b"%d,row %d\n" % (n, n * n) for n in range(20_000))


def _zip(data, name="data.csv", **more):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, data)
        for other, content in more.items():
            archive.writestr(other, content)
    return packed.getvalue()


PACKERS = {
    "": lambda data: data,
    "gzip": gzip.compress,
    "zstd": zstandard.ZstdCompressor(write_checksum=True).compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zip": _zip,
}


@pytest.fixture
def written(tmp_path):
    def write(data, name="data.csv"):
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


def _read(path):
    container = detect_container(path.read_bytes()[:65536])
    with open_container(path, container) as file:
        return file.read()


@pytest.mark.parametrize("container", PACKERS)
def test_what_was_packed_comes_out(written, container):
    """Each container is told by its content, whatever the name, and gives the bytes back."""
    path = written(PACKERS[container](TEXT), "data.txt")
    assert detect_container(path.read_bytes()) == container
    assert _read(path) == TEXT


@pytest.mark.parametrize("container", [name for name in PACKERS if name])
def test_nothing_packed_is_nothing(written, container):
    """An empty file that is packed is empty, no error."""
    assert _read(written(PACKERS[container](b""))) == b""


@pytest.mark.parametrize("container", ["gzip", "zstd", "bzip2", "xz"])
def test_parts_packed_one_by_one_are_one_file(written, container):
    """Members, frames or streams one after another are read to the last."""
    pack = PACKERS[container]
    assert _read(written(pack(TEXT) + pack(b"") + pack(b"1,2\n"))) == TEXT + b"1,2\n"


@pytest.mark.parametrize("container", [name for name in PACKERS if name])
@pytest.mark.parametrize("kept", [0.3, 0.9, 0.999])
def test_a_truncated_archive_is_our_error(written, container, kept):
    """What ends too early raises SourceError with the path, at the latest when its end is read."""
    data = PACKERS[container](TEXT)
    path = written(data[: int(len(data) * kept)])
    with pytest.raises(SourceError) as caught:
        _read(path)
    assert caught.value.path == str(path)


@pytest.mark.sample(2)
@pytest.mark.parametrize("container", [name for name in PACKERS if name])
def test_a_flipped_byte_is_our_error(written, container):
    """A damaged archive raises nothing but SourceError, wherever the damage is."""
    data = PACKERS[container](TEXT)
    places = range(8, len(data), max(1, len(data) // 40))
    refused = 0
    for place in places:
        broken = bytearray(data)
        broken[place] ^= 0x41
        path = written(bytes(broken))
        try:
            with open_container(path, container) as file:
                assert file.read() == TEXT  # a byte that says nothing, as the time in a header
        except SourceError:
            refused += 1
    assert refused > 0.9 * len(places)


def test_a_zip_with_several_files_is_refused_by_name(written):
    """The error names the files; macOS' own additions do not count."""
    path = written(_zip(TEXT, "one.csv", **{"two.csv": b"a\n"}))
    with pytest.raises(SourceError, match=r"2 files \('one.csv', 'two.csv'\)"):
        open_container(path, "zip")
    assert _read(written(_zip(TEXT, "one.csv", **{"__MACOSX/._one.csv": b"x"}))) == TEXT


def test_a_workbook_is_told_from_a_zip(written):
    """An .xlsx is a zip inside, and is refused as what it is."""
    path = written(_zip(b"", "a.bin", **{"[Content_Types].xml": "<Types/>"}))
    with pytest.raises(SourceError, match="Excel"):
        detect_container(path.read_bytes())
    with pytest.raises(SourceError, match="Office"):
        open_container(path, "zip")


@pytest.mark.parametrize(
    ("head", "what"),
    [
        (b"PAR1" + bytes(8), "Parquet"),
        (b"SQLite format 3\x00", "SQLite"),
        (b"7z\xbc\xaf\x27\x1c", "7z"),
        (b"a.csv" + bytes(252) + b"ustar\x0000", "tar"),
    ],
)
def test_foreign_formats_are_refused_by_name(head, what):
    """What holds no delimited text is named in the error."""
    with pytest.raises(SourceError, match=what):
        detect_container(head)


def test_random_bytes_raise_nothing_else(written):
    """Noise behind each magic number is a SourceError."""
    for container, pack in PACKERS.items():
        if container:
            path = written(pack(TEXT)[:12] + os.urandom(500))
            with pytest.raises(SourceError):
                _read(path)
