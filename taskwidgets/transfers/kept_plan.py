"""The plan of an export, as it is by now, and the database that it is kept in."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

from psycopg2 import sql

from taskwidgets.errors import DatabaseError
from taskwidgets.runtime.control import Stopped, Wish
from taskwidgets.runtime.run import Run
from taskwidgets.store.jobs import PostgresJobStore
from taskwidgets.store.translate import is_away
from taskwidgets.transfers import tables
from taskwidgets.transfers.download_plan import DownloadPlan

__all__ = ["KeptPlan"]

ResultT = TypeVar("ResultT")


class KeptPlan:
    """Shared by all that work on one export; ``now`` is what is settled."""

    def __init__(self, store: PostgresJobStore, plan: DownloadPlan) -> None:
        self.now = plan
        self._store = store
        self._lock = threading.Lock()

    def settle(self, run: Run, still: Callable[[], bool] = lambda: True, **changes: Any) -> None:
        """Keep something in the plan for good, if ``still`` it is right to."""
        with self._lock:
            if not still():
                return
            settled = self.now.with_(**changes)

            def act() -> None:
                with self._store.in_transaction() as connection:
                    self._store.change_plan(connection, run.claim, settled.to_json())

            self.patiently(run, act)
            self.now = settled

    def patiently(self, run: Run, action: Callable[[], ResultT]) -> ResultT:
        """Do it as soon as the database answers, unless a wish comes in meanwhile."""
        result: list[ResultT] = []
        try:
            self._store.source.patiently(
                lambda: result.append(action()),
                run.say,
                given_up=lambda: run.control.wish is not Wish.NONE,
            )
        except DatabaseError as fault:
            if is_away(fault) and run.control.wish is not Wish.NONE:
                raise Stopped(run.control.wish) from None
            raise
        return result[-1]

    def spoken(self, *statements: sql.Composable) -> list[str]:
        """Composed statements as texts, quoted as the server wants it."""
        words: list[str] = []

        def act() -> None:
            with self._store.in_transaction() as connection:
                words[:] = [tables.spoken(connection, statement) for statement in statements]

        self._store.database.patiently(act, lambda _: None)
        return words

    def settings(self, *names: str) -> list[str]:
        """Statements for a reader's transaction: what values' texts depend on, as it began.

        ``names``: only these settings.
        """
        set_one = sql.SQL("SET LOCAL {} = {}")
        return self.spoken(
            *(
                set_one.format(sql.Identifier(name), sql.Literal(value))
                for name, value in self.now.settings.items()
                if not names or name in names
            )
        )
