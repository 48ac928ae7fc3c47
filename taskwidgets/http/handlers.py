"""One request: whether it may, what it asks, and the answer in JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from http.client import responses
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import parse_qsl

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from tornado import web

from taskwidgets.http.faults import RETRY_AFTER, BadRequest, Fault, fault_of
from taskwidgets.http.fields import JOB_ID, BadField
from taskwidgets.http.files import Files
from taskwidgets.http.openapi import document
from taskwidgets.http.routes import Route
from taskwidgets.http.service import Service

__all__ = ["DocumentHandler", "RouteHandler"]

LONGEST_BODY = 1 << 20  # bytes; a longer one would hold the loop, and no request needs it
OF_THE_SERVER = frozenset({"token", "_xsrf", "no_track_activity"})  # in any query string


class _Handler(APIHandler):
    """What the endpoints share: rights, and errors in one form."""

    auth_resource = "taskwidgets"

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """What Jupyter Server and Tornado refuse, in the form of our own errors."""
        reason = responses.get(status_code, "Error")
        error = kwargs.get("exc_info", (None, None))[1]
        message = error.log_message if isinstance(error, web.HTTPError) else None
        code = reason.lower().replace(" ", "_").replace("-", "_")
        if status_code == 405:
            self.set_header("Allow", ", ".join(self.methods))
        self.send(Fault(status_code, code, message or reason))

    @property
    def methods(self) -> list[str]:
        """The methods that this address knows."""
        return ["GET"]

    def send(self, fault: Fault) -> None:
        """Answer with an error."""
        self.set_status(fault.status)
        if fault.status == 503:
            self.set_header("Retry-After", str(RETRY_AFTER))
        self.finish(_dumped(fault.body()))

    def set_default_headers(self) -> None:
        super().set_default_headers()
        self.set_header("Cache-Control", "no-store")


class RouteHandler(_Handler):
    """The endpoints of one address."""

    def initialize(self, routes: Mapping[str, Route], service: Service) -> None:
        """``routes`` by method."""
        self._routes = routes
        self._service = service

    @property
    def methods(self) -> list[str]:
        return list(self._routes)

    @web.authenticated
    @authorized
    async def get(self, *path: str) -> None:
        """Look."""
        await self._answer(*path)

    @web.authenticated
    @authorized
    async def post(self, *path: str) -> None:
        """Act."""
        await self._answer(*path)

    async def _answer(self, *path: str) -> None:
        route = self._routes.get(str(self.request.method))
        if route is None:
            raise web.HTTPError(405)
        if len(self.request.body) > LONGEST_BODY:
            raise web.HTTPError(413, f"the body is longer than {LONGEST_BODY} bytes")
        manager = self.contents_manager
        root = getattr(manager, "root_dir", None)
        if not isinstance(root, str):  # one that keeps its contents elsewhere, not in files
            raise web.HTTPError(501, "this server's contents are no files of this machine")
        files = Files(Path(root), bool(manager.allow_hidden))
        query, body, service = self.request.query, self.request.body, self._service

        given: dict[str, Any] = {}

        def act() -> str:
            given.update(_given(route, query, body, path))
            return _dumped(route.act(service, files, dict(given)))

        try:
            answer = await service.answer(act, begins=route.begins)
        except Exception as error:
            fault = fault_of(error, given)
            if fault is None:
                raise
            scrubbed = Fault(**{**vars(fault), "message": files.scrubbed(fault.message)})
            self.send(scrubbed)
        else:
            self.finish(answer)


class DocumentHandler(_Handler):
    """The OpenAPI document."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """The document, with this server's address."""
        self.finish(_dumped(document(self.base_url)))


def _given(route: Route, query: str, body: bytes, path: tuple[str, ...]) -> dict[str, Any]:
    """What a request holds, checked; BadRequest, BadField, or 404 for a number that none has."""
    texts = _query(query)
    if route.method == "GET":
        given = route.fields.parsed(texts)
    else:
        if texts:
            name = next(iter(texts))
            raise BadField(f"{name!r}: this takes JSON in the body, not a query string", name)
        given = route.fields.checked(_body(body))
    if route.has_job:
        (number,) = path
        if not (number.isascii() and number.isdigit() and len(number) < 20):
            raise web.HTTPError(404, f"there is no job {number[:40]!r}")
        given["job_id"] = int(number)
        if not 1 <= given["job_id"] <= JOB_ID["maximum"]:
            raise web.HTTPError(404, f"there is no job {number}")
    return given


def _query(query: str) -> dict[str, list[str]]:
    texts: dict[str, list[str]] = {}
    try:
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=1000)
    except ValueError:  # bytes that are no UTF-8, more fields than anybody needs
        raise BadRequest("the query string is no text in UTF-8") from None
    for name, text in pairs:
        if name not in OF_THE_SERVER:
            texts.setdefault(name, []).append(text)
    return texts


def _body(body: bytes) -> object:
    if not body.strip():
        return {}
    try:
        given = json.loads(body.decode(), parse_constant=_no_number, parse_float=_number)
        # A half of a surrogate pair can be written in JSON, and is no text.
        json.dumps(given, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"the body is no JSON in UTF-8: {str(error)[:200]}") from None
    return given


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")


def _number(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text[:40]} is too large")
    return number


def _dumped(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
