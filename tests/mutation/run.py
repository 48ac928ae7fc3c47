"""Mutation testing: puts known faults into copies of the package, one each, and runs the tests.

A fault that no test notices shows a gap in the tests. The faults are in ``mutants.toml``.

    python tests/mutation/run.py --record build/mutation/coverage   # which tests run which lines
    python tests/mutation/run.py                                    # all mutants
    python tests/mutation/run.py --only claim-epoch range-rows      # some of them
    python tests/mutation/run.py --check 5                          # some of them without a fault

For each mutant the tests are run that run the changed lines, the fastest first, up to the first
failure. Exit code 1: less than 90 % of the mutants are killed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from coverage import CoverageData
from mutants import LIST, Mutant, load
from selection import Chosen, Recording, facts_path, file_of, version, without_group

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "build" / "mutation" / "coverage"
TIER = ""  # a pytest -m expression; "" is all tests
LEAST_KILLED = 0.9
TEST_TIMEOUT = 100  # seconds for one test; a fault may make it hang
LONGEST_SETUP = 0.5  # seconds of a test's set-up that count as its own
LIMIT = 900.0  # seconds for all tests of one mutant
# Tests of another kind: a browser, whole notebooks, speed. They are slow, and run no lines alone.
LEFT_OUT = ("tests/browser", "tests/notebooks", "tests/test_speed.py", "tests/mutation")
WIDTH = 34  # characters of a mutant's id in the table

# ctrace: measuring by sys.monitoring knows no contexts.
COVERAGE = """
[run]
core = ctrace
relative_files = true
disable_warnings = module-not-measured, no-data-collected, module-not-imported, no-ctracer
"""

IGNORED = (("taskwidgets", "*.so"), ("taskwidgets", "*.pyc"), ("tests", "*.pyc"))

# Only the modules that a file is part of, as compiling takes longer than their tests.
COMPILE = """
import sys
from pathlib import Path
import hatch_build
file = Path(sys.argv[1])
hatch_build.MODULES = {
    module: source
    for module, source in hatch_build.MODULES.items()
    if Path(source) == file or f'{file.name}"' in Path(source).read_text()
}
hatch_build.compile_modules(Path.cwd())
"""
FIND = "import importlib.util; print(importlib.util.find_spec('taskwidgets').origin)"


class BrokenError(Exception):
    """A mutant that cannot be tried: it does not compile, or pytest does not come to its tests."""


# ---------------------------------------------------------------------- copies of the checkout


@dataclass(frozen=True)
class Copy:
    """A copy of the checkout in a temporary folder, and how programs are run in it."""

    folder: Path  # for all that the tests make; removed in the end

    @property
    def root(self) -> Path:
        return self.folder / "copy"

    @property
    def reports(self) -> Path:
        return self.folder / "reports"

    def environment(self, order: Path | None = None) -> dict[str, str]:
        """Variables by which the copy is imported, by child processes too."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("TASKW")}
        made = {
            **kept,
            "PYTHONPATH": os.pathsep.join(map(str, (self.root, self.root / "tests" / "mutation"))),
            "TMPDIR": str(self.folder),
            # The embedded server gets this variable only; by the folder in it, its processes are
            # known as those of this copy's tests.
            "PATH": os.pathsep.join([kept.get("PATH", os.defpath), str(self.folder)]),
            "MUTATION_REPORTS": str(self.reports),
            "MUTATION_FOLDERS": str(self.folder / "folders"),
        }
        if order is not None:
            made["MUTATION_ORDER"] = str(order)
        return made

    def check_import(self) -> None:
        """BrokenError unless a process that is started anywhere imports this copy."""
        found = subprocess.run(
            [sys.executable, "-c", FIND],
            cwd="/",
            env=self.environment(),
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        if not Path(found).resolve().is_relative_to(self.root.resolve()):
            raise BrokenError(f"taskwidgets is imported from {found}")

    def compile(self, file: str) -> None:
        """Compile the modules that the C file is part of; BrokenError where that fails."""
        done = subprocess.run(
            [sys.executable, "-c", COMPILE, file],
            cwd=self.root,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            raise BrokenError(f"it does not compile: {done.stdout[-2000:]}")


def files_of_checkout() -> list[str]:
    """What git knows or would add; and what it ignores: compiled modules, C's and Python's.

    Python's are good for a copy whose files bear the same time, and save it five seconds.
    """
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    names = [name for name in listed.split("\0") if name and (ROOT / name).is_file()]
    built = [
        path.relative_to(ROOT).as_posix()
        for folder, pattern in IGNORED
        for path in (ROOT / folder).rglob(pattern)
    ]
    return names + built


@contextmanager
def copied() -> Iterator[Copy]:
    """A copy of the checkout; afterwards no process of its tests is left, and no file."""
    made = Copy(Path(tempfile.mkdtemp(prefix="mut-")).resolve())
    made.folder.chmod(0o755)  # servers run under another account where this one is root
    try:
        for name in files_of_checkout():
            target = made.root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target)
        made.check_import()
        yield made
    finally:
        end_processes(made.folder)
        elsewhere = made.folder / "folders"
        for folder in elsewhere.read_text().splitlines() if elsewhere.exists() else []:
            shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(made.folder, ignore_errors=True)


def end_processes(folder: Path) -> None:
    """End what tests have left running, as those that were cut off by a timeout do."""
    mark = str(folder)
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.pid == os.getpid():
                continue
            words = [*process.cmdline(), process.cwd(), process.environ().get("PATH", "")]
            if any(mark in word for word in words):
                found.append(process)
    for process in found:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(found, timeout=10)


# ---------------------------------------------------------------------- pytest in a copy


@dataclass(frozen=True)
class Outcome:
    """What a run of pytest came to: how many tests were begun, and those that failed."""

    tried: int
    failed: list[str]
    hung: bool  # it was ended while a test was running
    seconds: float
    output: str


def run_pytest(
    copy: Copy, chosen: Chosen, known: Sequence[str], tier: str, limit: float, *, stop: bool
) -> Outcome:
    """Run these tests in the copy; BrokenError where pytest does not come to them.

    ``stop``: at the first failure. What fails is run once more, so that a test that fails now and
    then without any fault is not taken for one that noticed the fault.
    """
    order = None
    if chosen.tests:
        order = copy.folder / "order.json"
        order.write_text(json.dumps({"tests": chosen.tests, "known": list(known)}))
    command = [
        sys.executable, "-m", "pytest", "-p", "mutation_plugin", "-p", "no:cacheprovider",
        "-q", "--no-header", "--tb=short", f"--timeout={TEST_TIMEOUT}",
        "--seed=0", f"--basetemp={copy.folder / 'b'}",
        "--reruns=1", *(["-x"] if stop else []), *(["-m", tier] if tier else []), *chosen.files,
    ]  # fmt: skip
    copy.reports.unlink(missing_ok=True)
    began = time.monotonic()
    output = copy.folder / "output"
    with output.open("w") as file:
        process = subprocess.Popen(
            command,
            cwd=copy.root,
            env=copy.environment(order),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            code = None
    seconds = time.monotonic() - began
    words = output.read_text(errors="replace")
    if code in (2, 3, 4):
        raise BrokenError(f"pytest ended with {code}: {words[-2000:]}")
    begun, ended, failed = set(), set(), []
    for line in copy.reports.read_text().splitlines() if copy.reports.exists() else []:
        report = json.loads(line)
        if report["what"] == "begins":
            begun.add(report["test"])
        elif report["what"] == "ends":
            ended.add(report["test"])
        elif report["what"] == "failed" and report["test"] not in failed:
            failed.append(report["test"])
    if code is not None and not begun and code != 5:  # ended by a signal, or before its first test
        raise BrokenError(f"pytest ended with {code} before its first test: {words[-2000:]}")
    running = sorted(begun - ended)
    hung = code not in (0, 5) and bool(running) and not failed
    if hung and code is not None:  # the one that was running; at the limit there may be no fault
        failed = running
    return Outcome(len(begun), failed, hung, seconds, words)


# ---------------------------------------------------------------------- mutants


@dataclass
class Result:
    """What became of one mutant: killed, survived or broken."""

    mutant: Mutant
    verdict: str
    tried: int
    tests: int
    test: str  # that failed first
    remark: str
    seconds: float

    def line(self) -> str:
        tried = f"{self.tried}/{self.tests}"
        return (
            f"{self.mutant.id:{WIDTH}} {self.verdict:9} {tried:>9} {self.seconds:7.1f} s  "
            f"{self.test} {self.remark}".rstrip()
        )


class Runner:
    """Tries mutants; ``without_fault``: the same tests on the package as it is."""

    def __init__(self, recording: Recording, options: argparse.Namespace) -> None:
        self._recording = recording
        self._tier: str = options.tier
        self._limit: float = options.limit
        self._folder: Path | None = options.outputs
        self._without_fault = options.check is not None
        self._print = threading.Lock()

    def try_mutant(self, mutant: Mutant) -> Result:
        began = time.monotonic()
        chosen = self._recording.choose(mutant)
        result = Result(mutant, "broken", 0, len(chosen.tests), "", "", 0.0)
        try:
            outcome = self._run(mutant, chosen)
        except BrokenError as error:
            result.remark = str(error)
        else:
            result.tried = outcome.tried
            result.tests = max(result.tests, outcome.tried)
            result.verdict = "killed" if outcome.failed else "survived"
            if outcome.failed:
                result.test = outcome.failed[0]
                result.remark = "(hung or crashed)" if outcome.hung else ""
            elif outcome.hung:
                result.remark = f"not all tests were tried within {self._limit:.0f} s"
            if self._folder is not None:
                self._folder.mkdir(parents=True, exist_ok=True)
                (self._folder / f"{mutant.id}.txt").write_text(outcome.output)
        result.seconds = time.monotonic() - began
        with self._print:
            print(result.line(), flush=True)
        return result

    def _run(self, mutant: Mutant, chosen: Chosen) -> Outcome:
        with copied() as copy:
            if not self._without_fault:
                path = copy.root / mutant.file
                path.write_text(mutant.apply(path.read_text(encoding="utf-8")), encoding="utf-8")
            if mutant.is_compiled:
                copy.compile(mutant.file)
            known = list(self._recording.seconds)
            stop = not self._without_fault
            return run_pytest(copy, chosen, known, self._tier, self._limit, stop=stop)

    def confirm(self, results: list[Result]) -> list[Result]:
        """Run each killing test without the fault; the mutants of which it fails all the same."""
        tests = sorted({result.test for result in results if result.verdict == "killed"})
        if not tests:
            return []
        chosen = Chosen(tests, sorted(set(map(file_of, tests))))
        # Tests that were not recorded are run as well, as if they were new: they are few.
        known = [*self._recording.seconds, *tests]
        with copied() as copy:
            outcome = run_pytest(copy, chosen, known, self._tier, self._limit, stop=False)
        return [
            result
            for result in results
            if result.verdict == "killed" and result.test in outcome.failed
        ]


def summarize(results: list[Result], without_fault: bool) -> int:
    """Print how many were killed, by area; the exit code."""
    by_area: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        by_area[result.mutant.area.title].append(result)
    print(f"\n{'area':{WIDTH}} mutants  killed  survived  broken")
    for title, found in [*by_area.items(), ("all", results)]:
        verdicts = [result.verdict for result in found]
        numbers = [verdicts.count(verdict) for verdict in ("killed", "survived", "broken")]
        print(f"{title:{WIDTH}} {len(found):7} {numbers[0]:7} {numbers[1]:9} {numbers[2]:7}")
    for result in results:
        if result.verdict == "survived" and not without_fault:
            print(f"\nsurvived: {result.mutant.id} ({result.mutant.file})\n  {result.mutant.harm}")
    killed = sum(result.verdict == "killed" for result in results)
    if without_fault:
        return int(any(result.verdict != "survived" or result.remark for result in results))
    return int(killed < LEAST_KILLED * len(results))


# ---------------------------------------------------------------------- the recording


def record(data: Path, tier: str, tests: Sequence[str], *, add: bool) -> int:
    """Run the tests with coverage, a context for each, and keep how long each took.

    ``add``: to what was recorded before, of other tests.
    """
    data = data.resolve()
    data.parent.mkdir(parents=True, exist_ok=True)
    with copied() as copy:
        config = copy.folder / "coveragerc"
        config.write_text(COVERAGE)
        command = [
            sys.executable, "-m", "pytest", "-p", "mutation_plugin", "-p", "no:cacheprovider",
            "-q", "-n", "2", "--dist=loadgroup", "--reruns=1", "--seed=0",
            "--cov=taskwidgets", "--cov-context=test", "--cov-report=", f"--cov-config={config}",
            f"--basetemp={copy.folder / 'b'}", *(["-m", tier] if tier else []),
            *(f"--ignore={path}" for path in LEFT_OUT), *tests,
        ]  # fmt: skip
        environment = {**copy.environment(), "COVERAGE_FILE": str(copy.folder / "coverage")}
        code = subprocess.run(command, cwd=copy.root, env=environment, check=False).returncode
        if code > 1:
            return code
        seconds: dict[str, float] = defaultdict(float)
        failed = set()
        for line in copy.reports.read_text().splitlines():
            report = json.loads(line)
            test = without_group(report["test"])
            took = report.get("seconds", 0.0)
            # A set-up that takes long is that of a server, which the other tests have as well.
            seconds[test] += took if report.get("when") == "call" else min(took, LONGEST_SETUP)
            if report["what"] == "failed":
                failed.add(test)
            elif report["what"] == "passed" and report["when"] == "call":
                failed.discard(test)  # tried once more
        versions = {
            path.relative_to(copy.root).as_posix(): version(path)
            for path in (copy.root / "taskwidgets").rglob("*.py")
        }
        facts = {
            "seconds": {test: round(time, 3) for test, time in sorted(seconds.items())},
            "failed": sorted(failed),
            "versions": versions,
        }
        if add and data.exists():
            before = json.loads(facts_path(data).read_text())
            facts["seconds"] = {**before["seconds"], **facts["seconds"]}
            facts["failed"] = sorted((set(before["failed"]) - set(seconds)) | failed)
            more = CoverageData(basename=str(copy.folder / "coverage"))
            more.read()
            together = CoverageData(basename=str(data))
            together.read()
            together.update(more)
        else:
            shutil.copy(copy.folder / "coverage", data)
    facts_path(data).write_text(json.dumps(facts, indent=0))
    print(f"{len(seconds):,} tests recorded in {data}; {len(failed)} of them failed")
    return 0


# ---------------------------------------------------------------------- the command


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", metavar="ID", help="these mutants, or areas")
    parser.add_argument("--tier", default=TIER, help='pytest -m expression, such as "not slow"')
    parser.add_argument(
        "--coverage",
        type=Path,
        default=DATA,
        help="what --record has written; where it is absent, an area's own tests are run",
    )
    parser.add_argument("--jobs", type=int, default=2, help="mutants that are tried at once")
    parser.add_argument("--record", type=Path, metavar="FILE", help="record the tests, then end")
    parser.add_argument("--add", action="store_true", help="keep what --record has written before")
    parser.add_argument(
        "--tests", nargs="+", default=["tests"], help="what to record; default: all tests"
    )
    parser.add_argument(
        "--check",
        type=int,
        metavar="NUMBER",
        help="run the tests of so many mutants without the fault: all of them have to pass",
    )
    parser.add_argument(
        "--limit", type=float, default=LIMIT, help="seconds for the tests of one mutant"
    )
    parser.add_argument("--outputs", type=Path, help="a folder for what pytest prints")
    parser.add_argument("--list", action="store_true", help="print mutants and their tests only")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    # A shell has what it starts in the background ignore Ctrl-C; tests send it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if options.record is not None:
        return record(options.record, options.tier, options.tests, add=options.add)
    mutants = load(ROOT, LIST)
    if options.only:
        wanted = set(options.only)
        unknown = wanted - {one.id for one in mutants} - {one.area.name for one in mutants}
        if unknown:
            print(f"no such mutant or area: {', '.join(sorted(unknown))}", file=sys.stderr)
            return 2
        mutants = [one for one in mutants if one.id in wanted or one.area.name in wanted]
    data = options.coverage if facts_path(options.coverage).exists() else None
    recording = Recording(ROOT, data)
    if data is None:
        print(f"nothing is recorded in {options.coverage}: an area's own tests are run")
    stale = sorted({one.file for one in mutants if recording.is_stale(one.file)})
    for file in stale:
        print(f"{file} was changed since: all tests that run any line of it are tried")
    if options.list:
        for one in mutants:
            print(f"{one.id:{WIDTH}} {len(recording.choose(one).tests):5} tests  {one.file}")
        return 0
    if options.check is not None:
        step = max(len(mutants) // max(options.check, 1), 1)
        mutants = mutants[::step][: options.check]
    runner = Runner(recording, options)
    print(f"{'mutant':{WIDTH}} {'verdict':9} {'tests':>9} {'time':>9}  first failure")
    with ThreadPoolExecutor(options.jobs) as pool:
        try:
            results = list(pool.map(runner.try_mutant, mutants))
        except KeyboardInterrupt:
            print("interrupted: the mutants under way come to their end", file=sys.stderr)
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if options.check is None:
        for result in runner.confirm(results):
            print(f"{result.mutant.id}: {result.test} fails without the fault too")
            result.verdict = "broken"
    return summarize(results, options.check is not None)


if __name__ == "__main__":
    sys.exit(main())
