"""The Postgres that comes with the package: make it, start it, share it among kernels, stop it.

    >>> from taskwidgets.embedded import join
    >>> server = join()     # doctest: +SKIP
    >>> server.url          # doctest: +SKIP
    'postgresql+psycopg2://postgres@/taskwidgets?host=/home/ann/.../socket&port=5432'

Importing this starts nothing. What lies where:

    server      join() and leave(): the whole life of the server as one process sees it
    locks       who starts it, who uses it: two lock files in the home
    directory   the home: its place, its parts, what may be wrong with it
    cluster     the data directory: made by initdb, whole or not at all
    settings    the server's configuration, each line with its reason
    sockets     the Unix socket's directory, and the URL that leads there
    roles       the role without rights, for jobs over HTTP
    watcher     stops a server whose users have died
    pipes       named pipes through which the server hands out rows
    postmaster  the server process: is it ours, is it up; start and stop
    binaries    the programs inside the wheel
    account     the system account that runs them
"""

from __future__ import annotations

from taskwidgets.embedded.binaries import wheel_binaries
from taskwidgets.embedded.server import EmbeddedServer, join

__all__ = ["EmbeddedServer", "join", "wheel_binaries"]
