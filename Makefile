# Everything starts from Python 3.11 to 3.14 and make. The first target that needs it builds .venv.
#
#   make demo       train, sample, evaluate and report on the bundled world (CPU, minutes)
#   make test       lint, types and the fast tests; what continuous integration runs
#   make test-all   the same, with the slow tests
#   make docs       build the manual as a site in build/site; a broken link is an error
#   make bench      measure training steps and sampling beside plain diffusers (CPU, minutes)
#   make lint       formatting, lint and types alone
#   make clean      remove .venv, caches and build outputs (never runs/)
#
# Variables:
#   PYTHON=...      the interpreter to build .venv from
#   TORCH=...       version of PyTorch to install, 2.8 or later; pip's own choice if not given
#   TORCH_FLAGS=... further flags of `pip install torch`, for example --index-url with the address
#                   of PyTorch's CPU-only package index: pip's own choice on a Linux machine
#                   without a GPU is the much larger CUDA build
#   ARGS=...        further arguments of `sgflux demo`, pytest or benchmarks/step.py;
#                   ARGS="-n 0" runs the tests in one process

TORCH ?=
TORCH_FLAGS ?=
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
# One process for each core, at most four, since each needs up to 2 GB of memory. A process takes
# tests in their order, so that most fixtures of a module are made once.
PYTEST := $(BIN)/pytest -n logical --maxprocesses 4 --dist worksteal

# The first interpreter that runs and is of a supported version; a name on PATH alone proves nothing.
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))
ifndef PYTHON
PYTHON := $(shell for name in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	if $$name -c '$(SUPPORTED)' >/dev/null 2>&1; then echo $$name; break; fi; done)
endif

# No weights are ever fetched by a test or the demo; two cores are best shared without oversubscription.
export HF_HUB_OFFLINE = 1
export TOKENIZERS_PARALLELISM = false
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.DEFAULT_GOAL := help
.PHONY: help demo test test-all docs bench lint clean

help:
	@sed -n 's/^#   make/make/p' Makefile

$(VENV)/.installed: pyproject.toml
	@test -n "$(PYTHON)" || { echo "error: sgflux needs Python 3.11 to 3.14 and found none of them;" \
		"install one, or name it: make PYTHON=/path/to/python3.13" >&2; exit 1; }
	@$(PYTHON) -c '$(SUPPORTED)' || { echo "error: $(PYTHON) is not Python 3.11 to 3.14" >&2; exit 1; }
	rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV) || { echo "error: $(PYTHON) cannot build a virtual environment;" \
		"on Debian and Ubuntu, install python3-venv" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet "torch$(if $(TORCH),==$(TORCH),>=2.8)" $(TORCH_FLAGS)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

demo: $(VENV)/.installed
	$(BIN)/sgflux demo $(ARGS)

lint: $(VENV)/.installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

test: lint
	$(PYTEST) -m "not slow" $(ARGS)

test-all: lint
	$(PYTEST) $(ARGS)

$(VENV)/.docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	@touch $@

docs: $(VENV)/.docs
	$(BIN)/python -m sphinx -W --keep-going -q -c docs . build/site
	@echo "The site is in build/site; its first page is build/site/index.html"

bench: $(VENV)/.installed
	$(BIN)/python benchmarks/step.py --out benchmarks/results/step.json $(ARGS)

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
	find src tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +
