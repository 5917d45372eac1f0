# Everything runs in an environment of its own: .venv, made by the first target that needs it.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

# The broker of demo, chaos and storm; empty means: the best that is to be had. The tests' servers: docs/testing.md.
KAFKA  ?=
ARGS   ?=

# Each set variable becomes an option of tests.chaos or tests.storm: SEED=7 gives --seed 7.
CHAOS_OPTIONS := SEED KILLS PROTOCOL MEMBERSHIP MESSAGES REPEATS PARTITIONS PROCESSES HANDLER_MS LATELY_MS TAKEOVER_P95_S STORE KAFKA
STORM_OPTIONS := SEED SEEDS SECONDS PROTOCOL MEMBERSHIP ORDER MEMBERS PARTITIONS RATE REPEATS SLOW_MS MUST VARIANT STORE KAFKA

lower = $(shell echo '$(1)' | tr 'A-Z_' 'a-z-')
options = $(foreach name,$(1),$(if $($(name)),--$(call lower,$(name)) '$($(name))'))

# Half of their time the tests without a server wait; so there are more processes than cores.
SIDE_BY_SIDE := -n 4 --dist worksteal

# What shows the newest libraries' own texts is no matter of the oldest.
OLDEST := --deselect tests/unit/test_cli.py::test_the_documented_help_is_the_real_one

# Unit tests that know the core; they alone must come to every branch of it.
CORE_TESTS = $(shell grep -lE 'kafka_once\.core|tests\.unit\.bench' tests/unit/test_*.py)

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-quick test-oldest check cover mutate format docs chaos groups storm prove prove-long bench bench-quick bench-full kafka-jars clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(STAMP) ## Make the environment (.venv) with everything for demo, tests and checks

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "kafka-once needs Python 3.11 or newer: make PYTHON=python3.12 …")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $(STAMP)

demo: $(STAMP) ## Watch it work: payments, repeats, kill -9 (KAFKA=apache|mock|docker chooses the broker)
	KAFKA='$(KAFKA)' $(BIN)/python -m examples.demo $(ARGS)

test: $(STAMP) ## Run all tests (servers: from the environment, Docker, local, embedded)
	$(BIN)/python -m pytest $(ARGS)

test-quick: $(STAMP) ## Run the tests that need no server (under a minute)
	$(BIN)/python -m pytest -q $(SIDE_BY_SIDE) -m 'not integration and not docker and not chaos and not groups' $(ARGS)

test-oldest: ## Run the tests that need no server with the oldest libraries that are allowed (.venv-oldest)
	test -x .venv-oldest/bin/python || $(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet --disable-pip-version-check --constraint tests/oldest.txt --editable '.[dev]'
	.venv-oldest/bin/python -m pytest -q $(SIDE_BY_SIDE) -m 'not integration and not docker and not chaos and not groups' $(OLDEST) $(ARGS)

check: $(STAMP) ## Lint, format, types, layers, quick tests, every branch of the core (about two minutes)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) --no-print-directory test-quick
	$(MAKE) --no-print-directory cover

cover: $(STAMP) ## Whether the unit tests of the core come to every branch of it (20 seconds)
	$(BIN)/python -m pytest -q --cov=kafka_once.core --cov-branch --cov-report=term-missing:skip-covered --cov-fail-under=100 $(CORE_TESTS)

mutate: $(STAMP) ## Small changes to the core, each of which a test must notice (goes on where it was stopped)
	$(BIN)/python -m tests.mutation $(ARGS)

format: $(STAMP) ## Put the sources in order (ruff)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(STAMP) ## Build the documentation site into build/site, without warnings (open build/site/index.html)
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going --fresh-env -c docs/site . build/site

chaos: $(STAMP) ## kill -9 on real Kafka and Redis (SEED=7 KILLS=20 PROTOCOL=consumer MEMBERSHIP=dynamic MESSAGES=10000 …)
	$(BIN)/python -m tests.chaos $(call options,$(CHAOS_OPTIONS)) $(ARGS)

groups: $(STAMP) ## Run the scenarios of consumer groups on real Kafka, under all three protocols
	KAFKA_ONCE_TEST_KAFKA=apache $(BIN)/python -m pytest -m groups $(ARGS)

storm: $(STAMP) ## Members start, stop, die, freeze, wake (SEEDS=1-10 SECONDS=60 PROTOCOL=range|cooperative-sticky|consumer …)
	$(BIN)/python -m tests.storm $(call options,$(STORM_OPTIONS)) $(ARGS)

prove: $(STAMP) ## Small worlds to their end, 5,000 seeds, every crash point, wrong variants (no server; ten minutes at most)
	$(BIN)/python -m tests.prove $(ARGS)

prove-long: $(STAMP) ## Larger worlds instead: pairs of faults, three messages, 100,000 seeds (hours)
	$(BIN)/python -m tests.prove --long $(ARGS)

bench-quick: $(STAMP) ## What de-duplication costs, one round (under 90 s; needs Java and redis-server)
	$(BIN)/python -m bench --size quick $(ARGS)

bench: $(STAMP) ## The same in five rounds, beside peers from PyPI, and as it grows (about 15 minutes)
	$(BIN)/python -m bench --size usual $(ARGS)

bench-full: $(STAMP) ## The same up to ten million keys (about an hour)
	$(BIN)/python -m bench --size full $(ARGS)

kafka-jars: $(STAMP) ## Fetch Apache Kafka's jars once (needs Maven)
	$(BIN)/python -m kafka_once.testing.services.kafka_jars

clean: ## Remove the environment and what tools left behind
	rm -rf $(VENV) .venv-oldest build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .coverage htmlcov
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
