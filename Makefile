# Every target sets up $(VENV) first, on a machine that has Python 3.11+, pip, git and make; a second call is instant.
# Another interpreter beside the first: make test PYTHON=python3.13 VENV=.venv-3.13

PYTHON ?= python3
VENV ?= .venv
JOBS ?= 2
RUNS ?= 200
DEMO_DIR ?= build/demo
MODULES ?=
SURVIVORS ?=
SIZE ?=
SEED ?= 1

PY := $(VENV)/bin/python
LOCK := requirements/dev.txt
LOWEST := .venv-lowest
RELEASE := .venv-release
DIST ?= dist
EXTRAS := sign,testing,redis,metrics,browse,demo
# Named after what it was made from: a changed lock, version or folder asks for a new set-up, a mere checkout does not.
READY := $(VENV)/.ready-$(shell { cat pyproject.toml $(LOCK) cas/_version.py; echo '$(CURDIR)'; } | cksum | tr ' ' '-')

# An interpreter that has gone (an upgraded or removed Python) leaves a stamp that is not true any more.
$(shell test -x $(PY) || rm -f $(VENV)/.ready-*)

.DEFAULT_GOAL := help
.PHONY: help setup setup-redis setup-chromium setup-promtool demo test test-long test-lowest mutation mutation-report \
  lint docs format bench bench-quick bench-scale lock dist sbom licences check-dist clean

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' Makefile | awk -F'|' '{ printf "make %-15s %s\n", $$1, $$2 }'

setup: $(READY) ## Set up .venv from the lock
	@$(PY) --version

# Tests that need another program skip without it. It is installed for root on Debian only, without starting a service
# (RUNLEVEL=1), within a time limit; where that fails, a line says so and nothing else happens.
define install_program
@command -v $(1) >/dev/null 2>&1 || { \
  [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1 && \
  export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 && \
  install="apt-get -qq -o Acquire::Retries=0 -o Acquire::http::Timeout=10 install -y --no-install-recommends" && \
  { timeout 90 $$install $(1) >/dev/null 2>&1 || \
    { timeout 60 apt-get -qq -o Acquire::Retries=0 -o Acquire::http::Timeout=10 update >/dev/null 2>&1 && \
      timeout 90 $$install $(1) >/dev/null 2>&1; }; }; \
} || echo "No $(1) here; the tests that need one are skipped."
endef

setup-redis: ## Install a Redis server for the tests, where that is possible
	$(call install_program,redis-server)

setup-chromium: ## Install Chromium for the tests of the page, where that is possible
	$(call install_program,chromium)

# The rules file and the exposition are judged by Prometheus' own tool where it can be had. Debian ships it with the
# server, which would install a service: only the one program is taken out of the package, into $(VENV).
setup-promtool: $(READY) ## Fetch Prometheus' promtool for the tests, where that is possible
	@command -v promtool >/dev/null 2>&1 || test -x $(VENV)/bin/promtool || { \
	  command -v apt-get >/dev/null 2>&1 && command -v dpkg-deb >/dev/null 2>&1 && \
	  room="$$(mktemp -d)" && trap 'rm -rf "$$room"' EXIT && \
	  fetch="timeout 90 apt-get -qq -o Acquire::Retries=0 -o Acquire::http::Timeout=10" && \
	  { (cd "$$room" && $$fetch download prometheus >/dev/null 2>&1) || \
	    { $$fetch update >/dev/null 2>&1 && (cd "$$room" && $$fetch download prometheus >/dev/null 2>&1); }; } && \
	  dpkg-deb --fsys-tarfile "$$room"/prometheus_*.deb | tar -xO ./usr/bin/promtool >"$$room/promtool" 2>/dev/null && \
	  install -m 755 "$$room/promtool" $(VENV)/bin/promtool; \
	} || echo "No promtool here; the tests that need it are skipped."

demo: $(READY) ## Run RUNS=200 real backtests, store, export, push, roll back and verify them
	$(PY) examples/backtest_sweep.py --runs $(RUNS) --workers 2 --dir $(DEMO_DIR)

test: lint setup-redis setup-chromium setup-promtool ## Lint, then all tests but the long ones
	$(PY) -m pytest -n $(JOBS)

test-long: $(READY) ## All tests, with many more generated examples
	$(PY) -m pytest -n $(JOBS) -m "long or not long" --hypothesis-profile=long --timeout 7200

# The locked tests run on the newest versions; this runs them on the oldest that pyproject.toml allows. uv does not read
# pip's settings, so a mirror configured for pip is handed on.
test-lowest: $(READY) ## All tests but the long ones, on the lowest supported versions
	$(PY) -m uv venv --quiet --clear --python $(PY) $(LOWEST)
	index="$${PIP_INDEX_URL:-$$($(PY) -m pip config get global.index-url 2>/dev/null || true)}"; \
	if [ -n "$$index" ]; then export UV_DEFAULT_INDEX="$${UV_DEFAULT_INDEX:-$$index}"; fi; \
	$(PY) -m uv pip install --quiet --python $(LOWEST)/bin/python --resolution lowest-direct \
	  --editable '.[$(EXTRAS)]' --group test
	$(LOWEST)/bin/python -m pytest -n $(JOBS)

# Changes one thing in a copy of a module and asks whether a test notices (docs/mutation.md). Without MODULES it draws
# about SIZE mutants (1,000 unless told), some of every module, by SEED; with MODULES, such as "cas/names.py", all of theirs.
# MINUTES ends a run early; the same command goes on from there.
mutation: $(READY) ## Try mutants: a sample over the core, or MODULES="cas/names.py" whole
	$(PY) -m tests.mutation --seed $(SEED) $(if $(SIZE),--size $(SIZE)) $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SURVIVORS),--survivors) $(MODULES)

