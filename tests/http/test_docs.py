"""The examples in docs/http.md do what the page says, with curl, against a real server."""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any

from fix_files import write_many
from fix_jupyter import find_curl
from fix_scripts import ROOT

PAGE = ROOT / "docs" / "http.md"
BLOCK = re.compile(r"^```(sh|json)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def fits(shown: Any, real: Any) -> bool:
    """Whether an answer is the one that the page shows, which may leave parts out."""
    if shown == "...":
        return True
    if isinstance(shown, dict):
        return isinstance(real, dict) and all(
            name in real and fits(value, real[name]) for name, value in shown.items()
        )
    if isinstance(shown, list):
        return (
            isinstance(real, list)
            and len(shown) == len(real)
            and all(fits(one, other) for one, other in zip(shown, real, strict=True))
        )
    return bool(shown == real)


def test_the_examples_do_what_the_page_says(served, database_url):
    """Each example succeeds in the page's order, and its answer is the one below it."""
    find_curl()
    server = served(database_url)
    write_many(server.root / "flights.csv", 6000)
    variables = {
        **server.environment,
        "JUPYTER": server.url,
        "TOKEN": server.token,
        "no_proxy": "*",
    }
    blocks = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    assert len(blocks) > 15
    answer, compared = "", 0
    for language, text in blocks:
        if language == "sh":
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", text],
                env=variables, capture_output=True, text=True, timeout=250, check=False,
            )  # fmt: skip
            assert done.returncode == 0, (text, done.stderr)
            answer = done.stdout
        else:
            real = json.loads(answer)
            assert fits(json.loads(text), real), f"{text}\nis shown, and this came:\n{answer}"
            compared += 1
    assert compared == 9
    assert (server.root / "flights.csv").exists()


def test_a_wrong_example_would_be_noticed():
    """The comparison tells other values, missing names and other lengths."""
    assert fits({"a": "...", "b": [1]}, {"a": 7, "b": [1], "c": 0})
    assert not fits({"a": 1}, {"a": 2})
    assert not fits({"a": "..."}, {"b": 2})
    assert not fits([1], [1, 2])
