"""The package as a whole: its public names, and its errors."""

import inspect
import sys
from pathlib import Path

import taskwidgets
from taskwidgets import errors

ROOT = Path(__file__).parents[1]
MUTATION = ROOT / "tests" / "mutation"
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


def test_the_known_faults_fit_the_code():
    """Each mutant's text occurs once in its file: a change of the code changes the list, too."""
    sys.path.insert(0, str(MUTATION))
    try:
        from mutants import load
    finally:
        sys.path.remove(str(MUTATION))
    assert len(load(ROOT, MUTATION / "mutants.toml")) > 150
