"""The kind of job that runs a user's function; the counterpart of the transfers' kinds."""

from __future__ import annotations

from taskwidgets.functions.function import KIND, Plan, known
from taskwidgets.functions.work import FunctionWork
from taskwidgets.runtime.run import Work
from taskwidgets.runtime.store import JobRecord
from taskwidgets.store.jobs import PostgresJobStore

__all__ = ["KINDS"]


class _Function:
    def work(
        self, store: PostgresJobStore, record: JobRecord, workers: int, cluster: object
    ) -> Work:
        return FunctionWork(store, Plan.from_json(record.spec.plan), record.id)

    def standing(self, store: PostgresJobStore, record: JobRecord) -> str | None:
        done = f"already done: job {record.id}"
        plan = Plan.from_json(record.spec.plan)
        function = known(plan.function)
        if function is not None and plan.changed(function):
            return f"{done}. The function has changed since; {function.title}.again(...) runs it"
        return done


KINDS = {KIND: _Function()}
