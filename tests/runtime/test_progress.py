import threading

import pytest

from taskwidgets.runtime.progress import Meter, Progress


class Clock:
    """Time that passes when it is told to."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def run(meter, clock, seconds, rows_per_second, step=0.25):
    for _ in range(round(seconds / step)):
        clock.now += step
        meter.add(int(10 * rows_per_second * step), int(rows_per_second * step))


def test_a_steady_rate_is_shown_as_it_is(clock):
    """At a steady speed, rate is rows per second and eta what is left over bytes per second."""
    meter = Meter(clock=clock)
    meter.start()
    meter.set(0, 0, 100_000)
    run(meter, clock, 4, 1000)
    progress = meter.snapshot()
    assert progress.rate == pytest.approx(1000)
    assert progress.eta == pytest.approx((100_000 - 40_000) / 10_000)
    assert progress.elapsed == pytest.approx(4)
    assert progress.fraction == pytest.approx(0.4)


def test_the_rate_is_smoothed_and_follows_a_change(clock):
    """After a change of speed the rate moves slowly, and has arrived after the window."""
    meter = Meter(clock=clock)
    meter.start()
    run(meter, clock, 20, 1000)
    run(meter, clock, 1, 4000)
    soon = meter.snapshot().rate
    assert 1000 < soon < 2000
    run(meter, clock, 12, 4000)
    assert meter.snapshot().rate == pytest.approx(4000, rel=0.02)


def test_nothing_is_claimed_before_there_is_enough_to_tell(clock):
    """In the first moments rate and eta are None instead of wild."""
    meter = Meter(clock=clock)
    meter.start()
    meter.set(0, 0, 1000)
    meter.add(100, 10)
    assert meter.snapshot().rate is None
    assert meter.snapshot().eta is None


def test_pauses_count_neither_in_elapsed_nor_in_rate_nor_in_eta(clock):
    """An hour's pause changes none of elapsed, rate and eta."""
    meter = Meter(clock=clock)
    meter.start()
    meter.set(0, 0, 100_000)
    run(meter, clock, 4, 1000)
    meter.stop()
    assert meter.snapshot().rate is None
    assert meter.snapshot().eta is None
    clock.now += 3600
    assert meter.snapshot().elapsed == pytest.approx(4)
    meter.start()
    run(meter, clock, 2, 1000)
    progress = meter.snapshot()
    assert progress.elapsed == pytest.approx(6)
    assert progress.rate == pytest.approx(1000)
    assert progress.eta == pytest.approx(4)


def test_what_an_earlier_process_loaded_is_no_speed_of_this_one(clock):
    """A resumed meter's rate counts only what is committed since it was started."""
    meter = Meter(Progress(done=50_000, total=100_000, rows=5_000, elapsed=7.0), clock=clock)
    meter.start()
    meter.set(50_000, 5_000, 100_000)
    run(meter, clock, 2, 1000)
    progress = meter.snapshot()
    assert progress.rate == pytest.approx(1000)
    assert progress.rows == 7_000
    assert progress.elapsed == pytest.approx(9)


def test_starting_and_stopping_twice_counts_once(clock):
    """start() and stop() are idempotent."""
    meter = Meter(clock=clock)
    meter.start()
    clock.now += 1
    meter.start()
    clock.now += 1
    meter.stop()
    meter.stop()
    assert meter.snapshot().elapsed == pytest.approx(2)


def test_a_late_add_is_counted_though_the_clock_stands(clock):
    """A batch that commits while the meter is stopped is counted."""
    meter = Meter(clock=clock)
    meter.add(10, 1)
    assert (meter.snapshot().done, meter.snapshot().rows) == (10, 1)


def test_many_threads_lose_no_count():
    """Adds from several threads at once are all counted."""
    meter = Meter()
    meter.start()
    threads = [
        threading.Thread(target=lambda: [meter.add(3, 1) for _ in range(2000)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (meter.snapshot().done, meter.snapshot().rows) == (24_000, 8_000)


@pytest.mark.parametrize(
    ("done", "total", "fraction"), [(0, None, None), (0, 0, 1.0), (5, 10, 0.5), (11, 10, 1.0)]
)
def test_the_fraction_is_defined_for_every_total(done, total, fraction):
    """No total gives None, an empty one 1.0, and nothing is above 1.0."""
    assert Progress(done=done, total=total).fraction == fraction


def test_progress_survives_the_store():
    """What the store keeps of a progress gives the same counts back."""
    progress = Progress(done=5, total=10, rows=2, rejected=1, elapsed=1.25)
    assert Progress.from_json(progress.to_json()) == progress
