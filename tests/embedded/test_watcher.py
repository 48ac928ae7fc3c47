"""The server stops by itself some time after its last user has died, however it died."""

from __future__ import annotations

import json
import signal
from contextlib import closing
from pathlib import Path

import psutil
import psycopg2
import pytest

from taskwidgets.embedded import join
from taskwidgets.embedded.directory import Directory
from taskwidgets.embedded.postmaster import PidFile
from taskwidgets.embedded.watcher import IDLE_VARIABLE, IdleTime, idle_timeout, is_in_use
from taskwidgets.errors import EmbeddedServerError

SHORT = {IDLE_VARIABLE: "0.4"}
LONG = {IDLE_VARIABLE: "3600"}


def watchers(home: Path) -> list[psutil.Process]:
    """The home's watchers, the oldest first."""
    found = []
    for process in psutil.process_iter(["cmdline", "create_time"]):
        command = process.info["cmdline"] or []
        if command and command[-1] == str(home) and "watcher" in " ".join(command):
            found.append((process.info["create_time"], process.pid))
    return [psutil.Process(pid) for _, pid in sorted(found)]


def in_use(homes, home: Path) -> bool:
    return is_in_use(Directory(home), PidFile(homes.pid(home), home / "socket", "ready"))


def test_after_a_kill_of_the_last_kernel(kernel, homes, until):
    """Nobody is left to stop it; so does the watcher, which then ends itself."""
    home = homes()
    one, two = kernel(home, **SHORT), kernel(home, **SHORT)
    one.ask("join")
    two.ask("join")
    one.kill()
    assert in_use(homes, home)
    two.kill()
    until(lambda: homes.is_stopped(home))
    until(lambda: watchers(home) == [])
    assert kernel(home, **LONG).ask("join")["url"]  # and is started as ever


@pytest.mark.parametrize("which", [0, 1], ids=["the older", "the younger"])
def test_after_a_kill_of_a_watcher(kernel, homes, until, which):
    """Of two watchers, each does for the other; the one that is left starts another.

    Slow: three Python processes start one after the other.
    """
    home = homes()
    one = kernel(home, **SHORT)
    one.ask("join")
    until(lambda: len(watchers(home)) == 2)
    killed = watchers(home)[which]
    killed.kill()
    until(lambda: killed.pid not in [w.pid for w in watchers(home)] and len(watchers(home)) == 2)
    one.kill()
    watchers(home)[which].kill()
    until(lambda: homes.is_stopped(home))


def test_after_a_kill_of_all_watchers_a_join_starts_another(kernel, homes, until):
    """A process that joins looks for one."""
    home = homes()
    one = kernel(home, **SHORT)
    one.ask("join")
    until(lambda: len(watchers(home)) == 2)
    for watcher in watchers(home):
        watcher.suspend()
    for watcher in watchers(home):
        watcher.kill()
    until(lambda: watchers(home) == [])
    one.kill()
    two = kernel(home, **SHORT)
    two.ask("join")
    two.kill()
    until(lambda: homes.is_stopped(home))


def test_a_frozen_kernel_is_a_user(kernel, homes, until):
    """One that was stopped, as a debugger does, may go on; its end counts."""
    home = homes()
    one = kernel(home, **SHORT)
    one.ask("join")
    one.process.send_signal(signal.SIGSTOP)
    until(lambda: psutil.Process(one.process.pid).status() == psutil.STATUS_STOPPED)
    assert in_use(homes, home)
    one.kill()
    until(lambda: homes.is_stopped(home))


def test_a_session_by_url_is_a_user(kernel, homes, until):
    """A program that has not joined, such as psql, keeps the server as long as it is connected."""
    home = homes()
    one = kernel(home, **SHORT)
    url = one.ask("join")["url"].replace("+psycopg2", "")
    with closing(psycopg2.connect(url)) as session:
        one.kill()
        assert in_use(homes, home)
        session.cursor().execute("SELECT 1")
    until(lambda: homes.is_stopped(home))


def test_a_statement_of_a_killed_kernel_is_ended(kernel, homes, until):
    """It would run on for an hour, and count as a session."""
    home = homes()
    one = kernel(home, **SHORT)
    url = one.ask("join")["url"].replace("+psycopg2", "")
    one.tell(
        json.dumps(
            f"import psycopg2; psycopg2.connect({url!r}).cursor().execute('SELECT pg_sleep(3600)')"
        )
    )
    with closing(psycopg2.connect(url)) as session, session.cursor() as cursor:

        def sleeps() -> bool:
            session.rollback()
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(3600)'"
            )
            return cursor.fetchone() == (1,)

        until(sleeps)
        one.kill()
    until(lambda: homes.is_stopped(home))


def test_the_watcher_ends_with_the_server(kernel, homes, until):
    """When the last process leaves in order, nothing stays behind."""
    home = homes()
    one = kernel(home, **SHORT)
    one.ask("join")
    until(lambda: len(watchers(home)) == 2)
    one.close()
    until(lambda: homes.is_stopped(home))
    until(lambda: watchers(home) == [])


def test_who_joins_later_may_set_the_timeout(kernel, homes, until):
    """Who says it in the variable is heard; who does not leaves it as it is."""
    home = homes()
    kernel(home, **LONG).ask("join")
    last = kernel(home, **SHORT)
    last.ask("join")
    kernel(home).ask("join")
    assert (home / "idle-timeout").read_text() == "0.4"


def test_time_in_which_nobody_looked_does_not_count():
    """A machine that was suspended for a night comes back with the server that it had."""
    time = IdleTime(10.0)
    assert time.observe(0.0, in_use=True) == 0
    assert time.observe(10.0, in_use=False) == 10
    assert time.observe(20.0, in_use=False) == 20
    assert time.observe(30_000.0, in_use=False) == 40
    assert time.observe(30_010.0, in_use=True) == 0
    assert time.observe(30_020.0, in_use=False) == 10


@pytest.mark.parametrize("value", ["soon", "-1", "0", "nan", "inf"])
def test_a_wrong_timeout_is_refused(monkeypatch, homes, value):
    """Before anything is started, with what it may be."""
    monkeypatch.setenv(IDLE_VARIABLE, value)
    with pytest.raises(EmbeddedServerError, match=f"{IDLE_VARIABLE} is '{value}'; it must be"):
        join(homes())


def test_the_timeout_is_ten_minutes_unless_it_is_set(monkeypatch):
    """In seconds; never is a word."""
    monkeypatch.delenv(IDLE_VARIABLE, raising=False)
    assert idle_timeout() == 600
    monkeypatch.setenv(IDLE_VARIABLE, "never")
    assert idle_timeout() is None
    monkeypatch.setenv(IDLE_VARIABLE, "90")
    assert idle_timeout() == 90
