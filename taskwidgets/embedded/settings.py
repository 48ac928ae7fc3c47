"""The server's configuration: ``server.conf`` in the home, written anew before each start.

postgresql.conf includes it, so that the settings hold for a start by hand as well. What a user
sets with ALTER SYSTEM wins over it.
"""

from __future__ import annotations

from pathlib import Path

from taskwidgets.embedded.roles import EMBEDDED_SETTING
from taskwidgets.embedded.sockets import PORT

__all__ = ["INCLUDE", "settings"]

INCLUDE = "\n# The settings of taskwidgets\ninclude = '../server.conf'\n"

TEMPLATE = """\
# Written by taskwidgets at every start of the server; changes here are lost.
# Change settings with ALTER SYSTEM, which wins over this file.

# Tells a session which server this is: jobs over HTTP then log in as a role with fewer rights.
{marker} = on

# No TCP: whoever may enter the socket's directory is let in without a password, nobody else.
listen_addresses = ''
port = {port}
unix_socket_directories = '{socket_directory}'
unix_socket_permissions = 0700

# Several notebooks, each with a few workers, listeners and an engine's pool.
max_connections = 200

# A statement whose client has died is ended, instead of running on for hours with its locks.
client_connection_check_interval = '2s'

# The promise that a checkpoint survives a crash rests on these two.
fsync = on
synchronous_commit = on

# Loading files fills the log fast. With the default (1GB) a load of some minutes forces
# checkpoint after checkpoint, and each makes every touched page be logged as a whole again.
max_wal_size = 2GB
checkpoint_timeout = 15min

# One server serves kernels that may differ in their TZ, and a time without a zone in a file must
# not depend on which of them happened to start it. A session can SET TIME ZONE.
timezone = 'UTC'
log_timezone = 'UTC'

# Errors are recognized by their SQLSTATE; the text is for people, the same on every machine.
lc_messages = 'C'

# One file for each day of the week, overwritten after a week.
logging_collector = on
log_directory = '../log'
log_filename = 'postgres-%a.log'
log_file_mode = 0600
log_rotation_age = 1d
log_rotation_size = 0
log_truncate_on_rotation = on

# What the server itself does, and why it stops. Errors of statements go to whoever ran them: in
# the log a load with refused rows would fill the disk, with the rows' contents.
log_min_messages = log
log_min_error_statement = panic
log_checkpoints = off
"""


def settings(socket_directory: Path) -> str:
    """Return the text of server.conf. The socket directory has plain characters (see sockets)."""
    return TEMPLATE.format(marker=EMBEDDED_SETTING, port=PORT, socket_directory=socket_directory)
