# Two commands are enough: `make run` and `make test`. Both set everything up first.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
ARGS   ?=
# Tests wait for processes a quarter of the time, so three workers keep two cores busy. Override with WORKERS=n.
WORKERS ?= 3

.DEFAULT_GOAL := help
.PHONY: help install run test test-setup check format lock faults soak bench mutants coverage clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

install: $(VENV)/.installed ## set up .venv from the pinned lock (run and test do it by themselves)

run: install ## start everything on this machine: servers, API, dispatcher, workers, beat, Flower
	@exec $(BIN)/rota up $(ARGS)

test: test-setup ## run every test, on real Postgres, Redis and Celery processes
	@$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

test-setup: $(VENV)/.installed-dev $(VENV)/.installed-javascript ## set up all that tests need (test does it by itself)

check: $(VENV)/.installed-dev ## ruff, mypy strict, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(VENV)/.installed-dev ## let ruff lay the code out
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

lock: $(VENV)/.installed-dev ## pin the dependencies again, with hashes and without addresses
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-emit-package rota-client \
		--no-header --extra embedded pyproject.toml deploy/build-requirements.in -o requirements.lock
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-emit-package rota-client \
		--no-header --extra embedded --extra dev -c requirements.lock pyproject.toml deploy/build-requirements.in \
		-o requirements-dev.lock

faults: $(VENV)/.installed-dev ## make trouble for SECONDS (600) with SEED, and check that all held
	@$(BIN)/python -m tests.acceptance.faults --seconds $(or $(SECONDS),600) $(if $(SEED),--seed $(SEED))

soak: $(VENV)/.installed-dev ## faults with ever new seeds for MINUTES (60), then every property with 50 times the examples
	@$(BIN)/python -m tests.soak --minutes $(or $(MINUTES),60) $(if $(SEED),--seed $(SEED))

bench: $(VENV)/.installed-dev ## measure all; ONLY=overhead (or another file of benchmarks/) one thing
	@$(BIN)/python -m benchmarks $(ONLY) $(ARGS)

mutants: $(VENV)/.installed-dev ## change the pure core in small ways, and list the changes that no test notices (20 minutes)
	@# Not among the test tools: it brings setproctitle, with which Celery overwrites the environment that a process shows.
	@test -d build/mutmut || $(BIN)/pip install -q --disable-pip-version-check --target build/mutmut mutmut==3.8.1
	@PYTHONPATH=build/mutmut $(BIN)/python -m mutmut run --max-children $(WORKERS)
	@PYTHONPATH=build/mutmut $(BIN)/python -m mutmut results

coverage: test-setup ## run every test, and list the lines and branches that none reaches, in any process
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest -n $(WORKERS) --dist worksteal $(ARGS); $(BIN)/coverage combine -q && $(BIN)/coverage report --skip-covered

clean: ## remove .venv and caches; data under .rota stays
	rm -rf $(VENV) tests/javascript/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis build mutants .coverage* \
		*.egg-info sdk/build sdk/*.egg-info

$(VENV)/bin/pip:
	@found=$$($(PYTHON) -c 'import platform; print(platform.python_version())' 2>&1) || \
		{ echo "$(PYTHON) does not start: $$found"; \
		  echo "Rota needs Python 3.11 or newer. Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }; \
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Rota needs Python 3.11 or newer; $(PYTHON) is $$found. Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
		{ echo "Could not make a virtual environment. On Debian and Ubuntu: apt-get install python3-venv"; rm -rf $(VENV); exit 1; }

$(VENV)/.installed: requirements.lock pyproject.toml sdk/pyproject.toml | $(VENV)/bin/pip
	@echo "Installing Rota into $(VENV) (a minute, once) ..." >&2
	@$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e . -e sdk
	@touch $@

$(VENV)/.installed-dev: requirements-dev.lock $(VENV)/.installed
	@echo "Installing the test tools ..." >&2
	@$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

# Node.js comes with the test tools, the clients from the lock file. It trusts the certificates that pip trusts, too: those
# of the system, where a mirror of the registry may have its own.
SYSTEM_CA := $(firstword $(wildcard /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem))
$(VENV)/.installed-javascript: tests/javascript/package.json tests/javascript/package-lock.json $(VENV)/.installed-dev
	@echo "Installing the JavaScript clients ..." >&2
	@cd tests/javascript && PATH="$(abspath $(BIN)):$$PATH" NODE_EXTRA_CA_CERTS="$${NODE_EXTRA_CA_CERTS:-$(SYSTEM_CA)}" \
		npm ci --loglevel=error --no-progress >/dev/null
	@touch $@
