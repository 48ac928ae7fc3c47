"""The simulation of the ledger agrees with the real one, and the page with the simulation."""

import json
import sys

import pytest
from fix_scripts import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))

import ledger_recording as real
import ledger_simulation as simulation
from ledger_simulation import Latencies, Setting, simulate

MARGIN = 3.0  # times as fast or as slow; a model of a machine that others use as well


@pytest.fixture
def latencies(workspace):
    """What this machine takes, now: few transactions of few workers."""
    rounds = {one: real.record(workspace, one, 260, processes=False) for one in (1, 2, 4, 8)}
    return Latencies(
        {level: real.quantiles(one.plain) for level, one in rounds.items()},
        {level: real.quantiles(one.merging) for level, one in rounds.items()},
        real.merging_by_rows(workspace, (64, 256)),
        real.reading_by_rows(workspace, (64, 256)),
    )


@pytest.mark.parametrize("copy", [0.0, 0.01])
def test_eight_real_workers_and_eight_simulated_ones(copy, workspace, latencies):
    """Segments a second, whether the ledger is all that they do or not, within a wide margin."""
    told = real.record(workspace, 8, 500, think=copy, processes=False)
    played = simulate(Setting(8, 500, copy, jitter=0.0), latencies)
    assert 1 / MARGIN < played.rate / told.rate < MARGIN
    # Merged after 64, with one for each worker that is late, and those since the last merging.
    assert told.rows <= 2 * simulation.MERGE_AFTER + 8
    assert played.most_rows <= 2 * simulation.MERGE_AFTER + 8


def test_what_is_simulated_adds_up():
    """One worker that waits for nothing takes what its parts take; a kernel bounds all of them."""
    flat = Latencies(
        {1: [1.0, 1.0]}, {1: [2.0, 2.0]}, [(64, 1.0), (256, 1.0)], [(64, 1.0), (99, 1)]
    )
    one = simulate(Setting(1, 128, copy=0.1, jitter=0.0), flat)
    assert one.seconds == pytest.approx(128 * 0.1 + 126 * 0.001 + 2 * 0.002)
    assert one.rows == 1
    assert one.most_rows == 65
    many = simulate(Setting(100, 500, copy=0.1, cut=0.01), flat)
    assert many.rate == pytest.approx(100, rel=0.05)
    assert many.waiting == pytest.approx(0.9, abs=0.03)
    bound = simulate(Setting(100, 500, copy=0.1, lanes=10, jitter=0.0), flat)
    assert bound.rate == pytest.approx(99, rel=0.05)


def test_the_page_has_what_the_recorded_latencies_give():
    """docs/explanation/scale.md shows this very table."""
    told = json.loads(simulation.LATENCIES.read_text(encoding="utf-8"))
    table = simulation.as_markdown(simulation.table(Latencies.read(told)))
    page = simulation.PAGE.read_text(encoding="utf-8")
    assert table in page
    assert simulation.recorded(told) in page
    assert told["machine"] in page
    assert told["date"] in page
