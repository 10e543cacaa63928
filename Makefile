# One surface for everything. Each target sets up what it needs first; a second time that is free.
.DEFAULT_GOAL := help
PYTHON ?= python3
SETUP := $(PYTHON) deploy/bootstrap.py
VENV := $(or $(FLOODGATE_VENV),.venv)
# Stages of `make test`, cheapest first.
STAGES := check unit integration engine

.PHONY: help up down test test-long check format bench bench-gateway bench-engine spike burst clean

help: ## Show this
	@sed -nE 's/^([a-z-]+):.*## /\1|/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "  make %-14s %s\n", $$1, $$2}'

up: ## Set up, start everything, print how to chat; stop with Ctrl-C or `make down`
	@exec $(SETUP) serve -- floodgate up $(ARGS)

down: ## Stop everything that `make up` started
	@if [ -x $(VENV)/bin/floodgate ]; then exec $(VENV)/bin/floodgate down; \
	else echo "Nothing is set up here, so nothing runs."; fi

test: ## Set up and pass all checks and tests: some 18 minutes on two cores
	@$(SETUP) test -- python -m deploy.test_stages $(STAGES)

test-long: ## The proofs that take longer, and once more all others
	@$(SETUP) test -- python -m deploy.test_stages $(STAGES) long

check: ## Lint, types, import rules
	@$(SETUP) test -- python -m deploy.test_stages check

format: ## Rewrite the code as the checks want it
	@$(SETUP) test -- sh -c 'ruff check --fix . && ruff format .'

bench: ## Measure everything (ARGS=waitlist: one part); writes docs/performance.md
	@exec $(SETUP) bench -- python -m loadtests.bench $(ARGS)

bench-gateway: ## Measure the gateway alone
	@exec $(SETUP) bench -- python -m loadtests.bench gateway $(ARGS)

bench-engine: ## Measure the whole path against bare vLLM
	@exec $(SETUP) bench -- python -m loadtests.bench engine $(ARGS)

spike: ## 20 times the capacity on the engine simulator for 3 minutes: pass or fail
	@exec $(SETUP) bench -- python -m loadtests.spike $(ARGS)

burst: ## Twice the capacity for 10 minutes: pass when nothing is left of it
	@exec $(SETUP) bench -- python -m loadtests.spike --overload 2 --duration-s 600 --slo loadtests/slo/burst.yaml

clean: ## Remove the environment and what tools left; not FLOODGATE_HOME
	rm -rf .venv build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis *.egg-info
