# Thin on purpose: everything is `.venv/bin/workbook`; make only brings the environment. Works with GNU make 3.81.
# Prerequisites: Python 3.11, 3.12 or 3.13 with venv, and make.

PYTHON ?= python3
NAME ?=
UV_VERSION := 0.13.9
UV := .uv/bin/uv
WORKBOOK := .venv/bin/workbook
# Three: most tests wait for processes, so two workers leave two cores half idle.
WORKERS ?= 3
SEED ?=
PYTEST = .venv/bin/python -m pytest -n $(WORKERS) --durations=20 --durations-min=1 $(addprefix --randomly-seed=,$(SEED))

# The interpreter that is there is used; nothing outside the project decides which environment is meant.
UV_SYNC := $(UV) sync --locked --inexact --python "$(PYTHON)" --no-python-downloads
unexport VIRTUAL_ENV UV_PYTHON UV_PROJECT_ENVIRONMENT
# MLflow and Prefect go quiet under CI: tests run with it unset and the switches on, as a reader's system does.
unexport CI
# With it every start compiles every library anew: twice the CPU time.
unexport PYTHONDONTWRITEBYTECODE
export DO_NOT_TRACK := true
export MLFLOW_DISABLE_TELEMETRY := true
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT := false
export BENTOML_DO_NOT_TRACK := true
export FEAST_USAGE := false
export ORT_DISABLE_TELEMETRY := true

.DEFAULT_GOAL := help
.PHONY: help up down restart status logs doctor clean test coverage test-unit test-integration test-e2e lint format load \
        lock design-check env dev-env check-python test-interpreter shape

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: env ## start the whole system, or heal it, and show what runs
	@$(WORKBOOK) up

down: env ## stop everything; the data stays
	@$(WORKBOOK) down

restart: env ## restart one service: make restart NAME=serving
	@$(WORKBOOK) restart $(NAME)

status: env ## services, simulated clock, ledger, freshness
	@$(WORKBOOK) status

logs: env ## the end of one log: make logs NAME=serving
	@$(WORKBOOK) logs $(NAME)

doctor: env ## is this machine ready, and which command mends it
	@$(WORKBOOK) doctor

clean: env ## remove the data and say how much it was
	@$(WORKBOOK) clean

load: env ## load-test both endpoints of the running system
	@$(WORKBOOK) load

design-check: env ## check the design exercises and recompute their numbers
	@$(WORKBOOK) design check

test: dev-env ## every test: unit, integration (real broker), end to end; SEED=n repeats an order
	@$(PYTEST)

coverage: dev-env ## every test, with the lines that none of them reaches
	@$(PYTEST) --cov --cov-report=term:skip-covered

test-unit: WORKERS = 2# nothing to wait for
test-unit: dev-env ## the unit tests alone, which need no broker
	@$(PYTEST) tests/unit

test-integration: dev-env ## tests against a real broker and real stores
	@$(PYTEST) tests/integration

test-e2e: dev-env ## the whole loop, from up to down
	@$(PYTEST) -n 0 tests/e2e

test-interpreter: check-python ## unit tests, up, a score and down in a clone of its own: PYTHON=python3.13
	@.ci/fresh-clone "$(PYTHON)"

# What tests share is typed; a test itself is given its fixtures by name.
TEST_HELPERS = $(shell git ls-files "tests/*.py" | grep -v "/test_[^/]*$$")
lint: dev-env ## ruff, mypy, import contracts, committed schemas and OpenAPI document
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@MYPYPATH=tests:tests/integration .venv/bin/mypy --explicit-package-bases $(TEST_HELPERS)
	@.venv/bin/lint-imports
	@$(WORKBOOK) schemas --check
	@$(WORKBOOK) openapi --check

shape: dev-env ## how large the code is, what is defined twice, where a use case is named
	@.venv/bin/python tests/shape.py

format: dev-env ## format the code
	@.venv/bin/ruff format .
	@.venv/bin/ruff check --fix-only --quiet .

lock: .uv/uv-$(UV_VERSION) ## resolve uv.lock anew from pyproject.toml
	@$(UV) lock --python "$(PYTHON)" --no-python-downloads

env: .venv/.runtime ## create or update the environment only

dev-env: .venv/.dev

check-python:
	@"$(PYTHON)" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null || { \
	  echo "$(PYTHON) is $$("$(PYTHON)" -V 2>/dev/null || echo missing), Python 3.11, 3.12 or 3.13 is needed;" \
	    "name one: \`make up PYTHON=python3.12\`" >&2; exit 1; }

# Stamps: a second `make up` installs nothing unless the lock or the project's description has changed.
.uv/uv-$(UV_VERSION): | check-python
	@echo "bringing uv $(UV_VERSION) into the project"
	@"$(PYTHON)" -m venv --clear .uv >/dev/null || { \
	  echo "$(PYTHON) cannot make a virtual environment; on Debian or Ubuntu: \`sudo apt install python3-venv\`" >&2; exit 1; }
	@.uv/bin/python -m pip install --quiet --disable-pip-version-check "uv==$(UV_VERSION)"
	@touch $@

.venv/.runtime: uv.lock pyproject.toml .uv/uv-$(UV_VERSION) | check-python
	@$(call sync,--no-dev)

.venv/.dev: uv.lock pyproject.toml .uv/uv-$(UV_VERSION) | check-python
	@$(call sync,)

define sync
"$(PYTHON)" -c 'import tomllib; tomllib.load(open("uv.lock", "rb"))' 2>/dev/null || { \
  echo "uv.lock is damaged: \`git checkout uv.lock\` brings it back" >&2; exit 1; }; \
$(UV_SYNC) $(1) || { \
  echo "uv.lock could not be installed (reason above); after a change of pyproject.toml: \`make lock\`," \
    "else: \`git checkout uv.lock pyproject.toml\`" >&2; \
  exit 1; }; \
touch $@
endef
