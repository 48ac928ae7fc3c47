"""Files that nobody else can open, or put in place, until they are published."""

import os
import stat

import pytest

from taskwidgets.engine.private_files import new_file, open_own, own_folder, publish_mode


def mode(path):
    return stat.S_IMODE(path.lstat().st_mode)


def test_a_new_file_is_private_whatever_has_its_name(tmp_path):
    """A link is removed, not followed; an older file keeps its bytes for whoever has it open."""
    path, victim = tmp_path / "partial", tmp_path / "victim"
    victim.write_text("precious")
    umask = os.umask(0)
    try:
        for prepare in (lambda: None, lambda: path.symlink_to(victim), lambda: path.touch(0o666)):
            path.unlink(missing_ok=True)
            prepare()
            file = new_file(path)
            os.write(file, b"x")
            os.close(file)
            assert mode(path) == 0o600
            assert not path.is_symlink()
            assert path.read_text() == "x"
            assert victim.read_text() == "precious"
    finally:
        os.umask(umask)


def test_only_a_file_of_this_user_is_opened_again(tmp_path):
    """A link and a folder are refused; so is a file of another user."""
    path, link = tmp_path / "partial", tmp_path / "link"
    path.touch()
    link.symlink_to(path)
    os.close(open_own(path))
    with pytest.raises(OSError, match="symbolic link"):
        open_own(link)
    with pytest.raises(FileNotFoundError):
        open_own(tmp_path / "none")
    if os.geteuid() == 0:  # another user's file can be made by root only
        os.chown(path, 12345, 12345)
        with pytest.raises(PermissionError):
            open_own(path)


def test_a_folder_is_private_and_no_link(tmp_path):
    """It is made with mode 0700; a link to a folder is none."""
    folder, link = tmp_path / "folder", tmp_path / "link"
    own_folder(folder)
    own_folder(folder)
    assert mode(folder) == 0o700
    link.symlink_to(folder)
    with pytest.raises(PermissionError):
        own_folder(link)


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_the_mode_when_published(tmp_path, umask):
    """That of what is replaced, else that of any new file or folder under this umask."""
    path, older = tmp_path / "partial", tmp_path / "older"
    older.touch()
    older.chmod(0o640)
    before = os.umask(umask)
    try:
        os.close(new_file(path))
        publish_mode(path, None)
        assert mode(path) == 0o666 & ~umask
        publish_mode(path, older)
        assert mode(path) == 0o640
        publish_mode(path, tmp_path / "none")
        assert mode(path) == 0o666 & ~umask
        own_folder(tmp_path / "folder")
        publish_mode(tmp_path / "folder", None)
        assert mode(tmp_path / "folder") == 0o777 & ~umask
    finally:
        os.umask(before)
