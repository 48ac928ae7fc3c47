"""The package as a whole: its front door, its floors, its checks."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import taskwidgets
from taskwidgets import errors

ROOT = Path(__file__).parents[1]
# What Python, or a program that takes the package up, looks for in it; no user does.
SERVING = {"Any", "TYPE_CHECKING", "annotations", "import_module", "load_ipython_extension"}


def test_all_is_sorted_and_is_the_public_names():
    """__all__ is sorted and equals the public names that are no modules."""
    public = [
        name
        for name in dir(taskwidgets)
        if not name.startswith("_")
        and not inspect.ismodule(getattr(taskwidgets, name))
        and name not in SERVING
    ]
    assert sorted(taskwidgets.__all__) == list(taskwidgets.__all__)
    assert sorted(public) == list(taskwidgets.__all__)


def test_every_error_has_one_root():
    """Each class in errors is a TaskwidgetsError, has a docstring, and stands in __all__."""
    found = {
        name: value
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, BaseException)
    }
    assert sorted(found) == sorted(errors.__all__) == list(errors.__all__)
    assert all(issubclass(value, errors.TaskwidgetsError) for value in found.values())
    assert all(value.__doc__ for value in found.values())


def test_the_tree_in_the_docstring_is_the_tree():
    """The tree that errors' docstring draws names every class."""
    for name in errors.__all__:
        assert name in (errors.__doc__ or "")


@pytest.mark.parametrize(
    "command",
    [("lint-imports", "--no-cache"), ("ruff", "check", "."),
     ("mypy",)],
    ids=["import-linter", "ruff", "mypy"],
)  # fmt: skip
def test_the_checks_pass(command):
    """import-linter's contracts hold; ruff and mypy have nothing to say.

    Slow: mypy reads the packages that are used, too.
    """
    program = Path(sys.executable).parent / command[0]
    done = subprocess.run(
        [program, *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
