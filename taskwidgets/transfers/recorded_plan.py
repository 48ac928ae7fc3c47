"""What is common to the checks of recorded plans: see `recorded_upload` and `recorded_download`.

A plan is kept in the database, between the start of a job and its end. Whoever can change that row
could otherwise have the role that resumes the job run what they like. So of each plan that is read,
it is checked that it follows from the options of the call, and that it holds no SQL but names of
types, each of which the server reads as a type.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from taskwidgets.errors import PlanRefused

__all__ = ["RecordedPlan"]


class RecordedPlan:
    """The record of job ``job_id``, whose values are to be checked."""

    def __init__(self, job_id: int) -> None:
        self._job_id = job_id

    def refuse(self, what: str) -> NoReturn:
        """Raise PlanRefused."""
        raise PlanRefused(
            f"the record of job {self._job_id} does not follow from the options of its call: "
            f"{what}. Somebody changed the record in the database, or what its names mean. Nothing "
            "of it was run. Start over with again=True in the call",
            job_id=self._job_id,
        )

    def same(self, what: str, recorded: object, expected: object) -> None:
        """Refuse unless both are equal."""
        if recorded != expected:
            self.refuse(f"{what} is {recorded!r}, and should be {expected!r}")

    def instance(self, what: str, value: object, *kinds: type) -> None:
        """Refuse unless the value is of one of these types; True is no number."""
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            self.refuse(f"{what} is {value!r}")

    def whole_numbers(self, what: str, values: Mapping[str, Any], *names: str) -> None:
        """Refuse unless those of these entries that are there are whole numbers or None."""
        for name in names:
            if values.get(name) is not None:
                self.instance(f"{what}.{name}", values[name], int)

    def texts(self, what: str, values: object) -> None:
        """Refuse unless it is a list of texts."""
        self.instance(what, values, list, tuple)
        assert isinstance(values, list | tuple)
        for value in values:
            self.instance(what, value, str)
            if "\0" in value:
                self.refuse(f"{what} has a NUL character")
