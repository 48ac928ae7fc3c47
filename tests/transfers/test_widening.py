"""Columns of inferred types that a later value does not fit: widened, and nothing is changed."""

import random
import threading

import pytest
from fix_servers import wait_until
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taskwidgets import JobFailed
from taskwidgets.runtime.failpoints import VARIABLE
from taskwidgets.tabular.detection import excerpts
from taskwidgets.transfers import pace, reading

ROWS = 600  # some ten segments
FORMS = {
    "integer": str,
    "bigint": lambda n: str(3_000_000_000 + n),
    "numeric": lambda n: f"{n}.12345678901234567890",
    "double precision": lambda n: f"{n}.25",
    "boolean": lambda n: "true" if n % 3 else "false",
    "date": lambda n: f"2024-{n % 12 + 1:02}-{n % 28 + 1:02}",
    "timestamp": lambda n: f"2024-01-{n % 28 + 1:02} 10:{n % 60:02}:07",
    "timestamptz": lambda n: f"2024-01-{n % 28 + 1:02}T10:{n % 60:02}:07Z",
}
MODES = pytest.mark.parametrize("mode", ["stop", "reject"])


@pytest.fixture
def small(monkeypatch):
    """Small segments, and a sample of the head only: late values are news."""
    monkeypatch.setattr(pace, "SMALLEST_BATCH", 1500)
    monkeypatch.setattr(pace, "LARGEST_BATCH", 1500)
    sample = reading.sample_records
    monkeypatch.setattr(
        reading, "sample_records", lambda *args: sample(*args, budget_bytes=1200)
    )
