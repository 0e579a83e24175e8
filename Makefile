# Every target sets itself up: a fresh clone needs Python 3.11 and make, nothing more.
SHELL := /bin/bash
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TAMIZ_DATA ?= $(wildcard ../shared/data)
export TAMIZ_DATA

.DEFAULT_GOAL := help
.PHONY: help setup demo unit test lint format docs linkcheck hooks bench bench-client bench-train soak acceptance constraints clean

help:  ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP)  ## Make .venv with .venv/bin/tamiz and every extra that a CPU machine can have

# The virtual environment is made anew when what it is made from changes.
$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) is not here; install Python 3.11, or name one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { echo "error: $(PYTHON) is not Python 3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "error: $(PYTHON) lacks venv; on Debian: apt-get install python3.11-venv" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[http,parquet,ray,train,server,gateway,bench,cpu,dev,docs]'
	$(BIN)/python -m tamiz_server.installation
	@touch $@

demo: $(STAMP)  ## The whole chain on handwritten digits: train, publish, serve, classify, measure
	$(BIN)/tamiz demo

unit: $(STAMP)  ## The tests that need no Triton and no training, in a minute
	$(BIN)/pytest -m unit

# Coverage is measured where its packages are tested: its tracing makes the export of a network take half as long again.
test: $(STAMP)  ## All tests but the long proofs, against a real Triton, with the coverage of client, server and gateway
	$(BIN)/pytest tests/client tests/server tests/gateway -m 'not acceptance and not soak' --cov
	$(BIN)/pytest -m 'not acceptance and not soak' --ignore tests/client --ignore tests/server --ignore tests/gateway

lint: $(STAMP)  ## Style, types and layering
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)  ## Rewrite the code in the project's style
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP)  ## Compare a published model with the in-process limit (MODEL=digits IMAGES=data/digits/test)
	$(BIN)/tamiz bench served $(or $(IMAGES),data/digits/test) --serve --model $(or $(MODEL),digits)

bench-client: $(STAMP)  ## Compare the client with a tritonclient script (MODEL=digits IMAGES=data/digits/test)
	$(BIN)/tamiz bench client $(or $(IMAGES),data/digits/test) --model $(or $(MODEL),digits)

bench-train: $(STAMP)  ## Compare the trainer with a PyTorch loop and a loop that loads no images
	$(BIN)/tamiz bench training

docs: $(STAMP)  ## Build the documentation into docs/_build/html; every warning and broken internal link is an error
	$(BIN)/sphinx-build -W -n --keep-going -q -d docs/_build/doctrees docs docs/_build/html
	@echo "docs/_build/html/index.html"

linkcheck: $(STAMP)  ## Check the documentation's links to other sites; needs a network
	$(BIN)/sphinx-build -n -q -b linkcheck -d docs/_build/doctrees docs docs/_build/linkcheck

hooks: $(STAMP)  ## Have git run ruff before each commit
	$(BIN)/pre-commit install

soak: $(STAMP)  ## Long proofs under load: versions switched, servers killed, calls cancelled
	$(BIN)/pytest -m soak --timeout 3600

acceptance: $(STAMP)  ## Full recipes on real data in TAMIZ_DATA (about 75 minutes on 2 cores)
	$(BIN)/pytest -m acceptance --timeout 7200

constraints:  ## Renew constraints.txt from the newest releases that fit together
	rm -rf $(VENV).new && $(PYTHON) -m venv $(VENV).new
	$(VENV).new/bin/pip install --quiet --disable-pip-version-check -e '.[http,parquet,ray,train,server,gateway,bench,cpu,dev,docs]'
	$(VENV).new/bin/pip freeze --exclude-editable > $(VENV).new/freeze.txt
	grep -E '^[A-Za-z0-9_.-]+==' $(VENV).new/freeze.txt > $(VENV).new/constraints.txt
	mv $(VENV).new/constraints.txt constraints.txt
	rm -rf $(VENV).new

clean:  ## Remove what the commands wrote here, runs too, but not .venv and no images but the demo's
	rm -rf runs mlruns mlflow.db data/digits reports explanations samples.png triton.log .pytest_cache .coverage docs/_build .mypy_cache .ruff_cache .import_linter_cache
