# Needs Python 3.11 or newer and make, nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The tests of the claim, the lease, the storage and the budget, which are measured.
MEASURED := tests/worker tests/storage tests/search/test_plans.py tests/search/test_promotion.py \
	tests/search/test_asha.py
# Optuna: the lowest release that pyproject.toml allows, and the locked one.
LOWEST := $(shell sed -n 's/.*"optuna>=\([0-9.]*\).*/\1/p' pyproject.toml)
LOCKED := $(shell sed -n 's/^optuna==//p' constraints.txt)
# Those that take longest: whole studies from end to end, clusters, crashes and wheels, terminals, a
# process for each refused command, real kernels, whole pages of the documentation, and every kind of
# call beside model.fit.
LONG := tests/api/test_notebook.py tests/api/test_pages.py tests/chaos tests/cli/test_refused.py \
	tests/cli/test_terminal.py tests/deploy tests/e2e tests/launch tests/packaging \
	tests/report/test_anywhere.py tests/test_docs.py tests/test_examples.py \
	tests/training/test_fast_fit_equals_keras.py tests/training/test_fitting.py \
	tests/training/test_state.py

.PHONY: help install demo test long users lowest check coverage mutation docs chaos cluster images \
	kubernetes clean

help:  ## list the targets
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/:.*## /: /'

install: $(VENV)/.installed  ## make .venv with everything that development needs

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "orch needs Python 3.11 or newer; name one: make PYTHON=python3.12 install" >&2; exit 2; }
	@echo "installing orch, TensorFlow and the tools into $(VENV): minutes, and about 3 GB" >&2
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: install  ## a real study with two workers: MNIST, or digits where MNIST cannot be had
	@objective=mnist; $(BIN)/python -m orchestrator.training.data mnist || { objective=digits; \
		echo "so the demo tunes digits instead" >&2; }; \
	echo "orch run $$objective --study demo --trials 12 --workers 2 --epochs 3" >&2; \
	$(BIN)/orch run $$objective --study demo --trials 12 --workers 2 --epochs 3

check: install  ## formatting, lint, types, imports that run one way, dead and repeated code
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache --no-logo
	$(BIN)/vulture
	$(BIN)/pylint orchestrator objectives benchmarks examples tests

test: check coverage  ## all checks, and the tests but those of "make long"
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not users" $(MEASURED:%=--ignore=%) \
		$(LONG:%=--ignore=%)

long: install  ## the tests that take longest
	$(BIN)/python -m pytest -n 2 --dist worksteal $(LONG)

users: install  ## trainings as people publish them, by their own tools and by orch; killed, too
	$(BIN)/python -m pytest -n 2 --dist loadgroup tests/users -rs $(USERS)

lowest: install  ## the storage's tests with the lowest Optuna allowed, where it is not the locked one
ifneq ($(LOWEST),$(LOCKED))
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade --no-deps \
		--target build/lowest optuna==$(LOWEST)
	PYTHONPATH=build/lowest $(BIN)/python -m pytest tests/base tests/storage/test_optuna_suite.py
endif

coverage: install  ## which branches of the claim, lease, storage and budget code their tests run
	$(BIN)/python -m pytest -n 2 --dist worksteal $(MEASURED) --cov

docs: install  ## the documentation as a site, in build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) build dist *.egg-info

mutation: install  ## wrong lines in that code: which of them do the tests notice? (hours)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[mutation]'
	$(BIN)/python tests/mutation/sql.py
	$(BIN)/python tests/mutation/python.py

chaos: install  ## the long chaos run: 200 kills, 20 server restarts, 20 cuts, 10 partitions
	$(BIN)/python tests/chaos/run.py --kills 200 --restarts 20 --cuts 20 --partitions 10 --seed 1
	$(BIN)/python tests/chaos/run.py --kills 40 --restarts 6 --cuts 6 --partitions 4 --seed 2 \
		--objective WitnessedDigits --machines 2 --processes 1 --steps 4 --trials 20

cluster: install  ## the tests of Slurm and Ray; Slurm itself is Debian's package slurm-wlm
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[ray]'
	$(BIN)/python -m pytest tests/launch tests/deploy -rs

images: install  ## deploy/'s image and compose on Podman and Docker (root on Debian; mmdebstrap, 20 GB)
	$(BIN)/python -m pytest tests/images/compose.py --capture=sys -rs $(IMAGES)

kubernetes: install  ## deploy/kubernetes and the launcher on the cluster that KUBECONFIG names
	$(BIN)/python -m pytest tests/kubernetes/cluster.py -rs
