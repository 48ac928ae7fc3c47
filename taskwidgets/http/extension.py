"""What Jupyter Server loads: the endpoints, and an end at which the jobs are paused."""

from __future__ import annotations

import re
from typing import Any

from jupyter_server.extension.application import ExtensionApp
from traitlets import Unicode

from taskwidgets.http.handlers import DocumentHandler, RouteHandler
from taskwidgets.http.routes import JOB, PREFIX, ROUTES, Route
from taskwidgets.http.service import Service

__all__ = ["TaskwidgetsExtension"]


class TaskwidgetsExtension(ExtensionApp):
    """Jobs that run in the server itself, so that they outlive every kernel."""

    name = "taskwidgets"
    description = "Long jobs between files and Postgres."

    database_url = Unicode(
        help="The database's URL; else $TASKWIDGETS_DATABASE_URL, else the embedded Postgres. "
        "Other users of the machine can read a command line: a password belongs in a file."
    ).tag(config=True)

    service: Service | None = None

    def initialize_handlers(self) -> None:
        """One handler for each address."""
        self.service = Service(self.database_url or None)
        addresses: dict[str, dict[str, Route]] = {}
        for route in ROUTES:
            addresses.setdefault(route.path, {})[route.method] = route
        self.handlers.append((f"{PREFIX}/openapi\\.json", DocumentHandler))
        for path, routes in addresses.items():
            pattern = PREFIX + re.escape(path).replace(re.escape(JOB), "([^/]+)")
            self.handlers.append(
                (pattern, RouteHandler, {"routes": routes, "service": self.service})
            )

    def current_activity(self) -> dict[str, Any] | None:
        """What keeps the server from ending for want of activity: the jobs that run in it."""
        running = 0 if self.service is None else self.service.running
        return {"jobs": running} if running else None

    async def stop_extension(self) -> None:
        """Pause the jobs, so that they go on where they are after the server's next start."""
        if self.service is not None:
            await self.service.close()
