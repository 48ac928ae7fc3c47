"""Several processes: who starts, who joins, who stops."""

from __future__ import annotations

import json
import os
import signal

import psycopg2
import pytest

from taskwidgets.embedded import join


def test_second_process_joins(kernel, homes):
    """Two kernels on one home use one server."""
    home = homes()
    first, second = kernel(home), kernel(home)
    url = first.ask("join")["url"]
    pid = homes.pid(home)
    assert second.ask("join")["url"] == url
    assert homes.pid(home) == pid


def test_last_leaver_stops_it(kernel, homes, until):
    """The server runs while anybody uses it, and stops with the last."""
    home = homes()
    first, second = kernel(home), kernel(home)
    first.ask("join")
    second.ask("join")
    pid = homes.pid(home)
    first.ask("leave")
    assert homes.pid(home) == pid
    second.execute(
        "import psycopg2\n"
        "psycopg2.connect(server.url.replace('+psycopg2', '')).cursor().execute('SELECT 1')"
    )
    second.close()  # by atexit, with a connection that was not closed
    until(lambda: homes.is_stopped(home))


def test_killed_kernel_leaves_the_server(kernel, homes, until):
    """After a SIGKILL the next kernel finds the same server, and no stale registration."""
    home = homes()
    first = kernel(home)
    first.ask("join")
    pid = homes.pid(home)
    first.kill()
    second = kernel(home)
    second.ask("join")
    assert homes.pid(home) == pid
    second.close()
    until(lambda: homes.is_stopped(home))


@pytest.mark.sample(1)
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGHUP, signal.SIGTERM])
def test_signal_to_the_kernels_group(kernel, homes, kind):
    """A signal to the process group of the kernel that started the server does not reach it."""
    home = homes()
    first, second = kernel(home), kernel(home)
    first.ask("join")
    second.ask("join")
    pid = homes.pid(home)
    first.interrupt_group(kind)
    second.execute(
        "import psycopg2\n"
        "psycopg2.connect(server.url.replace('+psycopg2', '')).cursor().execute('SELECT 1')"
    )
    assert homes.pid(home) == pid
    second.close()


def test_forked_child_does_not_stop_it(kernel, homes, until):
    """A child's exit, or its leave(), is not its parent's; nor does it keep the server going."""
    home = homes()
    one = kernel(home)
    one.ask("join")
    pid = homes.pid(home)
    one.execute(
        "import os\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    server.leave()\n"
        "    sys.exit(0)\n"
        "assert os.waitpid(child, 0)[1] == 0\n"
    )
    one.execute(
        "read, write = os.pipe()\n"
        "if os.fork() == 0:\n"
        "    os.close(0), os.close(1), os.close(write)\n"
        "    os.read(read, 1)\n"  # ends with the kernel, which has the other end
        "    os._exit(0)\n"
    )
    assert homes.pid(home) == pid
    one.ask("leave")
    until(lambda: homes.is_stopped(home))


def test_forked_child_can_join(kernel, homes, until):
    """A forked child that joins is a user of its own, after its parent has left."""
    home = homes()
    one = kernel(home)
    one.ask("join")
    pid = homes.pid(home)
    one.execute(
        "import os, psycopg2\n"
        "inward, outward = os.pipe(), os.pipe()\n"
        "if os.fork() == 0:\n"
        "    own = join(home)\n"
        "    assert own is not server\n"
        "    os.write(outward[1], b'j')\n"
        "    os.read(inward[0], 1)\n"
        "    psycopg2.connect(own.url.replace('+psycopg2', '')).close()\n"
        "    own.leave()\n"
        "    os.write(outward[1], b'l')\n"
        "    os._exit(0)\n"
        "assert os.read(outward[0], 1) == b'j'\n"
        "server.leave()\n"
    )
    assert homes.pid(home) == pid
    one.execute("os.write(inward[1], b'x')\nassert os.read(outward[0], 1) == b'l'")
    until(lambda: homes.is_stopped(home))


def test_four_processes_race(kernel, homes, until):
    """Joining and leaving in every order, nobody ever gets a server that is not usable.

    Slow: four processes start, and one of them makes a database cluster.
    """
    home = homes()
    racers = [kernel(home) for _ in range(4)]
    code = (
        "import psycopg2, random, time\n"
        "for _ in range(15):\n"
        "    server = join(home)\n"
        "    connection = psycopg2.connect(server.url.replace('+psycopg2', ''))\n"
        "    time.sleep(random.choice([0, 0, 0.001, 0.01]))\n"
        "    connection.cursor().execute('SELECT 1')\n"
        "    connection.close()\n"
        "    server.leave()\n"
        "    time.sleep(random.choice([0, 0, 0.001, 0.01]))\n"
    )
    for one in racers:
        one.tell(json.dumps(code))
    for one in racers:
        assert one.answer() == {}
        one.close()
        assert one.process.returncode == 0
    until(lambda: homes.is_stopped(home))


@pytest.mark.slow
def test_join_waits_for_a_shutdown(kernel, homes):
    """Whoever joins while the server stops gets a new one, never the dying one."""
    home = homes()
    first, second = kernel(home), kernel(home)
    for _ in range(5):
        first.ask("join")
        old = homes.pid(home)
        first.ask("leave")
        second.execute(
            "server = join(home)\n"
            "import psycopg2\n"
            "connection = psycopg2.connect(server.url.replace('+psycopg2', ''))"
        )
        assert homes.pid(home) != old
        second.execute("connection.cursor().execute('SELECT 1')\nconnection.close()")
        second.ask("leave")


@pytest.mark.slow
def test_threads_of_one_process(homes):
    """join() from many threads at once gives one server."""
    from concurrent.futures import ThreadPoolExecutor

    home = homes()
    with ThreadPoolExecutor(8) as pool:
        servers = set(pool.map(lambda _: join(home), range(16)))
    assert len(servers) == 1
    server = servers.pop()
    psycopg2.connect(server.url.replace("+psycopg2", "")).close()
    server.leave()


def test_other_machine_holds_it(kernel, homes):
    """A home on a network drive: its server on another machine is not started twice."""
    home = homes()
    one = kernel(home)
    one.ask("join")
    homes.kill(home)  # as unreachable as a server on another machine
    (home / "host").write_text("elsewhere")
    error = kernel(home).ask("join")["error"]
    assert "elsewhere" in error
    one.close()
    server = join(home)  # nobody else is left, so it is safe
    assert (home / "host").read_text() == os.uname().nodename
    server.leave()
