# `make demo` and `make test` need Python 3.11 or newer and Debian's build tools, nothing else.
PYTHON ?= python3
VENV := .venv
# Two test processes: each loads torch, some of them a language model too. A file's tests stay in one process; files
# go to them in the order in which tests/conftest.py puts them.
TESTS := -n 2 --dist loadfile --no-loadscope-reorder
BIN := $(VENV)/bin
# Tests start hundreds of processes: each would compile every module again where no bytecode is written.
export PYTHONDONTWRITEBYTECODE :=
# What `line demo` needs is installed, and what the tests and the documentation need too.
DEMO := $(VENV)/.demo
INSTALLED := $(VENV)/.installed

.PHONY: demo test test-fast check crash docs docs-serve assets ollama clean

demo: $(DEMO)
	$(BIN)/line demo

test: $(INSTALLED) assets ollama
	$(BIN)/pytest $(TESTS)

test-fast: $(INSTALLED)
	$(BIN)/pytest $(TESTS) -m "not e2e"

check: $(INSTALLED) assets ollama
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest $(TESTS)

# Kills a process 1,000 times, 300 of them amid a batch, and 200 times more from outside in varied stories; prints what
# came of it.
crash: $(INSTALLED) assets
	LINE_KILLS=$${LINE_KILLS:-300} $(BIN)/pytest -s tests/crash
	LINE_KILLS=$${LINE_KILLS:-200} $(BIN)/pytest -s tests/crash_outside

# The documentation site, in the folder site; a warning is an error.
docs: $(INSTALLED)
	$(BIN)/mkdocs build --strict

docs-serve: $(INSTALLED)
	$(BIN)/mkdocs serve --dev-addr 127.0.0.1:8000

assets: $(INSTALLED)
	$(BIN)/line assets install test
	@if command -v npm >/dev/null; then $(BIN)/line assets install resnet50; \
	else echo "note: no npm, so the tests of keras:resnet50 are skipped"; fi

# A real Ollama server for the tests; nothing is done where it is installed.
ollama: $(INSTALLED)
	PYTHON=$(BIN)/python sh tests/ollama/install.sh $(VENV)/ollama

# What is to come is said before anything is installed.
.PHONY: plan
plan:
	@test -e $(DEMO) || echo "$$DEMO_PLAN"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip

$(DEMO): pyproject.toml | plan $(BIN)/python
	$(BIN)/python -m pip install --editable '.[demo]'
	@touch $@

$(INSTALLED): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $(DEMO) $@

define DEMO_PLAN

The demo has three steps. Ctrl-C stops it at any time; `make demo` continues.
  1. Python packages, in the folder $(VENV): 6 GB, most of it torch    about 2 minutes on a fast connection
  2. Weights and images, downloaded once: 1.6 GB                   about 1 minute
  3. Six units are labelled                                        about 8 minutes on two cores

endef
export DEMO_PLAN

clean:
	rm -rf $(VENV) build dist site *.egg-info
