PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test install lint types notebooks test-scatter bench clean
.DEFAULT_GOAL := test

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml setup.cfg constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev,bench]"
	touch $@

demo: install  ## simulate a screen, train, compare with baselines and a scrambled graph
	$(BIN)/kgnn demo --out demo

test: install  ## all tests, with coverage
	$(BIN)/python -m pytest --cov --cov-report=term:skip-covered --cov-fail-under=90

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

notebooks: install  ## run the notebooks from the first to the last cell
	$(BIN)/jupyter execute --timeout=600 notebooks/*.ipynb

test-scatter:  ## parity with torch-scatter, built from source into an environment of its own (about seven minutes)
	test -e $(VENV)-scatter/.installed || ( $(PYTHON) -m venv $(VENV)-scatter \
	&& $(VENV)-scatter/bin/python -m pip install --quiet --constraint constraints.txt setuptools wheel pytest hypothesis torch \
	&& $(VENV)-scatter/bin/python -m pip install --quiet --constraint constraints.txt --no-build-isolation torch-scatter \
	&& $(VENV)-scatter/bin/python -m pip install --quiet --constraint constraints.txt --editable . \
	&& touch $(VENV)-scatter/.installed )
	$(VENV)-scatter/bin/python -m pytest tests/ops/test_scatter.py

bench: install  ## the committed figures; needs the real data, see benchmarks/README.md
	$(BIN)/python -m benchmarks.gears_step
	$(BIN)/python -m benchmarks.norman_loo

clean:
	rm -rf $(VENV) $(VENV)-scatter demo build dist *.egg-info
