# What people do daily. `make demo` runs everything on this machine; `make test` tests everything.
SHELL := /bin/bash
.DEFAULT_GOAL := help

# The newest Python that really runs (a version manager's shim may be there and answer nothing).
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
override STATE := $(CURDIR)/.state
export PATH := $(BIN):$(PATH)
export ANSIBLE_COLLECTIONS_PATH := $(CURDIR)/$(VENV)/collections
# Modules talk to the engine's socket; a client context of the user's must not lead them elsewhere.
export DOCKER_HOST ?= unix:///var/run/docker.sock
export ANSIBLE_FORCE_COLOR ?= $(if $(CI),0,1)
demo: export FLOWAUDIT_STATE := $(STATE)/demo

.PHONY: help
help: ## What can be done here
	@grep -hE '^[a-z][a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /  make \1\t/' | expand -t 24

# ── The environment ──────────────────────────────────────────────────────────────────────────────────────────────────
.PHONY: venv
venv: $(VENV)/.complete ## The virtual environment with everything pinned

$(VENV)/.complete: requirements.lock
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer found: install python3, or name one with make PYTHON=/path/to/python"; exit 1; }
	@echo "── Python environment ($(PYTHON), about a minute the first time)"
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "── installing python3-venv"; sudo=$$(test "$$(id -u)" = 0 || echo sudo); $$sudo apt-get update -qq && $$sudo apt-get install -y -qq python3-venv; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --disable-pip-version-check --progress-bar off --require-hashes --no-deps -r requirements.lock
	@# The checkout is the collection: linked where this environment's Ansible looks.
	site=$$($(VENV)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') \
	  && mkdir -p $$site/ansible_collections/flowaudit && ln -sfn $(CURDIR) $$site/ansible_collections/flowaudit/ops \
	  && ln -sfn $$site $(VENV)/collections
	@touch $@

# ── The demo ─────────────────────────────────────────────────────────────────────────────────────────────────────────
.PHONY: demo
demo: venv ## From nothing to a running FlowAudit NUC on this machine
	tests/demo/run

.PHONY: clean
clean: venv ## Remove the demo's and the tests' hosts; Docker and its images stay
	@for set in demo molecule swarm; do \
	  inventory=inventories/demo; [ $$set != swarm ] || inventory=tests/swarm/inventory; \
	  [ ! -d "$(STATE)/$$set" ] || FLOWAUDIT_STATE="$(STATE)/$$set" ansible-playbook -i $$inventory molecule/shared/destroy.yml || exit 1; \
	done
	rm -rf "$(STATE)"

# ── Tests ────────────────────────────────────────────────────────────────────────────────────────────────────────────
# Tests that share nothing run side by side; one that hangs ends with its stack, not with the job's time.
PARALLEL := --numprocesses auto --maxprocesses 4

PACKAGES := git jq openssh-client openssh-server openssl postgresql rsyslog rsyslog-gnutls rsyslog-openssl

.PHONY: test
# The longest first: with two jobs (.ci/run) the others run beside it.
test: molecule lint sanity unit trail gate custody ## Everything CI runs

.PHONY: packages
packages: ## What the tests need of the system; the tests install it, too
	tests/packages $(PACKAGES)

.PHONY: lint
lint: venv ## ansible-lint, yamllint, ruff, mypy, shellcheck, hadolint
	ruff check . && ruff format --check .
	mypy
	yamllint --strict .
	shellcheck .ci/run tests/demo/run tests/sanity/run tests/packages tests/swarm/run tests/benchmark/demo tests/benchmark/lynis roles/host_access/files/flowaudit-unproved roles/host_access/files/flowaudit-logins roles/backup/files/receive-wal roles/platform_images/files/auth/auth-*
	hadolint $$(git ls-files -co --exclude-standard '*Dockerfile')
	ansible-lint --offline --profile production

.PHONY: sanity
sanity: venv ## ansible-test sanity
	tests/sanity/run

.PHONY: unit
unit: venv ## Unit tests of the plugins and of the reference app
	pytest tests/unit $(PARALLEL) --timeout 120 --cov --cov-report=term-missing:skip-covered --cov-fail-under=90
	cd tests/app && pytest tests

.PHONY: trail
trail: venv ## The trail: real runs, kills, canaries, PostgreSQL, rsyslog, a time-stamping authority; needs no Docker
	tests/packages $(PACKAGES)
	pytest tests/trail $(PARALLEL) --timeout 600

.PHONY: gate
gate: venv ## The gate: what it refuses and what it lets run, on real ssh servers; needs no Docker
	tests/packages $(PACKAGES)
	pytest tests/gate $(PARALLEL) --timeout 600

.PHONY: custody
custody: venv ## Custody: what an operator with a shell on the control node does not get; as root, needs no Docker
	tests/packages $(PACKAGES)
	pytest tests/custody $(PARALLEL) --timeout 600

.PHONY: molecule
molecule: venv ## The main job on fresh hosts, looked at and broken
	molecule test --all || { python tests/failures.py $(STATE)/verify.xml; exit 1; }

.PHONY: faults
faults: faults-trail faults-swarm venv ## Long campaigns against the demo's hosts: what takes longer than CI has time for
	FLOWAUDIT_STATE=$(STATE)/demo pytest tests/integration -m campaign

.PHONY: faults-swarm
faults-swarm: export FLOWAUDIT_STATE := $(STATE)/swarm
faults-swarm: venv ## The inventory lifetimecircle on three hosts that are a Swarm; makes them and removes them
	tests/swarm/run

.PHONY: faults-trail
faults-trail: venv ## 10,000 mutations of a log, 200 killed runs, a minute without PostgreSQL
	tests/packages $(PACKAGES)
	pytest tests/trail -m campaign

# ── Figures ──────────────────────────────────────────────────────────────────────────────────────────────────────────
.PHONY: bench-edge
bench-edge: venv ## What the edge costs, beside the application asked directly; needs the demo (docs/figures.md)
	FLOWAUDIT_STATE=$(STATE)/demo pytest tests/integration/edge -m benchmark

.PHONY: bench-release
bench-release: venv ## What a change of release costs users, beside Compose's own ways; needs the demo (docs/figures.md)
	FLOWAUDIT_STATE=$(STATE)/demo pytest tests/integration/test_release_cost.py -m benchmark

.PHONY: bench-restore
bench-restore: venv ## What bringing a database of 1 GB back costs, beside the guide's way; needs the demo (docs/figures.md)
	FLOWAUDIT_STATE=$(STATE)/demo pytest tests/integration/test_restore_cost.py -m benchmark

.PHONY: bench-trail
bench-trail: venv ## What recording costs a run, beside no recording and beside ARA; half an hour (docs/figures.md)
	tests/packages $(PACKAGES)
	python tests/benchmark/trail_core.py
	python tests/benchmark/trail_custody.py
	python tests/benchmark/trail_runs.py

.PHONY: bench-gate
bench-gate: venv ## What the gate adds to the start of a run, beside the same inventory in plain YAML (docs/figures.md)
	tests/packages $(PACKAGES)
	python tests/benchmark/gate.py

.PHONY: bench-demo
bench-demo: venv ## How long the demo takes from nothing, again, and an idempotent run (docs/figures.md)
	tests/benchmark/demo

.PHONY: bench-lynis
bench-lynis: venv ## Lynis' hardening index of a fresh host and of the demo's nuc (docs/figures.md)
	tests/benchmark/lynis

# ── Upkeep ───────────────────────────────────────────────────────────────────────────────────────────────────────────
.PHONY: lock
lock: venv ## Renew requirements.lock (every Python from 3.11 on)
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header requirements-dev.in --output-file requirements.lock

.PHONY: build
build: venv ## The collection as a tarball
	ansible-galaxy collection build --force

.PHONY: hooks
hooks: venv ## Run the linters before each commit
	pre-commit install
