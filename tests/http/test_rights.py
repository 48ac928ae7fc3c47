"""Who may ask: the server's own authentication, origin check and XSRF protection, everywhere."""

from __future__ import annotations

import re

import pytest
from fix_jupyter import JupyterServer

from taskwidgets.http.routes import PREFIX, ROUTES

ADDRESSES = [
    *((route.method, PREFIX + route.path.replace("{job_id}", "1")) for route in ROUTES),
    ("GET", f"{PREFIX}/openapi.json"),
]


@pytest.fixture(scope="session")
def cookies(server: JupyterServer) -> dict[str, str]:
    """What a browser has after a login by token: the cookies of login and of XSRF."""
    answer = server.request("GET", f"/login?token={server.token}&next=%2Fapi%2Fstatus", token=False)
    login = re.search(r"(username-[^=]+)=([^;]+)", answer.headers["Set-Cookie"])
    assert login, answer
    page = server.request("GET", "/login", token=False)
    xsrf = re.search(r"_xsrf=([^;]+)", page.headers["Set-Cookie"])
    assert xsrf, page
    return {"login": f"{login[1]}={login[2]}", "xsrf": xsrf[1]}


def ask(server: JupyterServer, method: str, path: str, **headers: str):
    body = {} if method == "POST" else None
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return server.request(method, path, body, headers=sent, token=False)


@pytest.mark.parametrize(("method", "path"), ADDRESSES)
def test_nobody_gets_in_without_a_login(server: JupyterServer, method, path):
    """Without a token, or with a wrong one, every address answers 403, in JSON."""
    for headers in ({}, {"Authorization": "token wrong"}, {"Cookie": "username-x=y"}):
        answer = ask(server, method, path, **headers)
        assert answer.status == 403, headers
        assert answer.error["code"] == "forbidden"
        assert "Location" not in answer.headers
    assert ask(server, method, f"{path}?token=wrong").status == 403


@pytest.mark.parametrize(("method", "path"), ADDRESSES)
def test_a_browser_needs_its_own_page_to_act(server: JupyterServer, cookies, method, path):
    """By cookie: a foreign page reaches nothing, and without the XSRF token nothing is done."""
    both = f"{cookies['login']}; _xsrf={cookies['xsrf']}"
    foreign = ask(
        server, method, path, Cookie=both, Origin="https://evil.example",
        X_XSRFToken=cookies["xsrf"],
    )  # fmt: skip
    assert foreign.status in (403, 404)
    assert foreign.error["code"] in ("forbidden", "not_found")
    assert "Access-Control-Allow-Origin" not in foreign.headers
    if method == "POST":
        for cookie in (cookies["login"], both):
            assert ask(server, method, path, Cookie=cookie).status == 403
        wrong = ask(server, method, path, Cookie=both, X_XSRFToken="2|wrong|0|0")
        assert wrong.status == 403
    own = ask(
        server, method, path, Cookie=both, Origin=f"http://{server.host}",
        X_XSRFToken=cookies["xsrf"],
    )  # fmt: skip
    assert own.status in (200, 404, 422)  # looked at: an empty body lacks fields, job 1 is not
    if own.status != 200:
        assert own.error["code"] in ("invalid_field", "job_not_found")


def test_who_is_logged_in_may_be_refused(served, database_url):
    """The server's authorizer is asked, by the resource taskwidgets, for looking and for acting."""
    server = served(
        database_url,
        "--ServerApp.authorizer_class=fix_jupyter.ReadOnlyAuthorizer",
    )
    assert server.get("jobs").status == 200
    refused = server.post("upload/start", {"source": "x.csv", "table": "x"})
    assert (refused.status, refused.error["code"]) == (403, "forbidden")
    assert "taskwidgets" in refused.error["message"]
