# Everything here is a thin wrapper around ordinary tools; `make help` lists it.

PYTHON ?= $(shell scripts/pythons | tail -n 1)
VENV := .venv

.PHONY: help
help:  ## List the commands
	@grep -E '^[a-z-]+:.*  ## ' $(MAKEFILE_LIST) | sed -E 's/:.*  ## /\t/' | expand -t 12

.PHONY: run
run: $(VENV)/.built  ## Build everything and serve examples/fastapi_app.py with two workers
	$(VENV)/bin/rsgi --workers 2 examples.fastapi_app:app

.PHONY: test
test:  ## Build everything and run every check and test
	scripts/check
	scripts/test

.PHONY: check
check:  ## Formatting, lints, types, crate boundaries
	scripts/check

.PHONY: fix
fix:  ## Mend what the tools can mend by themselves
	scripts/fix

.PHONY: fuzz
fuzz:  ## Fuzz the protocol crate, a minute a target
	scripts/fuzz

.PHONY: bench
bench:  ## Measure rsgi beside its peers and write docs/benchmarks.md (50 minutes)
	scripts/bench --publish

.PHONY: wheel
wheel:  ## Build the wheels that are released, profile-guided, into target/wheels (10 minutes each)
	scripts/wheel

$(VENV)/.built: $(shell git ls-files 'crates/**' 'python/**' Cargo.toml Cargo.lock pyproject.toml examples/requirements.txt)
	@test -n "$(PYTHON)" || { echo "rsgi needs CPython 3.11 or newer, and none was found" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --upgrade pip
	$(VENV)/bin/pip install --quiet . -r examples/requirements.txt
	touch $@
