# What a newcomer needs is `make demo` and `make test`; both need Python 3.11 or newer, pip and make, nothing else.
# Everything lives in .venv; the stamp files inside it say which lock was installed, so a second call starts at once.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
CODE := $(wildcard src tests bench examples)
# One more than there are processors: most tests wait for something most of the time.
JOBS ?= $(shell echo $$(( $$(nproc) + 1 )))
# Tests start many interpreters: each would compile the package anew where the environment forbids to keep what was compiled.
export PYTHONDONTWRITEBYTECODE =

# The first interpreter that is new enough; `make PYTHON=/path/to/python` overrides the choice.
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for name in python3 python3.11 python3.12 python3.13 python3.14 python; do \
	if "$$name" -c '$(NEW_ENOUGH)' >/dev/null 2>&1; then echo "$$name"; break; fi; done)

# Debian splits ensurepip off into python3-venv. Without it the venv is made bare and the outer pip installs into it.
INSTALL = if [ -x $(BIN)/pip ]; then pip="$(BIN)/pip"; else pip="$(PYTHON) -m pip --python $(BIN)/python"; fi; \
	$$pip install --quiet --disable-pip-version-check --no-input
HASHED = $(INSTALL) --require-hashes -r

COMPILE = $(BIN)/pip-compile --quiet --generate-hashes --strip-extras --allow-unsafe --no-header --no-emit-index-url --no-emit-options
GROUP = $(BIN)/python -c 'import sys, tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"][sys.argv[1]], sep="\n")'

.PHONY: help demo test check format bench simulate lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' Makefile

demo: $(VENV)/run.stamp ## set up, run the quick tier of every suite, say where the report is
	@code=0; $(BIN)/floodmark run || code=$$?; \
	if [ -e runs/latest/report.html ]; then echo "report: $$PWD/runs/latest/report.html"; fi; exit $$code

test: $(VENV)/dev.stamp ## set up, then every test; ARGS='tests/core -k name' narrows it
ifdef ARGS
	$(BIN)/python -m pytest $(ARGS)
else
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m 'not alone'
	$(BIN)/python -m pytest -m alone || test $$? -eq 5  # 5: no test carries the mark
endif

check: $(VENV)/dev.stamp ## ruff, mypy --strict, import-linter
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy --strict
	$(BIN)/lint-imports --no-cache

format: $(VENV)/dev.stamp ## let ruff format and fix what it can
	$(BIN)/ruff format $(CODE)
	$(BIN)/ruff check --fix $(CODE)

bench: $(VENV)/bench.stamp ## floodmark beside its peers; WRITE=1 writes docs/benchmarks.md, ARGS='receive --rounds 3' narrows it
	$(BIN)/python -m bench $(if $(WRITE),--write) $(ARGS)

simulate: $(VENV)/run.stamp ## the fleet on virtual time, 2,000 seeds of faults; ARGS='--seed 17 --trace' plays one
	$(BIN)/python -m floodmark.systems.fleet.simulation $(if $(ARGS),$(ARGS),--seeds 0..2000)

lock: $(VENV)/dev.stamp ## resolve the dependencies anew; UPGRADE=1 takes the newest of each
	$(COMPILE) $(if $(UPGRADE),--upgrade) --build-deps-for editable -o requirements.lock pyproject.toml
	$(GROUP) dev | $(COMPILE) $(if $(UPGRADE),--upgrade) -c requirements.lock -o requirements-dev.lock -
	$(GROUP) bench | $(COMPILE) $(if $(UPGRADE),--upgrade) -c requirements.lock -c requirements-dev.lock -o requirements-bench.lock -

clean: ## remove the venv, caches and builds; runs/ stays
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis bench/npm/node_modules tests/live/npm/node_modules
	find src tests bench examples -name __pycache__ -type d -prune -exec rm -rf {} +

# --- the venv, in layers: each stamp is newer than the lock it installed ---

$(VENV)/made.stamp:
	@if [ -z "$(PYTHON)" ]; then echo "floodmark needs Python 3.11 or newer; none of python3, python3.11 ... is. Try make PYTHON=/path/to/python" >&2; exit 1; fi
	@echo "making $(VENV) with $$($(PYTHON) --version)"
	@if $(PYTHON) -c 'import ensurepip' 2>/dev/null; then $(PYTHON) -m venv $(VENV); else $(PYTHON) -m venv --without-pip $(VENV); fi
	@touch $@

$(VENV)/run.stamp: requirements.lock pyproject.toml | $(VENV)/made.stamp
	@echo "installing requirements.lock"
	@$(HASHED) requirements.lock
	@$(INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/dev.stamp: requirements-dev.lock $(VENV)/run.stamp
	@echo "installing requirements-dev.lock"
	@$(HASHED) requirements-dev.lock
	@touch $@

$(VENV)/bench.stamp: requirements-bench.lock bench/npm/package-lock.json $(VENV)/dev.stamp
	@echo "installing requirements-bench.lock"
	@$(HASHED) requirements-bench.lock
	@if command -v npm >/dev/null; then cd bench/npm && npm ci --silent --no-audit --no-fund --ignore-scripts; \
	else echo "npm is missing: Artillery will be left out of the table"; fi
	@touch $@
