"""``taskwidgets doctor``: whether all is there that jobs need, and what to do where it is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from taskwidgets.cli.exits import Exit
from taskwidgets.cli.output import guarded, print_json, say
from taskwidgets.cli.parameters import AsJson, DatabaseUrl

if TYPE_CHECKING:
    from taskwidgets.cli.checks import Check

__all__ = ["doctor"]


@guarded
def doctor(database: DatabaseUrl = None, as_json: AsJson = False) -> Exit:
    """Check versions, database, rights and disk space.

    Each line is ok, warn or fail, and says what to do. Nothing is changed, but that the Postgres
    that comes along is started if no database is named.
    """
    from taskwidgets.cli.checks import all_checks

    checks: list[Check] = []
    for check in all_checks(database):
        checks.append(check)
        if not as_json:
            say(f"{check.status:<5} {check.name:<11} {check.text}")
            if check.advice:
                say(f"{'':<17} → " + check.advice.replace("\n", f"\n{'':<20}"))
    failed = any(check.status == "fail" for check in checks)
    if as_json:
        print_json({"ok": not failed, "checks": [vars(check) for check in checks]})
    return Exit.FAILED if failed else Exit.DONE
