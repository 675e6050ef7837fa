# Every target first makes .venv when it is missing or when what it is made from has changed.
# PYTHON=... chooses the interpreter; otherwise the newest Python on PATH is taken.

SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/stamp
INPUTS := pyproject.toml constraints.txt
HASH := $(shell cat $(INPUTS) | sha256sum | cut -d' ' -f1)

.PHONY: demo test wheel lint bench venv clean
.DEFAULT_GOAL := demo

demo: venv
	$(BIN)/ric demo demo

# as many processes as there are cores, four at most; each runs its tests on one thread
test: venv
	$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist worksteal

# build the wheel, install it with pip in an environment of its own, and run the demo there
wheel: venv
	$(BIN)/python -m pytest --slow tests/test_packaging.py

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell

bench: venv
	@for script in benchmarks/[a-z]*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

venv:
	@if [ "$$(cat $(STAMP) 2>/dev/null)" != "$(HASH)" ]; then PYTHON='$(PYTHON)' VENV=$(VENV) bash make_venv.sh && echo $(HASH) > $(STAMP); fi

clean:
	rm -rf $(VENV) demo
