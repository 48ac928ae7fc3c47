"""Runs the tests as ``make test`` and ``make test-all`` do, with one summary at the end.

    python tests/run.py [--tier test|all] [--slice TEXT] [--stop-after SECONDS] [--seed N]
                        [--workers N] [--coverage] [--budget SECONDS] [-- PYTEST OPTIONS, PATHS]

The tier ``test`` has every kind of test and is kept short: tests marked ``slow`` are left to the
tier ``all``. Tests with a browser come after the others, as what they look at is how a page answers
a person, who would not wait for tests that take all of the machine.

The summary fails the run where it took longer than its budget. The budget is for two quiet cores;
it grows where a fixed piece of work, done before, between and after the tests, takes longer than it
did on such a machine.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
WITH_BROWSER = ("tests/browser", "tests/notebooks")

BUDGET = 480.0  # seconds for the tier ``test`` on two quiet cores; more needs a reason
MARGIN = 1.25  # what may be added to it: the same tests on the same machine vary by a tenth
LONG = 5.0  # seconds; a test of the tier ``test`` that takes longer says in its docstring why
SHOWN = 30  # of the slowest tests
SEED = 1  # of the tier ``test``, which is to fail after a change only, not by chance

# What the fixed piece of work takes on two quiet cores (Intel Xeon, 2.8 GHz, Python 3.11): the
# median of 20 runs. It computes on both cores at once and starts processes, as the tests do.
CALIBRATED = 0.77  # seconds
WORK = """
import hashlib, subprocess, sys
numbers = sorted(str(n * 7919 % 1_000_003) for n in range(1_000_000))
hashlib.sha256(",".join(numbers).encode()).digest()
for _ in range(10):
    subprocess.run([sys.executable, "-S", "-c", "import json"], check=True)
