"""Login roles on the server of the tests, in a database that they share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import psycopg2
import pytest
from fix_databases import Look
from fix_servers import plain

from taskwidgets import Workspace
from taskwidgets.store.access import OPERATOR, OWNER, VIEWER, member_grants, role_grants


class Role:
    """A role that can log in to the test's database."""

    def __init__(self, name: str, url: str) -> None:
        self.name = name
        self.url = url.replace("postgres@", f"{name}@")
        self._workspaces: list[Workspace] = []

    def __call__(self, statement: Any, parameters: Any = None) -> list[tuple[Any, ...]]:
        """Run a statement as this role; the rows, if it has any."""
        with closing(psycopg2.connect(plain(self.url))) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement, parameters)
                return cursor.fetchall() if cursor.description else []

    def changed(self, statement: str, parameters: Any = None) -> int:
        """How many rows a statement of this role changes."""
        with closing(psycopg2.connect(plain(self.url))) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement, parameters)
                return int(cursor.rowcount)

    def workspace(self) -> Workspace:
        """A workspace as this role; closed at the end of the test."""
        self._workspaces.append(Workspace(self.url))
        return self._workspaces[-1]

    def close(self) -> None:
        for one in self._workspaces:
            one.close()


@pytest.fixture
def role(database_url: str, look: Look) -> Iterator[Callable[..., Role]]:
    """A factory of roles; their names are used by no other database of the server.

    ``shares``: with the grants that the documentation gives. ``grants_all``: with GRANT ALL on the
    schema and its tables, as earlier releases advised.
    """
    made: list[Role] = []
    prefix = look.one("SELECT current_database()")

    def make(name: str, *, shares: bool = True, grants_all: bool = False) -> Role:
        one = Role(f"{prefix}_{name}", database_url)
        look(f"CREATE ROLE {one.name} LOGIN")
        made.append(one)
        look(f"GRANT CREATE, USAGE ON SCHEMA public TO {one.name}")
        if grants_all:
            look(f"GRANT ALL ON SCHEMA taskwidgets TO {one.name}")
            look(f"GRANT ALL ON ALL TABLES IN SCHEMA taskwidgets TO {one.name}")
            look(f"GRANT ALL ON ALL SEQUENCES IN SCHEMA taskwidgets TO {one.name}")
            look(f"REVOKE TRIGGER ON ALL TABLES IN SCHEMA taskwidgets FROM {one.name}")
        elif shares:
            for statement in member_grants(one.name):
                look(statement)
        return one

    yield make
    for one in made:
        one.close()
    for one in made:
        look(f"DROP OWNED BY {one.name} CASCADE")
    for one in made:
        look(f"DROP ROLE {one.name}")


@pytest.fixture
def shared_roles(look: Look) -> Iterator[None]:
    """The three roles, as ``taskwidgets doctor`` prints them."""
    for statement in role_grants():
        look(statement)
    yield
    for name in (OPERATOR, VIEWER, OWNER):
        look(f"DROP OWNED BY {name}")
        look(f"DROP ROLE {name}")
