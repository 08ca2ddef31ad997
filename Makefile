# `make demo` and `make test` are the two commands; both install first, which does nothing when that is current.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
PY := .venv/bin/python
SHARED ?= ../shared

.PHONY: install system demo test check bars

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "winnow needs Python 3.11 or newer; name one with make PYTHON=…")'
	test -x $(PY) || $(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[local,gym,train,dev]'
	touch $@

# What only a system package brings. Nothing so far: later checks will want bubblewrap, Chromium and PostgreSQL.
system:
	@echo "no system packages are needed yet"

demo: install
	$(PY) -m finetune demo

check: install
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m mypy

test: check
	$(PY) -m pytest

# The full figures of the issues; `make test` holds a sample of each. Results: benchmarks/results/.
bars: install
	WINNOW_BARS=1 $(PY) -m pytest
