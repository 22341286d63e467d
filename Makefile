# Every target does its own set-up: Python 3.11 or newer and make are all a machine needs.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help env test test-stack test-links test-faults check format demo create-driver constraints clean

PYTHON ?= $(firstword $(foreach name,python3 python3.13 python3.12 python3.11,\
	$(shell $(name) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(name))))
JOBS ?= $(shell expr $$(nproc 2>/dev/null || echo 2) + 1)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
NODE := $(VENV)/node
NODE_CLIENT := @nats-io/transport-node@3.4.0
DRIVERS := $(patsubst %/pyproject.toml,%,$(wildcard drivers/jsnats-driver-*/pyproject.toml))
SOURCES := $(wildcard schemas/src sdk/src broker/src agent/src)

empty :=
space := $(empty) $(empty)
export MYPYPATH := $(subst $(space),:,$(DRIVERS))
export NODE_PATH := $(CURDIR)/$(NODE)/node_modules
export PATH := $(CURDIR)/$(BIN):$(PATH)
export UV_PYTHON := $(CURDIR)/$(BIN)/python
export UV_LINK_MODE := copy

help: ## show the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

env: $(STAMP) ## install the core and every driver, editable, into .venv

# The hashes are checked first, without the packages of this tree, which have none; only a driver's own new
# dependency is still missing after that. The build backend comes from the same file, hence no isolation.
$(STAMP): pyproject.toml constraints.txt $(wildcard drivers/jsnats-driver-*/pyproject.toml) | $(BIN)/uv
	@echo "installing jsnats and its drivers into $(VENV)" >&2
	@uv pip install --quiet --require-hashes -r constraints.txt
	@uv pip install --quiet --no-build-isolation -c constraints.txt -e . $(addprefix -e ./,$(DRIVERS))
	@touch $@

$(BIN)/uv:
	@test -n "$(PYTHON)" || { echo "jsnats needs Python 3.11 or newer: install it, or say make PYTHON=/path/to/python3" >&2; exit 1; }
	@echo "making $(VENV) with $(PYTHON); the first time takes half a minute" >&2
	@$(PYTHON) -m venv $(VENV) >/dev/null || { echo "$(PYTHON) cannot make a venv: on Debian, apt-get install python3-venv" >&2; exit 1; }
	@sed -n '/^uv==/,/[^\\]$$/p' constraints.txt > $(VENV)/uv.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(VENV)/uv.txt

# The client of other languages, for the tests that call a driver from Node; without npm they are skipped.
$(NODE)/node_modules: Makefile
	@if command -v npm >/dev/null; then \
		npm install --prefix $(NODE) --no-package-lock --no-audit --no-fund --silent $(NODE_CLIENT) && touch $@; fi

# Most tests wait for processes, not for a processor. A file is one worker's.
test: $(STAMP) $(NODE)/node_modules ## run every test; make test ARGS="-k power" runs some
	@pytest -q -n $(JOBS) --dist loadfile $(ARGS)

test-links: $(STAMP) ## cut links half open, in a network namespace; needs root, takes half a minute
	@JSNATS_LINKS=1 pytest -q broker/tests/test_half_open.py

test-faults: $(STAMP) ## a cluster whose servers are killed and restarted under load; takes a minute
	@JSNATS_FAULTS=1 pytest -q sdk/tests/e2e/test_cluster_faults.py

test-stack: $(STAMP) ## the lab in containers, by a Docker engine that is there or can be started
	@python sdk/tests/stack/engine.py pytest -q sdk/tests/stack $(ARGS)

check: $(STAMP) ## format, lint, types and layers
	@ruff format --check --quiet . || { echo "make format mends the format" >&2; exit 1; }
	@ruff check --quiet .
	@mypy --no-error-summary $(SOURCES) $(foreach dir,$(DRIVERS),$(wildcard $(dir)/jsnats_driver_*))
	@lint-imports --no-cache > $(VENV)/layers.txt || { cat $(VENV)/layers.txt; exit 1; }

format: $(STAMP) ## format the code and mend what the linter can
	@ruff check --quiet --fix . ; ruff format --quiet .

demo: $(STAMP) ## a whole lab on this machine, from power on to teardown
	@sdk/examples/demo/demo.sh

create-driver: $(STAMP) ## a new driver: make create-driver NAME=my-device CLASS=MyDevice
	@test -n "$(NAME)" -a -n "$(CLASS)" || { echo "say make create-driver NAME=my-device CLASS=MyDevice" >&2; exit 2; }
	@jsnats driver create "$(NAME)" --class "$(CLASS)" --dir drivers
	@uv pip install --quiet --no-build-isolation -c constraints.txt -e "./drivers/jsnats-driver-$(NAME)"
	@echo "and installed here; make test ARGS=drivers/jsnats-driver-$(NAME) runs its tests"

# The lock is a step on the way: it holds addresses, so only its versions and hashes are kept.
constraints: $(BIN)/uv ## renew constraints.txt: exact versions with hashes
	@rm -f uv.lock
	@uv lock --quiet
	@uv export --quiet --frozen --all-packages --all-extras --all-groups --no-emit-workspace \
		--no-header --no-annotate --format requirements-txt --output-file constraints.txt
	@rm -f uv.lock

clean: ## remove .venv and everything built
	@rm -rf $(VENV) uv.lock dist .*_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
