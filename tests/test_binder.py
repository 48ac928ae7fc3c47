"""The folder ``binder/``: its files, carried out step by step as repo2docker carries them out.

Written from repo2docker's documentation: Python as ``runtime.txt`` names it, then
``pip install -r binder/requirements.txt`` and ``binder/postBuild``, all by an ordinary user in the
root of the checkout, which is also her home; at the start, ``binder/start`` where there is one.
https://repo2docker.readthedocs.io/en/latest/configuration/
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from fix_scripts import ROOT
from fix_servers import make_base, wait_until

BINDER = ROOT / "binder"
NOBODY = 65534
LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv", "build", "dist", "data", "screenshots", "__pycache__", "*.egg-info", ".*_cache"
)


class Visitor:
    """Somebody with a home of her own, and without rights when the tests are root's."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.root = os.geteuid() == 0
        kept = {
            name: value
            for name, value in os.environ.items()
            if name.startswith(("PIP_", "SSL_")) or name.lower().endswith("_proxy")
        }
        self.environment = {
            **kept,
            "HOME": str(home),
            "PATH": f"{home / '.environment' / 'bin'}:{os.environ['PATH']}",
            "LANG": "C.UTF-8",
            "PIP_NO_CACHE_DIR": "1",
        }

    def run(self, *command: str | Path) -> str:
        """Run a program in the checkout; what it prints, or an error with all that it printed."""
        rights = [
            "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups",
            # to read everything: the interpreter that runs the tests may lie below /root
            "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search",
        ]  # fmt: skip
        done = subprocess.run(
            [*(rights if self.root else []), *(str(part) for part in command)],
            cwd=self.home,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout


@pytest.fixture
def visitor() -> Iterator[Visitor]:
    """A visitor whose home is a copy of the checkout."""
    base = make_base()
    home = base / "home"
    shutil.copytree(ROOT, home, ignore=LEFT_OUT)
    if os.geteuid() == 0:
        for path in [home, *home.rglob("*")]:
            os.chown(path, NOBODY, NOBODY)
    yield Visitor(home)
    shutil.rmtree(base)


def test_only_files_that_are_understood() -> None:
    """Nothing is there that would be passed over, or would make requirements.txt be."""
    assert {path.name for path in BINDER.iterdir()} == {
        "requirements.txt", "runtime.txt", "postBuild",
    }  # fmt: skip


def test_python_is_one_that_the_package_supports() -> None:
    """runtime.txt names a version at or above requires-python."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = re.fullmatch(r"python-(\d+)\.(\d+)\n", (BINDER / "runtime.txt").read_text())
    least = re.fullmatch(r">=(\d+)\.(\d+)", project["requires-python"])
    assert named is not None
    assert least is not None
    assert tuple(map(int, named.groups())) >= tuple(map(int, least.groups()))


@pytest.mark.slow
@pytest.mark.timeout(1200)  # seconds; it installs JupyterLab, at the package index's pace
def test_the_quickstart_runs_as_on_binder(visitor: Visitor) -> None:
    """From nothing but the checkout, an ordinary user comes to the quickstart's last cell."""
    visitor.run(sys.executable, "-m", "venv", ".environment")
    visitor.run("pip", "install", "--quiet", "-r", "binder/requirements.txt")
    visitor.run(visitor.home / "binder" / "postBuild")
    found = visitor.run("python", "-P", "-c", "import taskwidgets; print(taskwidgets.__file__)")
    assert ".environment" in found  # it is installed, not found beside the notebook
    visitor.run("jupyter", "execute", "--output=executed", "notebooks/01_quickstart.ipynb")
    book = nbformat.read(visitor.home / "notebooks" / "executed.ipynb", as_version=4)
    said = "".join(
        output.get("data", {}).get("text/plain", "")
        for cell in book.cells
        for output in cell.get("outputs", [])
    )
    assert "rows_loaded=336776" in said
    pid_file = visitor.home / ".local/share/taskwidgets/data/postmaster.pid"
    assert pid_file.parent.is_dir()  # it was the embedded server, in her own home
    wait_until(lambda: not pid_file.exists(), "for the embedded server's end")
