"""The OpenAPI document: valid, whole, and kept to by the server whatever is sent."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from fix_jupyter import JupyterServer
from fix_tiers import slow

CHECKS = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance",
    "response_schema_conformance", "negative_data_rejection", "unsupported_method", "ignored_auth",
)  # fmt: skip


def test_the_document_is_valid_and_whole(server: JupyterServer):
    """It is OpenAPI 3.1, and has each endpoint of the table, with all statuses it may answer."""
    # Imported here, as that takes seconds: jsonschema, which both need, builds 39 parsers.
    from openapi_spec_validator import OpenAPIV31SpecValidator

    from taskwidgets.http.routes import PREFIX, ROUTES

    document = server.ok(server.request("GET", "/taskwidgets/openapi.json"))
    OpenAPIV31SpecValidator(document).validate()
    listed = {
        (method.upper(), path) for path, methods in document["paths"].items() for method in methods
    }
    assert listed == {(route.method, PREFIX + route.path) for route in ROUTES}
    wanted = {
        *(("POST", f"/taskwidgets/{kind}/{verb}") for kind in ("upload", "download")
          for verb in ("start", "pause", "resume", "terminate")),
        *(("GET", f"/taskwidgets/{kind}/progress") for kind in ("upload", "download")),
        ("GET", "/taskwidgets/jobs"),
        ("GET", "/taskwidgets/jobs/{job_id}"),
        ("GET", "/taskwidgets/jobs/{job_id}/events"),
    }  # fmt: skip
    assert wanted < listed
    for methods in document["paths"].values():
        for operation in methods.values():
            assert {"200", "400", "403", "503"} <= set(operation["responses"])


# Of each endpoint and phase; with 15 for all fourteen, some ten seconds.
@pytest.mark.parametrize("examples", [2, slow(15)])
def test_the_document_is_kept_to_whatever_is_sent(
    server: JupyterServer, rows_file, numbers_table, tmp_path, examples
):
    """schemathesis sends what fits and what does not: no fault of the server, no surprise.

    Slow: schemathesis imports much, and sends some thousand requests.
    """
    uploaded = server.upload(rows_file("1.csv", 3), "fuzzed")["id"]
    server.wait_for(uploaded, "completed")
    source = numbers_table(f"fuzz_source_{examples}", 3)
    server.wait_for(server.download(source, f"{examples}.csv")["id"], "completed")
    # Of what is made up at random, hardly anything would be there: the files, tables and jobs are.
    narrowed = server.request("GET", "/taskwidgets/openapi.json").body
    for path, field, values in (
        ("upload", "source", ["1.csv"]),
        ("upload", "table", ["fuzzed", "fuzzed_2", 'odd "name".t']),
        ("download", "source", [source, "SELECT 1 AS a, '=x' AS b"]),
    ):
        operation = narrowed["paths"][f"/taskwidgets/{path}/start"]["post"]
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        schema["properties"][field] = {"type": "string", "enum": values}
    before = len(server.log.read_text(errors="replace"))
    file = tmp_path / "openapi.json"
    file.write_text(json.dumps(narrowed))
    done = subprocess.run(
        [
            sys.executable, "-m", "schemathesis.cli", "run",
            str(file), "--url", server.url,
            "--header", f"Authorization: token {server.token}",
            "--checks", ",".join(CHECKS),
            "--max-examples", str(examples), "--seed", "20131101", "--generation-deterministic",
            "--phases", "examples,coverage,fuzzing",
            "--suppress-health-check", "all", "--request-timeout", "100", "--no-color",
        ],
        cwd=tmp_path, env=server.environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    log = server.log.read_text(errors="replace")[before:]
    assert "Traceback" not in log, log[log.index("Traceback") - 500 :][:4000]
    assert server.job(uploaded)["state"] == "completed"
