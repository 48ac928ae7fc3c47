"""The table of endpoints as an OpenAPI 3.1 document, whose schemas are JSON Schemas as they are."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from taskwidgets.http.answers import SCHEMAS
from taskwidgets.http.fields import JOB_ID
from taskwidgets.http.routes import PREFIX, ROUTES, Route

__all__ = ["document"]

ERRORS = {
    400: "The request is no JSON, or no text in UTF-8.",
    403: "Not logged in, not allowed, no XSRF token, or a file that this server may not touch.",
    404: "There is no such job.",
    409: "The job's state, or what is there already, forbids it.",
    413: "The body is too long.",
    422: "A field holds what it must not; the error names the field.",
    503: "The database is away; try again later.",
}
OF_ALL = (400, 403, 503)
SECURITY = {
    "token": {
        "type": "apiKey",
        "in": "header",
        "name": "Authorization",
        "description": 'the server\'s token: "token 0123..."',
    },
    "query": {
        "type": "apiKey",
        "in": "query",
        "name": "token",
        "description": "the server's token",
    },
}


def document(base_url: str = "/") -> dict[str, Any]:
    """The document, for a server whose addresses begin with ``base_url``."""
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        paths.setdefault(f"{PREFIX}{route.path}", {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "taskwidgets",
            "version": version("taskwidgets"),
            "summary": "Long jobs between files and Postgres, under a Jupyter Server.",
            "description": "Requests that log in by a cookie also need the header X-XSRFToken.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": base_url.rstrip("/") or "/"}],
        "security": [{name: []} for name in SECURITY],
        "paths": paths,
        "components": {"schemas": SCHEMAS, "securitySchemes": SECURITY},
    }


def _operation(route: Route) -> dict[str, Any]:
    words = [word for word in route.path.split("/") if word]
    made: dict[str, Any] = {
        "operationId": "_".join(word.strip("{}") for word in words),
        "summary": route.summary,
        "tags": [words[0]],
        "responses": {
            "200": _response("What was asked for.", route.answer),
            **{str(status): _response(ERRORS[status], "Error") for status in _statuses(route)},
        },
    }
    parameters = [_parameter("job_id", "path", JOB_ID)] if route.has_job else []
    if route.method == "GET":
        parameters += [
            _parameter(name, "query", schema, required=name in route.fields.required)
            for name, schema in route.fields.schemas.items()
        ]
    else:
        made["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": route.fields.schema}},
        }
    return {**made, "parameters": parameters} if parameters else made


def _statuses(route: Route) -> list[int]:
    posted = (413,) if route.method == "POST" else ()
    return sorted({*OF_ALL, *posted, *route.statuses})


def _parameter(
    name: str, place: str, schema: dict[str, Any], *, required: bool = True
) -> dict[str, Any]:
    plain = {key: value for key, value in schema.items() if key != "description"}
    return {
        "name": name,
        "in": place,
        "required": required,
        "description": schema["description"],
        "schema": plain,
    }


def _response(description: str, schema: str) -> dict[str, Any]:
    return {
        "description": description,
        "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}},
    }
