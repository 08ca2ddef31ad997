# The two commands are `make demo` and `make test`. Both install first; that does nothing when the install is current.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
PY := .venv/bin/python

SHELL := /bin/bash
.PHONY: install system demo test check bars audit

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "winnow needs Python 3.11 or newer; name one with make PYTHON=…")'
	test -x $(PY) || $(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[local,gym,shards,train,dev]'
	touch $@

# Installs what only a system package brings, on Debian and Ubuntu. Does nothing where it is installed.
SYSTEM = bubblewrap chromium postgresql
SUDO := $(shell test "$$(id -u)" = 0 || command -v sudo)

system:
	@if dpkg -s $(SYSTEM) >/dev/null 2>&1; then echo "there already: $(SYSTEM)"; \
	elif ! command -v apt-get >/dev/null; then echo "no apt-get here: install $(SYSTEM) your system's way" >&2; exit 1; \
	else $(SUDO) apt-get update -q && $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $(SYSTEM); fi

# The main job on this machine: collect with a small teacher, train a student, and measure it before and after.
demo: install
	$(PY) -m finetune job recipes/jobs/demo.toml
	@echo "Look at data/runs/demo/report.html in a browser, at a trace with '$(PY) -m harvest why demo word-00', at a training row with '$(PY) -m finetune show'."

check: install
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m mypy

# Asks PyPI whether a version in constraints.txt has a known vulnerability. pip-audit gets an environment of its own.
audit:
	test -x build/audit/bin/pip-audit || { $(PYTHON) -m venv build/audit && build/audit/bin/pip install --quiet pip-audit; }
	build/audit/bin/pip-audit --requirement constraints.txt --no-deps --disable-pip --strict

# Types are checked beside the tests. The file with the longest single tests comes first, so that no core waits for it.
test: install
	$(MAKE) --no-print-directory -j 2 check tests

.PHONY: tests
tests: install
	$(PY) -m pytest -n auto --dist loadfile --no-loadscope-reorder tests/test_end_to_end.py tests harvest

# The tests at full size; `make test` runs a sample of each. The results go into benchmarks/results/.
BARS = $(shell grep -rlw 'import.*scaled' tests)
RESULT = benchmarks/results/bars-$(shell date +%F).txt

bars: install
	mkdir -p benchmarks/results
	{ date -u; uname -srm; nproc; echo "WINNOW_BARS=1 WINNOW_EXAMPLES=5000 pytest $(BARS)"; } > $(RESULT)
	set -o pipefail; WINNOW_BARS=1 WINNOW_EXAMPLES=5000 $(PY) -m pytest -q -o faulthandler_timeout=0 --durations=15 $(BARS) 2>&1 | tee -a $(RESULT)
