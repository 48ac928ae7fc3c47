"""Which file it is, and what changed."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from taskwidgets.errors import SourceError
from taskwidgets.tabular.source import Fingerprint, check_readable, describe_change

NOON = 1_795_521_731_000_000_000  # ns: 2026-11-24 12:02:11 UTC


def test_fingerprint_is_stable_and_plain(tmp_path: Path) -> None:
    """The same file gives an equal fingerprint, also through JSON."""
    path = tmp_path / "a.csv"
    path.write_bytes(bytes(range(256)) * 1000)
    first = Fingerprint.of(path)
    assert first == Fingerprint.of(path)
    assert first.size == 256_000
    assert Fingerprint.from_json(json.loads(json.dumps(first.to_json()))) == first
    assert describe_change(first, first) is None
    with pytest.raises(ValueError, match="not a fingerprint"):
        Fingerprint.from_json({"size": 1})


@pytest.mark.parametrize("offset", [0, 128_000, 255_999])
def test_edits_at_head_middle_and_tail_are_seen(tmp_path: Path, offset: int) -> None:
    """A byte changed in a sampled block is noticed even when size and time are restored."""
    path = tmp_path / "a.csv"
    path.write_bytes(b"x" * 256_000)
    then = Fingerprint.of(path)
    with path.open("r+b") as file:
        file.seek(offset - offset % 4096 if offset == 128_000 else offset)
        file.write(b"y" * (1 if offset != 128_000 else 16_384))
    os.utime(path, ns=(then.mtime_ns, then.mtime_ns))
    assert describe_change(then, Fingerprint.of(path)) == "with other contents"


@pytest.mark.parametrize("size", [0, 1, 4096, 4097, 10_000])
def test_small_files_have_fingerprints(tmp_path: Path, size: int) -> None:
    """Files smaller than the sample are hashed whole."""
    path = tmp_path / "a.csv"
    path.write_bytes(b"x" * size)
    then = Fingerprint.of(path)
    assert then.size == size
    if size:
        path.write_bytes(b"x" * (size - 1) + b"y")
        assert Fingerprint.of(path).sample != then.sample


@pytest.mark.parametrize(
    ("size", "mtime_ns", "text"),
    [
        (131_204, NOON, "31,204 bytes longer"),
        (99_999, NOON, "1 byte shorter"),
        (
            100_000,
            NOON + 7_200_000_000_000,
            "modified 2026-11-24 14:02:11 UTC instead of 2026-11-24 12:02:11 UTC",
        ),
        (
            100_000,
            NOON + 5,
            "modified 2026-11-24 12:02:11.000000005 UTC instead of "
            "2026-11-24 12:02:11.000000000 UTC",
        ),
        (
            100_001,
            NOON + 1_000_000_000,
            "1 byte longer, modified 2026-11-24 12:02:12 UTC instead of 2026-11-24 12:02:11 UTC",
        ),
    ],
)
def test_changes_in_plain_words(size: int, mtime_ns: int, text: str) -> None:
    """A change is told as a person would tell it."""
    then = Fingerprint(100_000, NOON, "aa")
    assert describe_change(then, Fingerprint(size, mtime_ns, "aa")) == text


def test_a_readable_file_gives_its_absolute_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Relative paths and ~ become absolute ones."""
    (tmp_path / "a.csv").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert check_readable("a.csv") == tmp_path / "a.csv"
    assert check_readable("~/a.csv") == tmp_path / "a.csv"


def test_a_missing_file_names_its_neighbours(tmp_path: Path) -> None:
    """A typing error in a name is answered with the names that are near."""
    (tmp_path / "flights.csv").touch()
    with pytest.raises(SourceError, match=r"does not exist; did you mean flights\.csv\?") as caught:
        check_readable(tmp_path / "fligths.csv")
    assert caught.value.path == str(tmp_path / "fligths.csv")
    with pytest.raises(SourceError, match=r"zzz does not exist$"):
        check_readable(tmp_path / "zzz")
    with pytest.raises(SourceError, match="there is no folder"):
        check_readable(tmp_path / "none" / "a.csv")


def test_what_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    """Directories, pipes, devices and dead links are named for what they are, and not opened."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("gone.csv")
    for path, text in (
        (tmp_path, "is a directory, not a file"),
        (tmp_path / "pipe", "is a named pipe; a load that can resume needs a regular file"),
        (Path(os.devnull), "is a device"),
        (tmp_path / "link", "is a link to gone.csv, which does not exist"),
        (tmp_path / "a\0b", "cannot be read: "),
        (tmp_path / ("x" * 300), "cannot be read: File name too long"),
        (Path("~no-such-user-here/a.csv"), "cannot be read: "),
    ):
        with pytest.raises(SourceError, match=re.escape(text)):
            check_readable(path)


def test_an_unreadable_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file without the right to read it is refused with the system's reason."""
    path = tmp_path / "a.csv"
    path.touch()

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(SourceError, match="cannot be read: Permission denied"):
        check_readable(path)
