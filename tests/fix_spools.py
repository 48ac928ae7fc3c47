"""A home of the test's own, in which sources are spooled; and what is left in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from fix_servers import wait_until

from taskwidgets.runtime import failpoints


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's data directory, for this test."""
    path = tmp_path / "home"
    monkeypatch.setenv("TASKWIDGETS_HOME", str(path))
    return path


@pytest.fixture
def spooled(home: Path) -> Callable[[], list[str]]:
    """The names of all files that lie in spools just now."""

    def look() -> list[str]:
        return sorted(path.name for path in (home / "spool").rglob("*") if path.is_file())

    return look


class Points:
    """Failpoints of one process: armed, awaited, let go."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def arm(self, name: str) -> None:
        (self.folder / name).touch()

    def reached(self, name: str) -> None:
        wait_until((self.folder / f"{name}.reached").exists)

    def let_go(self, name: str) -> None:
        (self.folder / f"{name}.reached").unlink()


@pytest.fixture
def points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Points:
    """Failpoints of this process, and by ``points.folder`` of others."""
    folder = tmp_path / "points"
    folder.mkdir()
    monkeypatch.setattr(failpoints, "_folder", str(folder))
    return Points(folder)
