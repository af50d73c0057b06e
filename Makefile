PYTHON ?= python3
BIN := .venv/bin
SUDO := $(shell which sudo)
LABEL_STUDIO := 1.23.2

.PHONY: setup label-studio browser fmt lint test test-fast docs demo bench crash

setup: .venv/.ready

# Of aisfx the weights alone are of use to the tests, and its pins would part it from all else.
.venv/.ready: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --config-settings editable_mode=compat \
	    --editable '.[dev,review,prompt]'
	$(BIN)/pip install --quiet --no-deps aisfx==0.1.2
	touch $@

# A server for the tests, in an environment of its own; LABELKIT_LABEL_STUDIO names another.
label-studio: $(if $(LABELKIT_LABEL_STUDIO),,.label-studio/.ready-$(LABEL_STUDIO))

.label-studio/.ready-$(LABEL_STUDIO): | .venv/.ready
	$(PYTHON) -m venv .label-studio/venv
	.label-studio/venv/bin/pip install --quiet label-studio==$(LABEL_STUDIO)
	$(BIN)/python -m tests.support.label_studio_server
	touch $@

# A Chromium for the tests; LABELKIT_CHROMIUM names another.
browser: setup
	which $(LABELKIT_CHROMIUM) chromium chromium-browser google-chrome | grep . || \
	    ($(SUDO) apt-get update && $(SUDO) apt-get install --yes chromium)

demo: setup
	$(BIN)/labelkit demo demo

# What must not be skipped for want of a server (.ci/run names more).
test: export LABELKIT_REQUIRE ?= label-studio
# Two workers; then what kills processes, fills disks or takes times, with nothing beside it.
test: setup label-studio
	$(BIN)/pytest -n 2 -m 'not alone' && first=0 || first=$$?; \
	    $(BIN)/pytest -m alone && exit $$first

test-fast: setup
	$(BIN)/pytest -n 2 -m 'not slow'

fmt: setup
	$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format .

lint: setup
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports
	$(BIN)/python -m tools.sql_home && $(BIN)/python -m tools.trace_round
	PYTHONPATH=docs $(BIN)/cog --check docs/*.md

docs: setup
	PYTHONPATH=docs $(BIN)/cog -r docs/*.md

bench: setup
	$(BIN)/python benchmarks/esc10_verify.py

# Hundreds of kills, torn logs, eight writers for a minute; SEED repeats a run.
crash: SEED ?= 0
crash: setup label-studio
	$(BIN)/python -m tests.crash $(SEED)
