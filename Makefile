# `make` lists what there is. Each target makes its own .venv when it is missing or settings.ini has changed.
PYTHON ?= python3
BIN    := .venv/bin
READY  := .venv/.ready
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help demo test slow check prepare lab docs weights bench ruler clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-9s %s\n", $$1, $$2}' Makefile

demo: $(READY)  ## train a few minutes on the embedded sample, then write Amharic
	@$(BIN)/hnet_launch --demo

test: check  ## check, run every notebook, then the tests in tests/
	@echo "Running the notebooks ..."
	@OMP_NUM_THREADS=1 MPLBACKEND=agg $(BIN)/nbdev_test --n_workers 2 --do_print --timing
	@OMP_NUM_THREADS=1 MPLBACKEND=agg $(BIN)/python -m pytest -ra --durations=5 -n 2 --dist loadfile tests

slow: $(READY)  ## what `make test` leaves out: slow cells and long fuzzing, with the time each takes
	@OMP_NUM_THREADS=1 MPLBACKEND=agg $(BIN)/nbdev_test --flags slow --n_workers 1 --do_print --timing
	@OMP_NUM_THREADS=1 HNET_FUZZ=20000 $(BIN)/python -m pytest -ra --durations=0 $(wildcard tests/test_fuzz*.py)

check: $(READY)  ## do notebooks, modules and README.md agree, and are the notebooks clean? (changes nothing)
	@$(BIN)/python .ci/check.py

prepare: $(READY)  ## after editing notebooks: export modules, clean notebooks, rewrite README.md
	@$(BIN)/nbdev_export
	@$(BIN)/nbdev_clean
	@$(BIN)/python .ci/readme.py

lab: $(READY)  ## open the notebooks in JupyterLab
	@$(BIN)/jupyter lab nbs

docs: $(READY)  ## build the site into _docs (with Quarto if you have it, else with pandoc)
	@OMP_NUM_THREADS=1 MPLBACKEND=agg $(BIN)/python .ci/docs.py
	@$(BIN)/python .ci/shots.py

weights: $(READY)  ## train, finish and measure the shipped weights; DATA=FOLDER says where the text is (minutes on a GPU)
	@test -n "$(DATA)" || { echo "Say where the text is: make weights DATA=FOLDER"; exit 1; }
	@$(BIN)/python .ci/weights.py --data "$(DATA)"

bench: $(READY)  ## bytes/s of training and writing beside other models of the same size (minutes; on an idle machine)
	@$(BIN)/python .ci/bench.py

ruler:  ## how long modules and cells are, how many lines hold more than one statement
	@$(PYTHON) .ci/ruler.py

clean:  ## remove what was built (not .venv, not runs/)
	@rm -rf build dist _docs _proc .pytest_cache nbs/nbdev.yml
	@find nbs hnet_amharic tests .ci -name __pycache__ -o -name .ipynb_checkpoints | xargs rm -rf
	@echo "Clean. To start over entirely: rm -rf .venv"

$(READY): settings.ini setup.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "Python 3.10 to 3.13 is needed; '$(PYTHON)' is $$($(PYTHON) -V 2>&1). Try: make PYTHON=python3.11"; exit 1; }
	@echo "Setting up .venv: PyTorch, fastai, Jupyter and this package. Once; a few minutes ..."
	@test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -e '.[dev]'
	@touch $@