mutation-report: $(READY) ## Write docs/mutation.md from what `make mutation` found
	$(PY) -m tests.mutation --report

# pyright and its node come from the lock; the variable keeps its wrapper from asking a server for a newer version. The
# two that check types run side by side.
lint: $(READY) ## ruff, mypy strict, pyright strict, import directions, generated docs
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m mypy & mypy=$$!; \
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(PY) -m pyright --pythonpath $(PY); pyright=$$?; \
	wait $$mypy && exit $$pyright
	$(PY) -c 'from importlinter.cli import lint_imports_command; lint_imports_command()'
	$(PY) docs/generate.py --check

.PHONY: docs
docs: $(READY) ## Write the parts of docs/ that follow from the code
	$(PY) docs/generate.py

format: $(READY) ## Rewrite the sources in the common form
	$(PY) -m ruff check --fix-only
	$(PY) -m ruff format

# A question that fails does not keep the others from the pages; the target still fails.
bench: $(READY) ## Measure against the peers (15 minutes), keep the figures, write the pages
	$(PY) -m benchmarks; measured=$$?; $(PY) -m benchmarks render && exit $$measured

bench-quick: $(READY) ## The same measurements, small, as a check that they run (2 minutes)
	$(PY) -m benchmarks --quick

bench-scale: $(READY) ## 300,000 refs, 100,000 runs, a store of 1,000,000, upkeep (an hour), keep the figures, write the pages
	$(PY) -m benchmarks --only refs
	$(PY) -m benchmarks --only queries
	$(PY) -m benchmarks --only upkeep
	$(PY) -m benchmarks --only scale
	$(PY) -m benchmarks --only scale_million
	$(PY) -m benchmarks render

# Names and digests only: where packages come from is the machine's own setting.
COMPILE := $(PY) -m uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"

lock: $(READY) ## Resolve the newest versions into the locks
	$(COMPILE) --all-extras --group dev --output-file $(LOCK) pyproject.toml
	$(COMPILE) --group release --output-file requirements/release.txt

# The time of the last commit is the time of every file, so the same commit gives the same bytes.
dist: $(READY) ## Build wheel and sdist into dist
	rm -rf $(DIST)
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(PY) -m hatchling build --directory $(DIST)
	$(PY) -m release.contents $(DIST)

# Tools that only a release needs have a lock and an environment of their own.
$(RELEASE)/bin/twine: requirements/release.txt $(READY)
	$(PY) -m venv --clear $(RELEASE)
	$(PY) -m pip --python $(RELEASE)/bin/python install --quiet --require-hashes --requirement $<
	@touch $@

sbom: dist $(RELEASE)/bin/twine ## Write the software bill of materials beside the wheel
	$(PY) -m release.sbom $(DIST) $(RELEASE)/bin/cyclonedx-py

licences: $(READY) ## Write docs/licences.md from the lock and the installed packages
	$(PY) -m release.licences

check-dist: sbom ## Check wheel and sdist, and try them with every supported Python there is (5 minutes)
	$(RELEASE)/bin/twine check --strict $(DIST)/*.whl $(DIST)/*.tar.gz
	$(PY) -m release.smoke $(DIST)

clean: ## Remove what the targets made, except .venv
	rm -rf build dist $(LOWEST) $(RELEASE) .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -not -path './.venv*' -prune -exec rm -rf {} +

# A .venv that exists is kept, whoever made it, unless its interpreter is gone or too old. Some systems ship Python
# without ensurepip: there the environment is made empty, and the machine's pip installs pip into it.
$(READY):
	@echo "Setting up $(VENV); this takes about a minute, once."
	@$(PY) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=...")' \
	  && rm -rf $(VENV) && { $(PYTHON) -m venv $(VENV) >/dev/null 2>&1 || $(PYTHON) -m venv --clear --without-pip $(VENV); }; }
	@$(PY) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m pip --python $(PY) install --quiet pip
	@$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes --requirement $(LOCK)
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@rm -f $(VENV)/.ready-*
	@touch $@
