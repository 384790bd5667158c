# Everything that is done with this project, one target each. `make` alone lists them.
# Only Python 3.11 or newer is assumed; PYTHON=/path/to/python chooses another one.

VENV ?= .venv
BIN := $(VENV)/bin
CANDIDATES := python3 python3.12 python3.13 python3.11 python3.14 python
FITS := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for each in $(CANDIDATES); do \
	if "$$each" -c '$(FITS)' >/dev/null 2>&1; then command -v "$$each"; break; fi; done)
ARGS ?=

# pip-compile of the oldest Python that is supported; see requirements/marked.in.
LOCK_PYTHON ?= /usr/bin/python3.11
COMPILE = $(VENV)-lock/bin/pip-compile --quiet --upgrade --generate-hashes --allow-unsafe --strip-extras \
	--no-header --no-emit-index-url --no-emit-find-links --no-emit-trusted-host

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help
help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: venv
venv: $(VENV)/.ready ## build .venv from the hash-locked requirements

$(VENV)/.ready: pyproject.toml requirements/dev.txt
	@test -n "$(PYTHON)" && "$(PYTHON)" -c '$(FITS)' 2>/dev/null || { \
	echo "Python 3.11 or newer with venv is needed (Debian: apt-get install python3 python3-venv); \
	name another one with make PYTHON=/path/to/python." >&2; exit 1; }
	@test -x $(BIN)/python && $(BIN)/python -c '$(FITS)' 2>/dev/null \
	|| "$(PYTHON)" -m venv --clear $(VENV)
	@echo "building $(VENV)" >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable . >&2
	@$(BIN)/python -m campaign_worker.embedded.fetch_redis >&2
	@touch $@

.PHONY: demo
demo: venv ## run a campaign of 500, redeploy the worker in its middle, read the mails (ARGS='--recipients 200')
	@$(BIN)/campaign-worker demo $(ARGS)

.PHONY: test
test: venv ## run all tests on real Redis, Postgres and SMTP servers (ARGS='-k settings')
	$(BIN)/python -m pytest $(ARGS)

.PHONY: conformance
conformance: venv ## compare with real Node workers, write the tables in docs/conformance.md (ARGS=--last-failed goes on)
	$(BIN)/python -m pytest tests/conformance --write-conformance $(ARGS)

.PHONY: lint
lint: venv ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

.PHONY: types
types: venv ## mypy --strict
	$(BIN)/mypy

.PHONY: imports
imports: venv ## the arrows of docs/decisions/0002: who may import whom
	$(BIN)/lint-imports

.PHONY: check
check: lint types imports test ## all of the above

.PHONY: bench-queue
bench-queue: venv ## no-op jobs: our worker, Node's, the package's (ARGS='--jobs 3000 --runs 1', --idle, --latency, --memory)
	@$(BIN)/python -m bench.queue $(ARGS)

.PHONY: bench-track
bench-track: venv ## opens and clicks: our tracker, and Node ones that insert per request (ARGS='--runs 1 --trackers ours')
	@$(BIN)/python -m bench.track $(ARGS)

.PHONY: chaos-deploy
chaos-deploy: venv ## replace a replica every 5 s while 20,000 mails go out (ARGS='--mails 8000 --interval 2 --seed 7')
	@$(BIN)/python -m tests.chaos.deploy $(ARGS)

.PHONY: chaos-kill
chaos-kill: venv ## SIGKILL workers while mails go out, and compare the books (ARGS='--kills 1000 --seed 7')
	@$(BIN)/python -m tests.chaos.kill $(ARGS)

.PHONY: chaos-track
chaos-track: venv ## 100,000 opens and clicks, Postgres stopped for 10 s, trackers killed (ARGS='--requests 10000 --kills 3 --seed 7')
	@$(BIN)/python -m tests.chaos.track $(ARGS)

.PHONY: examples
examples: venv ## serve the apps of examples/, 2,000 mails each: alone, beside their workers, there and back (ARGS='--mails 200')
	@$(BIN)/python -m tests.examples $(ARGS)

.PHONY: bench-stop
bench-stop: venv ## how fast an idle worker is gone, and a job handed back is picked up (ARGS='--runs 50')
	@$(BIN)/python -m bench.stop $(ARGS)

.PHONY: docs
docs: venv ## write docs/configuration.md and the reference of contracts from their classes
	$(BIN)/python -m campaign_worker.settings --write-docs
	$(BIN)/python -m campaign_worker.contract

.PHONY: dist
dist: venv ## build wheel and source archive into dist/
	rm -rf dist
	$(BIN)/python -m build

.PHONY: requirements
requirements: ## lock all dependencies anew, with hashes (needs Python 3.11.0 to 3.11.2)
	@"$(LOCK_PYTHON)" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:3] < (3, 11, 3))' || { \
	echo "LOCK_PYTHON=$(LOCK_PYTHON) must be Python 3.11.0 to 3.11.2 (see requirements/marked.in)." >&2; \
	exit 1; }
	"$(LOCK_PYTHON)" -m venv $(VENV)-lock
	$(VENV)-lock/bin/python -m pip install --quiet pip-tools==7.6.2
	$(COMPILE) --extra embedded --extra dev --output-file requirements/dev.txt \
	pyproject.toml requirements/marked.in requirements/marked-dev.in
	$(COMPILE) --constraint requirements/dev.txt --output-file requirements/run.txt \
	pyproject.toml requirements/marked.in

.PHONY: clean
clean: ## remove what was built
	rm -rf $(VENV) $(VENV)-lock dist build .pytest_cache .mypy_cache .ruff_cache
