"""Exports into folders of part files, each compared with one COPY."""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import zstandard
from fix_databases import Look
from fix_exports import Exports, copied
from fix_servers import plain, wait_until

from taskwidgets import Job, Receipt
from taskwidgets.transfers import folder_download
from taskwidgets.transfers.manifest import MANIFEST

SMALL_PART = 200_000  # bytes of a table: the usual one then becomes some forty parts


def unpacked(path: Path) -> bytes:
    """A CSV part's text."""
    data = path.read_bytes()
    if path.suffix == ".gz":
        return gzip.decompress(data)
    if path.suffix == ".zst":
        reader = zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True)
        return reader.read()
    return data


class Folders:
    """Exports into folders below the test's own."""

    def __init__(self, exports: Exports) -> None:
        self.exports = exports
        self.look = exports.look
        self.base = exports.folder
        self.path = self.base / "out"

    def start(self, source: str = "t", target: str | None = None, **options: Any) -> Job:
        target = f"{self.path}/" if target is None else target
        return self.exports.workspace.download(source, target, **options)

    def manifest(self, folder: Path | None = None) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(((folder or self.path) / MANIFEST).read_text())
        return told

    def parts(self, folder: Path | None = None) -> list[Path]:
        """The files that the manifest names, in its order."""
        folder = folder or self.path
        return [folder / part["name"] for part in self.manifest(folder)["parts"]]

    def rows(self, folder: Path | None = None) -> bytes:
        """All parts' rows, one after the other: as COPY without a header gives them."""
        told = self.manifest(folder)
        texts = [unpacked(path) for path in self.parts(folder)]
        if told["csv"]["header"]:
            lines = {text.partition(b"\n")[0] for text in texts}
            assert len(lines) == 1
            texts = [text.partition(b"\n")[2] for text in texts]
        return b"".join(texts)

    def check(self, receipt: Receipt, expected: bytes, folder: Path | None = None) -> None:
        """The folder holds these rows, nothing else, and all that is said of it is so."""
        folder = folder or self.path
        told = self.manifest(folder)
        assert self.rows(folder) == expected
        assert {path.name for path in folder.iterdir()} == {
            MANIFEST,
            *(part["name"] for part in told["parts"]),
        }
        for part in told["parts"]:
            data = (folder / part["name"]).read_bytes()
            assert part["bytes"] == len(data)
            assert part["sha256"] == hashlib.sha256(data).hexdigest()
            assert part["crc32"] == f"{zlib.crc32(data):08x}"
        assert told["rows"] == sum(part["rows"] for part in told["parts"])
        assert told["bytes"] == sum(part["bytes"] for part in told["parts"]) == receipt.bytes
        assert receipt.rows_read == receipt.rows_loaded == told["rows"]
        assert receipt.sha256 == hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()
        assert self.exports.partials() == []
        assert self.look.staging() == []

    def expected(self, select: str = "SELECT * FROM t") -> bytes:
        return copied(self.look.url, select, "FORMAT csv")

    def halfway(self, parts: int = 2, **options: Any) -> Job:
        """An export that goes slowly, with some of its parts in the ledger."""
        job = self.start(**{"workers": 2, "max_rate": 2e6, **options})
        wait_until(lambda: self.look.ledger(job.id)[0] >= parts)
        return job

    def names(self) -> list[str]:
        """What is in the test's folder."""
        return sorted(path.name for path in self.base.iterdir())


@pytest.fixture
def folders(exports: Exports, monkeypatch: pytest.MonkeyPatch) -> Folders:
    """Exports from the test's database into folders, in small parts."""
    monkeypatch.setattr(folder_download, "SMALLEST_PART", SMALL_PART)
    monkeypatch.setattr(folder_download, "PART_BYTES", SMALL_PART)
    return Folders(exports)


@pytest.fixture
def old_folder(folders: Folders, look: Look) -> Callable[[], bytes]:
    """An earlier export stands under the name; gives its rows, whatever it is by then."""
    look("CREATE TABLE old AS SELECT n FROM generate_series(1, 9) AS n")
    folders.start("old").wait(60)
    return folders.rows


def fetched(url: str, select: str) -> list[tuple[Any, ...]]:
    """A query's rows, as the driver has them, its moments in UTC."""
    connection = psycopg2.connect(plain(url))
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute("SET TimeZone TO 'UTC'")
            cursor.execute(select)
            return cursor.fetchall()
    finally:
        connection.close()
