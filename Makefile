PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# threads that wait give their processor away: where they spin, beside other processes, work takes many times as long
export OMP_WAIT_POLICY ?= passive

.PHONY: demo test install lint types notebooks test-scatter fuzz mutants deliberate kills soak bench clean
.DEFAULT_GOAL := test

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml setup.cfg constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev,bench]"
	touch $@

demo: install  ## simulate a screen, train, compare with baselines and a scrambled graph
	$(BIN)/kgnn demo --out demo

test: install  ## all tests, with coverage
	OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --max-worker-restart=0 --cov --cov-report=term:skip-covered --cov-fail-under=90

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

notebooks: install  ## run the notebooks from the first to the last cell
	$(BIN)/jupyter execute --timeout=600 notebooks/*.ipynb

test-scatter:  ## with torch-scatter and torch-sparse, built from source into an environment of their own (ten minutes)
	test -e $(VENV)-scatter/.installed || ( $(PYTHON) -m venv $(VENV)-scatter \
	&& $(VENV)-scatter/bin/python -m pip install --quiet --constraint constraints.txt setuptools wheel pytest hypothesis torch \
	&& $(VENV)-scatter/bin/python -m pip install --quiet --constraint constraints.txt --no-build-isolation torch-scatter torch-sparse \
	&& $(VENV)-scatter/bin/python -m pip install --quiet --constraint constraints.txt --editable . \
	&& touch $(VENV)-scatter/.installed )
	$(VENV)-scatter/bin/python -m pytest tests/ops/test_scatter.py tests/graph/test_hetero.py
	$(VENV)-scatter/bin/python -m pytest tests/ops/test_backends.py -k scatter

fuzz: install  ## a thousand mutated files for every parser; `MUTATIONS=10000 make fuzz` for more
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz --mutations $(or $(MUTATIONS),1000)

mutants: install  ## which changes of a file the tests miss; `make mutants FILES="kgnn/data/*.py" N=40 SEED=0 PROCESSES=1`
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.mutants $(or $(FILES),$(error FILES="kgnn/data/splits.py ..." is missing)) \
	-n $(or $(N),40) --seed $(or $(SEED),0) --processes $(or $(PROCESSES),1) $(TESTS:%=--tests %) $(JSON:%=--json %)

deliberate: install  ## mutants made on purpose over whatever predicts, the doors and every score
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.deliberate

kills: install  ## trainings stopped at random moments and gone on with; `TRIALS=100 make kills` for more
	$(BIN)/python -m tests.kills --trials $(or $(TRIALS),20)

soak: install  ## folders damaged, killed, written side by side, on full disks; `FORM=long make soak` for an hour of it
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.soak --form $(or $(FORM),short)

bench: install  ## the committed figures; needs the real data, see benchmarks/README.md
	$(BIN)/python -m benchmarks.gears_step
	$(BIN)/python -m benchmarks.sparse_ops
	$(BIN)/python -m benchmarks.sparse_ops --growth
	$(BIN)/python -m benchmarks.hetero_ops
	$(BIN)/python -m benchmarks.norman_loo
	$(BIN)/python -m benchmarks.perturbation
	$(BIN)/python -m benchmarks.score_order
	$(BIN)/python -m benchmarks.doses
	$(BIN)/python -m benchmarks.graph_build
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[bench-cells]"
	$(BIN)/python -m benchmarks.cell_models
	$(BIN)/python -m benchmarks.cell_speed
	$(BIN)/python -m benchmarks.cell_models_report

clean:
	rm -rf $(VENV) $(VENV)-scatter demo build dist *.egg-info
