# Each target is a line or two; `make` lists them.
#   PYTHON=python3.12   which Python makes .venv
#   WORKERS=4           how many tests run at once, each with THREADS threads

PYTHON  ?= python3
WORKERS ?= 2
THREADS ?= 1
BIN     := .venv/bin

# Kernels come from .venv, whatever kernel of the same name a user has installed.
export JUPYTER_PREFER_ENV_PATH := 1

.PHONY: help demo test lab bench bench-gpu notebooks site clean

help:            ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

demo: .venv/.installed-demo  ## run every notebook; pictures and results/index.html
	$(BIN)/nbhelpers run notebooks

test: export NBHELPERS_RESULTS := $(CURDIR)/build/results
test: export OMP_NUM_THREADS := $(THREADS)
test: export MKL_NUM_THREADS := $(THREADS)
# A test on two threads, beside the other worker's, waits without taking a core.
test: export OMP_WAIT_POLICY := PASSIVE
test: .venv/.installed-test  ## everything: lint, format, unit tests, all notebooks against their kept outputs
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache --no-logo
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder \
		--nbval-lax --nbval-current-env --nbval-cell-timeout 300 notebooks tests

lab: .venv/.installed-demo   ## JupyterLab, opened on the tour
	$(BIN)/jupyter lab notebooks/00_tour.ipynb

bench: .venv/.installed-bench  ## speed and memory against the plain loop and the other libraries
	$(BIN)/python tests/benchmarks/run.py

bench-gpu: .venv/.installed-bench  ## pictures a second on a GPU, against torch-lucent
	$(BIN)/python tests/gpu/bench.py

notebooks: .venv/.installed-test  ## run the notebooks and keep their new outputs, cleaned and formatted
	$(BIN)/ruff format notebooks
	$(BIN)/nbhelpers run notebooks --update
	$(BIN)/python tools/hygiene.py check notebooks/*.ipynb

site: .venv/.installed-site  ## the site: notebooks, gallery, reference, docs; build/site/index.html
	$(BIN)/python -m tools.website

clean:           ## remove the environment and caches; results stay
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# An environment without pip (a Python without ensurepip) gets it from the pip outside.
$(BIN)/python:
	$(PYTHON) -m venv .venv || \
		{ $(PYTHON) -m venv --without-pip .venv && $(PYTHON) -m pip --python $(BIN)/python install pip; }

.venv/.installed-demo: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -e .
	@touch $@

.venv/.installed-%: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -e ".[$*]"
	@touch $@ .venv/.installed-demo
