# `make demo` and `make test` need only Python 3.11 and make; what else they want they install, and say so.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed-dev

.PHONY: demo test check claims bench format clean

demo: $(VENV)/.installed
	@$(BIN)/python examples/demo/run.py

test: $(STAMP)
	@$(PYTHON) tools/provision.py
	@$(BIN)/python -m pytest -q

check: $(STAMP)
	@$(BIN)/python -m pytest -q -m "not real and not long" -p no:cacheprovider

claims: $(STAMP)
	@$(PYTHON) tools/provision.py
	@$(BIN)/duende claims

bench: $(STAMP)
	@$(BIN)/python bench/run.py

$(VENV)/bin/python:
	@$(PYTHON) tools/provision.py --venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	@echo "installing duende into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(STAMP): pyproject.toml | $(VENV)/bin/python
	@echo "installing duende and its development tools into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) .cache dist build
