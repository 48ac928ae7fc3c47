"""The name of the role in whose sessions jobs over HTTP run on the embedded server."""

from __future__ import annotations

__all__ = ["RESTRICTED_ROLE"]

RESTRICTED_ROLE = "taskwidgets_http"
