# The commands of README.md and CONTRIBUTING.md; .ci/run and the workflows call the same targets.
PYTHON ?= python
JOBS ?= 2

# the tests of a file share models and searches, so they run in one process
PYTEST = $(PYTHON) -m pytest -n $(JOBS) --dist loadfile

.PHONY: help install format lint types test test-all test-slow coverage docs build

help:  ## List the targets.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install:  ## Install the package for development, with all extras and the pre-commit hooks.
	$(PYTHON) -m pip install -e ".[dev]"
	pre-commit install

format:  ## Sort imports and format the code.
	ruff check --select I --fix .
	ruff format .

lint:  ## Check style, spelling, and which package imports which (contracts in pyproject.toml).
	ruff check .
	ruff format --check .
	codespell
	lint-imports

types:  ## Check types (mypy --strict).
	mypy autorank trainables

test:  ## Run the tests that take a few minutes, in $(JOBS) processes.
	$(PYTEST)

test-all:  ## Run these tests and those marked long: whole searches, examples, the pages' commands, browsers.
	$(PYTEST) -m "not slow and not gpu"

test-slow:  ## Run the tests marked slow: killed searches, nodes and servers; half an hour.
	$(PYTHON) -m pytest -m slow

coverage:  ## Run the tests of `test` and report which lines they reach.
	$(PYTEST) --cov --cov-report=term-missing:skip-covered

docs:  ## Build the documentation into site/.
	mkdocs build --strict

build:  ## Build the wheel and the source archive into dist/.
	$(PYTHON) -m build
