PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup fmt lint test test-fast docs demo bench

setup: .venv/.ready

.venv/.ready: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: setup
	rm -rf demo
	$(BIN)/labelkit demo demo

test: setup
	$(BIN)/pytest

test-fast: setup
	$(BIN)/pytest -m 'not slow'

fmt: setup
	$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format .

lint: setup
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports
	PYTHONPATH=docs $(BIN)/cog --check docs/*.md

docs: setup
	PYTHONPATH=docs $(BIN)/cog -r docs/*.md

bench: setup
	$(BIN)/python benchmarks/esc10_verify.py
