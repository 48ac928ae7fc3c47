"""The file under its partial name: ranges in their order, cut back, named in one step."""

import errno
import os
import threading
import zlib

import pytest
from fix_servers import wait_until

from taskwidgets.errors import SourceChanged, TargetError, TargetExists
from taskwidgets.transfers import partial_file
from taskwidgets.transfers.partial_file import (
    OrderedFile,
    has_name,
    older_path,
    partial_path,
    publish,
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / ".out.csv.7.partial"


@pytest.fixture
def make(path):
    """A factory of the file, opened at so many bytes; closed with the test."""
    made = []

    def open_at(size=0, crc32=0, stopped=lambda: False):
        made.append(OrderedFile(path, size, crc32, stopped))
        return made[-1]

    yield open_at
    for file in made:
        file.close()


def test_ranges_that_come_in_any_order_stand_in_theirs(make, path):
    """Pieces of later ranges wait for the earlier ones; size, rows and CRC are the file's."""
    file = make()
    file.begin_with(b"head\n")
    for number in (2, 1):
        assert file.put(number, f"{number}a".encode())
        assert file.put(number, f"{number}b\n".encode())
    closers = [threading.Thread(target=file.close_range, args=(n, 10, 8 * n)) for n in (1, 2)]
    for closer in closers:
        closer.start()
    assert path.read_bytes() == b"head\n"
    assert file.put(0, b"0\n")
    assert file.close_range(0, 1, 4)
    for closer in closers:
        closer.join()
    expected = b"head\n0\n1a1b\n2a2b\n"
    assert path.read_bytes() == expected
    assert (file.settled.size, file.settled.rows, file.settled.block) == (len(expected), 21, 16)
    assert file.settled.crc32 == zlib.crc32(expected)


def test_a_worker_ahead_of_its_turn_holds_a_bounded_amount(make, monkeypatch):
    """A range that is not due may hold AHEAD bytes; then its worker waits for its turn."""
    monkeypatch.setattr(partial_file, "AHEAD", 100)
    file, put = make(), []

    def work():
        for _ in range(20):
            assert file.put(1, b"x" * 10)
            put.append(1)

    worker = threading.Thread(target=work)
    worker.start()
    wait_until(lambda: len(put) == 10)
    worker.join(0.2)
    assert len(put) == 10
    file.put(0, b"first")
    file.close_range(0, 1, 1)
    worker.join()
    assert len(put) == 20
    assert file.close_range(1, 1, 2)
    assert file.settled.size == 205


def test_what_waits_for_its_turn_is_kept_byte_for_byte(make, path, monkeypatch):
    """Pieces of any length, in blocks that other ranges have filled before."""
    monkeypatch.setattr(partial_file, "HELD_BYTES", 8)
    file, data = make(), b""
    for first in (0, 2, 4):
        pieces = [bytes([97 + first]) * length for length in (3, 5, 8, 1, 20, 7)]
        for piece in pieces:
            assert file.put(first + 1, piece)
        assert file.close_range(first + 1, 1, 2)
        assert file.put(first, b"0\n")
        assert file.close_range(first, 1, 1)
        data += b"0\n" + b"".join(pieces)
        assert path.read_bytes() == data
    assert (file.settled.size, file.settled.crc32) == (len(data), zlib.crc32(data))


def test_who_waits_for_a_turn_is_freed_by_a_stop(make, monkeypatch):
    """A worker that waits with its piece, or at its range's end, comes home when work stops."""
    monkeypatch.setattr(partial_file, "AHEAD", 4)
    stop = threading.Event()
    file, answers = make(stopped=stop.is_set), []
    for number in (1, 2):
        assert file.put(number, b"some")
    for task in (lambda: file.put(1, b"long"), lambda: file.close_range(2, 1, 1)):
        threading.Thread(target=lambda task=task: answers.append(task())).start()
    stop.set()
    wait_until(lambda: answers == [False, False])
    assert file.settled.size == 0


def test_a_range_that_fails_in_its_turn_is_cut_out(make, path):
    """What a failed range wrote goes; done again, its bytes stand once."""
    file = make()
    file.begin_with(b"head\n")
    file.put(0, b"half a ra")
    file.drop_range(0)
    assert path.read_bytes() == b"head\n"
    file.put(1, b"ahead")
    file.drop_range(1)
    for number in (0, 1):
        file.put(number, b"%d\n" % number)
        file.close_range(number, 1, number)
    assert path.read_bytes() == b"head\n0\n1\n"
    assert file.settled.crc32 == zlib.crc32(b"head\n0\n1\n")


def test_reopened_it_is_cut_back(make, path):
    """What stands behind the checkpoint is cut off, the CRC goes on from it."""
    path.write_bytes(b"checkpoint and more")
    file = make(10, zlib.crc32(b"checkpoint"))
    assert path.read_bytes() == b"checkpoint"
    file.put(0, b"!")
    file.close_range(0, 1, 1)
    assert file.settled.crc32 == zlib.crc32(b"checkpoint!")


def test_too_short_or_gone_it_is_refused(make, path):
    """A file with fewer bytes than the checkpoint, or none, is SourceChanged; none is made."""
    with pytest.raises(SourceChanged, match="0 bytes"):
        make(10)
    assert not path.exists()
    path.write_bytes(b"short")
    with pytest.raises(SourceChanged, match="5 bytes, but 10"):
        make(10)
    assert path.read_bytes() == b"short"
    make(5).close()


def test_a_folder_that_went_away_is_told(tmp_path):
    """The folder deleted since the call: TargetError."""
    with pytest.raises(TargetError, match="not there any more"):
        OrderedFile(tmp_path / "gone" / "x", 0, 0, lambda: False)


@pytest.mark.parametrize(
    ("code", "words"),
    [(errno.ENOSPC, "disk is full"), (errno.EDQUOT, "disk is full"), (errno.EIO, "cannot be")],
)
def test_a_write_that_fails_in_part_leaves_nothing_behind(make, path, monkeypatch, code, words):
    """The disk takes a part of a piece and then no more: the part is cut off again."""
    file = make()
    file.begin_with(b"head\n")
    write = os.pwrite

    def full(descriptor, data, at):
        if at >= 8:
            raise OSError(code, os.strerror(code))
        return write(descriptor, data[:3], at)

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        with pytest.raises(TargetError, match=words):
            file.put(0, b"0123456789")
    assert path.read_bytes() == b"head\n012"
    file.drop_range(0)
    assert path.read_bytes() == b"head\n"
    assert file.settled.size == 5


def test_publish_never_replaces_unless_told(tmp_path, path):
    """Under "fail", a file that came meanwhile stays, as does ours; "replace" takes its name."""
    target = tmp_path / "out.csv"
    path.write_text("new")
    target.write_text("theirs")
    with pytest.raises(TargetExists, match="meanwhile"):
        publish(path, target, replace=False)
    assert (path.read_text(), target.read_text()) == ("new", "theirs")
    publish(path, target, replace=True)
    assert target.read_text() == "new"
    assert not path.exists()


def test_publish_keeps_the_file_that_is_replaced(tmp_path, path):
    """Until the job is completed it stands under another name, from which it can come back."""
    target, older = tmp_path / "out.csv", older_path(path)
    target.write_bytes(b"old")
    older.write_bytes(b"left by an attempt before")
    path.write_bytes(b"new")
    publish(path, target, replace=True)
    assert (target.read_bytes(), older.read_bytes()) == (b"new", b"old")


def test_publish_is_done_again_after_a_crash_between_its_steps(tmp_path, path):
    """When the file has both names, publishing again takes the partial one away."""
    target = tmp_path / "out.csv"
    path.write_text("new")
    os.link(path, target)
    assert has_name(path, target)
    publish(path, target, replace=False)
    assert target.read_text() == "new"
    assert not path.exists()


@pytest.mark.parametrize("came", [False, True])
def test_publish_works_where_there_are_no_links(tmp_path, path, monkeypatch, came):
    """On a file system without links, the file is renamed, and still replaces none."""

    def link(source, target):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    target = tmp_path / "out.csv"
    path.write_text("new")
    if came:
        target.write_text("theirs")
        with pytest.raises(TargetExists):
            publish(path, target, replace=False)
    else:
        publish(path, target, replace=False)
    assert target.read_text() == ("theirs" if came else "new")


def test_a_directory_that_took_the_name_is_told(tmp_path, path):
    """A directory in the way: TargetError, and the whole file stays."""
    target = tmp_path / "out.csv"
    target.mkdir()
    path.write_text("new")
    with pytest.raises(TargetError, match="cannot be named"):
        publish(path, target, replace=True)
    assert path.read_text() == "new"


def test_a_long_name_has_a_partial_name_that_fits(tmp_path):
    """The partial name has 255 bytes at most, whatever the file's own, and lies beside it."""
    for name in ("x" * 255, "ä" * 127, "x.csv"):
        partial = partial_path(tmp_path / name, 123456)
        assert len(os.fsencode(partial.name)) <= 255
        assert partial.parent == tmp_path
        partial.touch()
