"""A database whose clock stands still until a test moves it.

The package's statements name ``clock_timestamp()`` without a schema, and run with a pinned search
path. In this process another function of that name comes first on that path. So leases run out in
no time, and nothing else of the package under test is changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import psycopg2
import pytest
from fix_servers import plain

from taskwidgets.store import driver

# Each reading is one microsecond later than the one before: times differ as they do in reality. The
# year is far ahead of the server's own clock, so that a session which has been idle for a moment
# counts as idle for long. A sequence is read and set outside of transactions, as a clock must be.
SET_UP = """
    CREATE SCHEMA virtual_clock;
    CREATE SEQUENCE virtual_clock.microseconds;
    CREATE FUNCTION virtual_clock.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS $$
        SELECT timestamptz '2100-01-01 00:00:00+00'
            + nextval('virtual_clock.microseconds') * interval '1 microsecond'
    $$;
    DO $$
    DECLARE
        found record;
    BEGIN
        FOR found IN
            SELECT table_name, column_name FROM information_schema.columns
            WHERE table_schema = 'taskwidgets' AND column_default = 'clock_timestamp()'
        LOOP
            EXECUTE format(
                'ALTER TABLE taskwidgets.%I ALTER %I SET DEFAULT virtual_clock.clock_timestamp()',
                found.table_name, found.column_name
            );
        END LOOP;
        EXECUTE format(
            'ALTER DATABASE %I SET search_path = virtual_clock, pg_catalog, public',
            current_database()
        );
    END $$;
"""


class VirtualClock:
    """The clock of one database; sessions that begin after it was made go by it."""

    def __init__(self, url: str) -> None:
        self.url = plain(url)
        with closing(psycopg2.connect(self.url)) as connection, connection:
            connection.cursor().execute(SET_UP)
        self._connection = psycopg2.connect(self.url)
        self._connection.autocommit = True

    def advance(self, seconds: float) -> None:
        """Move the clock forward."""
        self._set("last_value + %s", round(seconds * 1_000_000))

    def reset(self) -> None:
        """Put the clock back to its beginning."""
        self._set("%s", 1)

    def _set(self, value: str, microseconds: int) -> None:
        with self._connection.cursor() as cursor:
            cursor.execute(
                f"SELECT setval('virtual_clock.microseconds', {value})"
                " FROM virtual_clock.microseconds",
                (microseconds,),
            )

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def virtual_clock(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[VirtualClock]:
    """The clock of the test's database, to be moved by the test."""
    monkeypatch.setattr(
        driver, "PINNED_PATH", "SET LOCAL search_path = virtual_clock, pg_catalog, pg_temp"
    )
    clock = VirtualClock(database_url)
    yield clock
    clock.close()
