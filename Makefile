# One command for each job; `make` lists them. Everything runs in .venv, which `make install` makes.
PYTHON ?= python3
# More options for pip, for example PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu" (no CUDA libraries)
PIP_ARGS ?=
# Options of nequip-train in `make train`, for example ARGS="trainer.max_epochs=5"
ARGS ?=
# Options of pytest in `make test` and `make test-slow`
PYTEST_ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install train test test-slow lint format types house docs wheel release-check clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | column -t -s '|'

$(STAMP): pyproject.toml setup.py constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed, $(PYTHON) is $$($(PYTHON) --version 2>&1)."; \
	  echo "  -> make install PYTHON=/path/to/python3.11"; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install $(PIP_ARGS) -c constraints.txt -e '.[dev]'
	@touch $@

install: $(STAMP) ## make .venv and install everything into it (once; again when pyproject or constraints change)

train: install ## train, test and export a potential on the bundled data set
	$(BIN)/nequip-train -cn tutorial $(ARGS)

# Tests run side by side, one torch thread each (tests/conftest.py): faster than one process with many threads.
test: install ## the quick tests
	$(BIN)/pytest -n auto --dist worksteal -m "not slow" $(PYTEST_ARGS)

test-slow: install ## the slow tests: end to end, wheel, long runs
	$(BIN)/pytest -n auto --dist worksteal -m slow $(PYTEST_ARGS)

lint: install ## style, formatting and the import layers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports

format: install ## put the code into the one format
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

types: install ## type check
	$(BIN)/mypy

house: install ## sizes, names, docstrings and comments of the package in numbers
	$(BIN)/python benchmarks/house.py

$(VENV)/.installed-docs: $(STAMP)
	$(BIN)/python -m pip install $(PIP_ARGS) -c constraints.txt -e '.[dev,docs]'
	@touch $@

docs: $(VENV)/.installed-docs ## the documentation, in docs/_build/html
	$(BIN)/sphinx-build --fail-on-warning --keep-going docs docs/_build/html

wheel: install ## sdist, and from it the wheel, in dist/
	$(BIN)/python -m build

release-check: install ## build the wheel, install it into a fresh environment, train and test with it
	PYTHON="$(PYTHON)" PIP_ARGS="$(PIP_ARGS)" .ci/release-check

clean: ## remove what was built (not .venv, not outputs/, not build/ of the data set)
	rm -rf dist docs/_build docs/_api build/lib build/bdist.* *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . \( -path ./$(VENV) -o -path ./.git -o -path ./build \) -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
