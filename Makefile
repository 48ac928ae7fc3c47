# Two commands do all the set-up by themselves: `make lab` and `make test`.
#
#   make lab     JupyterLab on the quickstart notebook, with the embedded Postgres
#   make demo    the same job headless, in the terminal
#   make test    the tests, 8 minutes on two quiet cores
#   make check   import-linter, ruff and mypy
#   make test-all    also the long ones: all faults at all stages, many seeds, an hour and more
#   make coverage    the branch coverage of the store, the runtime and the transfer engine
#   make bench   speeds against other loaders, 10 GB, what a panel costs: benchmarks/results.md,
#                .png and .csv; 40 GB of the disk have to be free
#   make docs    the documentation, into site/; `make pictures` makes its pictures anew
#   make clean   removes the environment and what tools left behind
#
# PYTHON=python3.12 chooses another interpreter, VENV=dir another place for the environment;
# BENCH_OPTIONS="--quick --data text" measures a part (python benchmarks/bench.py --help);
# TEST_OPTIONS="--seed 7 --workers 4 -- -k upload" goes to tests/run.py, which says more.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
LAB_OPTIONS ?=
BENCH_OPTIONS ?=
TEST_OPTIONS ?=
COVERING := tests/store tests/runtime tests/transfers tests/functions
COMPILED := hatch_build.py $(wildcard taskwidgets/*/*.[ch])

.PHONY: lab demo test check test-all coverage bench docs pictures clean system-packages
.DELETE_ON_ERROR:

lab: $(VENV)/.lab
	$(BIN)/jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root) $(LAB_OPTIONS) notebooks/01_quickstart.ipynb

demo: $(VENV)/.lab
	$(BIN)/taskwidgets demo

test: $(VENV)/.test system-packages
	$(BIN)/python tests/run.py --tier test $(TEST_OPTIONS)

check: $(VENV)/.test
	$(BIN)/lint-imports --no-cache
	$(BIN)/ruff check .
	$(BIN)/mypy

test-all: $(VENV)/.test system-packages
	$(BIN)/python tests/run.py --tier all $(TEST_OPTIONS)

# Of the store, the runtime and the transfer engine; with children of the tests left out.
coverage: $(VENV)/.test system-packages
	$(BIN)/python tests/run.py --coverage $(TEST_OPTIONS) -- -m "not slow" $(COVERING)

bench: $(VENV)/.benchmark $(VENV)/.test system-packages
	$(BIN)/python benchmarks/bench.py $(BENCH_OPTIONS)

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

pictures: $(VENV)/.test system-packages
	$(BIN)/python docs/make_pictures.py

# One stamp for each set of extras; a change of pyproject.toml, or of what is compiled, installs
# anew. What the tests need of the system comes first: a compiler may be among it.
$(VENV)/.test: | system-packages
$(VENV)/.lab $(VENV)/.test $(VENV)/.benchmark $(VENV)/.docs: $(VENV)/.%: pyproject.toml $(COMPILED) | $(BIN)/python
	@echo "== installing taskwidgets[$*] and what it needs into $(VENV)/: a minute or two"
	$(BIN)/python -m pip install --progress-bar off --disable-pip-version-check --editable '.[$*]'
	touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; name one with: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV) || \
	  { echo "on Debian and Ubuntu, venv is a package of its own: apt-get install python3-venv" >&2; exit 1; }

# Chromium for the browser tests, PgBouncer for those behind a pooler, a compiler: the package manager
# brings what is absent.
system-packages:
	@PYTHON='$(PYTHON)' sh tests/install_system_packages.sh

clean:
	rm -rf $(VENV) build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
