"""One seed for all random choices of a run: printed, and given again by ``--seed`` to repeat it."""

from __future__ import annotations

import random

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("taskwidgets").addoption(
        "--seed", type=int, help="the seed of a run to repeat; by default a new one"
    )


@pytest.hookimpl(tryfirst=True)  # before hypothesis reads its own option
def pytest_configure(config: pytest.Config) -> None:
    """Choose the seed; xdist hands the options of the run, and so the seed, to its workers."""
    if config.option.seed is None:
        config.option.seed = random.SystemRandom().randrange(1 << 32)
    if config.option.hypothesis_seed is None:
        config.option.hypothesis_seed = str(config.option.seed)


def pytest_report_header(config: pytest.Config) -> str:
    return f"seed: {config.option.seed} (repeat with --seed={config.option.seed})"


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say the seed again where a failure is read."""
    if terminalreporter.stats.get("failed") or terminalreporter.stats.get("error"):
        terminalreporter.write_line(f"these failed with --seed={config.option.seed}")


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    """Random numbers of the test's own, which depend on the seed and the test's name alone."""
    return random.Random(f"{request.config.option.seed} {request.node.nodeid}")
