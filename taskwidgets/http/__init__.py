"""The jobs over HTTP: an extension of Jupyter Server, enabled by installing the package.

    extension   what the server loads and stops
    handlers    one request: who may ask, what was asked, the answer
    routes      the one table of endpoints, from which everything else is made
    fields      what a request may hold
    answers     what an answer holds
    service     the server's workspace, and what the endpoints do with it
    files       paths under the server's root
    faults      errors as statuses and codes
    openapi     the table as an OpenAPI document

Importing this needs no Jupyter Server.
"""

from __future__ import annotations

from typing import Any

__all__ = ["extension_points"]


def extension_points() -> list[dict[str, Any]]:
    """What Jupyter Server asks the package for: where the extension is."""
    from taskwidgets.http.extension import TaskwidgetsExtension

    return [{"module": "taskwidgets.http", "app": TaskwidgetsExtension}]