"""

COVERED = ("taskwidgets/store", "taskwidgets/runtime", "taskwidgets/transfers")


@dataclass
class Phase:
    """One call of pytest: its options, and what came of it."""

    name: str
    options: list[str]
    tests: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    code: int = 0


def calibrate() -> float:
    """How many times as long as on a quiet machine the fixed piece of work takes; 1.0 at least."""
    begun = time.monotonic()
    both = [subprocess.Popen([sys.executable, "-c", WORK]) for _ in range(2)]
    for one in both:
        one.wait()
    return max(1.0, (time.monotonic() - begun) / CALIBRATED)


def phases(given: argparse.Namespace) -> list[Phase]:
    """The calls of pytest, one after the other."""
    chosen = ["-m", "not slow"] if given.tier == "test" else []
    if given.slice is not None:  # the other tests have been run by ``make test``
        chosen = ["-m", "slow", f"--slice={given.slice}"]
    if any((ROOT / option.partition("::")[0]).exists() for option in given.options):
        return [Phase("named", chosen if given.slice is not None else [])]
    without = Phase("without a browser", [*chosen, *(f"--ignore={path}" for path in WITH_BROWSER)])
    if given.slice is not None:
        return [without]
    return [without, Phase("in a browser, and notebooks", [*chosen, *WITH_BROWSER])]


def run(phase: Phase, given: argparse.Namespace, folder: Path) -> None:
    """Run pytest and read what each test took."""
    timings = folder / "timings"
    timings.unlink(missing_ok=True)
    command = [
        sys.executable, "-m", "pytest", "--quiet",
        f"--numprocesses={given.workers}", "--dist=worksteal",
        f"--seed={given.seed}", f"--timings={timings}", *phase.options, *given.options,
    ]  # fmt: skip
    if given.stop_after is not None:
        command.append(f"--stop-after={given.stop_after}")
    if given.coverage:
        command += ["--cov-append", "--cov-branch", "--cov-report="]
        command += [f"--cov={path}" for path in COVERED]
    # Where it is set, every process that a test starts would compile the package anew.
    environment = {**os.environ}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    print(f"\n== tests {phase.name}", flush=True)
    begun = time.monotonic()
    phase.code = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
    phase.seconds = time.monotonic() - begun
    if timings.exists():
        lines = timings.read_text(encoding="utf-8").splitlines()
        phase.tests = [json.loads(line) for line in lines]
    if phase.code == 5 and not phase.tests:  # nothing was chosen, by a -k or a path for example
        phase.code = 0


def summarize(done: list[Phase], given: argparse.Namespace, slowness: float) -> bool:
    """Print the one summary; whether all is well."""
    tests = sorted((t for phase in done for t in phase.tests), key=lambda test: -test["seconds"])
    complaints = [
        f"pytest ended with exit code {phase.code} for the tests {phase.name}"
        for phase in done
        if phase.code
    ]
    seconds = sum(phase.seconds for phase in done)
    print(f"\n== the {min(SHOWN, len(tests))} slowest of {len(tests)} tests, seconds")
    for test in tests[:SHOWN]:
        print(f"{test['seconds']:7.1f}  {test['test']}")
    if given.tier == "test" and given.slice is None:
        for test in tests:
            # Four times as long is let pass: what one test takes varies more than what all take.
            if test["call"] > 4 * LONG * slowness and not test["reason"]:
                complaints.append(
                    f"{test['test']} took {test['call']:.1f} s, and its docstring has no reason "
                    '("Slow: ...")'
                )
        allowed = given.budget * slowness
        if seconds > allowed * MARGIN:
            complaints.append(
                f"the tests took {seconds:.0f} s, and {allowed:.0f} s are allowed "
                f"({given.budget:.0f} s on a quiet machine; this one is {slowness:.2f} times as "
                "slow)"
            )
    print("\n== summary")
    for phase in done:
        print(f"{phase.seconds:7.1f} s  {len(phase.tests):5} tests {phase.name}")
    print(f"{seconds:7.1f} s  in all, on a machine {slowness:.2f} times as slow as a quiet one")
    print(f"seed {given.seed}; to repeat: python -m pytest --seed={given.seed} TEST")
    for test in tests:
        if test["reruns"]:
            print(f"WARNING: {test['test']} was run again, as it failed ({test['outcome']} then)")
    for test in tests:
        if test["outcome"] not in ("passed", "xfailed"):
            print(f"{test['outcome'].upper()}: {test['test']}")
    for complaint in complaints:
        print(f"FAILED: {complaint}")
    counts = [sum(t["outcome"] == name for t in tests) for name in ("failed", "skipped")]
    passed = len(tests) - sum(counts)
    print(f"{passed} passed, {counts[0]} failed, {counts[1]} skipped", flush=True)
    return not complaints and not any(counts)


def main() -> int:
    parser = argparse.ArgumentParser(description="Runs the tests with one summary at the end.")
    parser.add_argument("--tier", choices=["test", "all"], default="test")
    parser.add_argument("--slice", help="slow tests only, in an order that this text decides")
    parser.add_argument("--stop-after", type=float, help="seconds after which none is begun")
    parser.add_argument(
        "--seed", type=int, help=f"of random choices; by default {SEED}, with --tier all a new one"
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=(os.cpu_count() or 1) + 1,  # many tests wait for a process or a page
        help="processes that run tests; by default one more than there are cores",
    )
    parser.add_argument("--coverage", action="store_true", help="print the branch coverage")
    parser.add_argument("--budget", type=float, default=BUDGET, help="seconds on a quiet machine")
    parser.add_argument("options", nargs="*", help="options of pytest, after --")
    given = parser.parse_args()
    if given.seed is None:
        given.seed = random.SystemRandom().randrange(1 << 32) if given.tier == "all" else SEED
    slowness = [calibrate()]
    done = []
    with tempfile.TemporaryDirectory() as folder:
        for phase in phases(given):
            run(phase, given, Path(folder))
            slowness.append(calibrate())
            done.append(phase)
    if given.coverage:
        print("\n== branch coverage", flush=True)
        report = [sys.executable, "-m", "coverage", "report", "--skip-covered", "--precision=1"]
        subprocess.run(report, cwd=ROOT, check=False)
    return 0 if summarize(done, given, max(slowness)) else 1


if __name__ == "__main__":
    sys.exit(main())
