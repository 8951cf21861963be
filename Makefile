# make reproduce · make test · make book · make bench · make lint · make pdf        (make help says more)
# Works with GNU make 3.81 (macOS) and a plain sh.

SHELL   = /bin/sh
PROFILE = default
SEED    = 0
VENV    = .venv
# The version that constraints.txt pins; override with TORCH=2.13.0+cu126 or the like.
TORCH   = $(shell sed -n 's/^torch==//p' constraints.txt)
# First-principles extra: compiles against libxc. `make setup DFT=1`; on by itself in CI.
DFT     = $(if $(filter 1 true TRUE True,$(CI)),1,)
PYTEST_ARGS =

BIN     = $(VENV)/bin
PY      = $(BIN)/python
PIP     = $(PY) -m pip --disable-pip-version-check
STAMP   = $(VENV)/.installed
DFT_STAMP = $(VENV)/.installed-dft
LINT_FAILED = $(VENV)/.lint-failed
RESULTS = results/$(PROFILE)
# One thread for each process: the tests run in several, and small models gain nothing from more.
ONE_THREAD = OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1

.PHONY: help setup reproduce book pdf test lint bench clean distclean
.DEFAULT_GOAL := help

help:
	@echo 'make reproduce [PROFILE=smoke|default|full]  install, run everything, build the book'
	@echo '                 smoke: a few minutes; default: under 30 minutes; full: hours, resumable'
	@echo 'make test        install, then lint, types, layers, all tests (what CI runs)'
	@echo 'make setup       only the environment, in $(VENV)   [DFT=1: with GPAW] [PYTHON=...] [TORCH=...]'
	@echo 'make book        build the pages from what PROFILE computed (runs what is missing)'
	@echo 'make pdf         the book as one PDF'
	@echo 'make lint        ruff, mypy, import layers'
	@echo 'make bench       timings, written to benchmarks/results'
	@echo 'make clean       remove _build and caches (results and $(VENV) stay)'

# --- environment ------------------------------------------------------------------------------------

setup: $(STAMP) $(if $(DFT),$(DFT_STAMP))

# Python 3.11 or newer: PYTHON= if given, else the first that fits.
$(PY):
	@set -e; \
	for candidate in $(PYTHON) python3.11 python3.12 python3.13 python3 python; do \
	  if "$$candidate" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
	    found=$$candidate; break; \
	  fi; \
	done; \
	if [ -z "$${found:-}" ]; then \
	  echo 'setup: no Python 3.11 or newer (with venv) on the path; install one or say make setup PYTHON=/path/to/python' >&2; \
	  exit 1; \
	fi; \
	echo "setup: $$found -> $(VENV)"; \
	"$$found" -m venv "$(VENV)"

# On Linux the plain index has CUDA builds of torch: try the CPU index first, quickly, in a step of its own.
$(STAMP): $(PY) pyproject.toml constraints.txt
	$(PIP) install --quiet --upgrade pip setuptools wheel
	@set -e; \
	if [ "$$(uname -s)" = Linux ]; then \
	  $(PIP) install --quiet --retries 0 --timeout 5 --index-url https://download.pytorch.org/whl/cpu 'torch==$(TORCH)' 2>/dev/null \
	  || { echo 'setup: the CPU index of torch is out of reach, taking the plain index'; $(PIP) install --quiet 'torch==$(TORCH)'; }; \
	else \
	  $(PIP) install --quiet 'torch==$(TORCH)'; \
	fi
	$(PIP) install --quiet -c constraints.txt -e '.[all]'
	@touch $(STAMP)

$(DFT_STAMP): $(STAMP)
	@# GPAW's C++ sources end in .c; a current setuptools hands them to $CC, which must then be the C++ compiler.
	CC=c++ $(PIP) install --quiet -c constraints.txt -e '.[dft]'
	@touch $(DFT_STAMP)

# --- the main job -----------------------------------------------------------------------------------

reproduce: book
	@echo "tables: $(CURDIR)/$(RESULTS)/tables"

# Pages show tables of the pipeline as well as notebooks; what is done already is not done again.
book: setup
	$(ONE_THREAD) $(BIN)/nanh2 reproduce --profile $(PROFILE) --seed $(SEED)
	$(BIN)/nanh2 book --profile $(PROFILE) --seed $(SEED)
	@echo "book:   $(CURDIR)/_build/html/index.html"

pdf: setup
	$(ONE_THREAD) $(BIN)/nanh2 reproduce --profile $(PROFILE) --seed $(SEED)
	$(BIN)/nanh2 pdf --profile $(PROFILE) --seed $(SEED)
	@echo "pdf:    $(CURDIR)/_build/nanh2-book.pdf"

bench: setup
	@set -e; for script in benchmarks/bench_*.py; do \
	  name=$${script##*/}; echo "bench: $${name%.py}"; $(PY) -m "benchmarks.$${name%.py}"; \
	done

# --- checks -----------------------------------------------------------------------------------------

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/mypy
	$(BIN)/lint-imports

# All parts run even when one fails; pytest comes last, so that its closing line does.
test: setup
	@rm -f $(LINT_FAILED)
	@$(MAKE) --no-print-directory lint || { touch $(LINT_FAILED); echo 'make test: lint FAILED; the tests run all the same' >&2; }
	@status=0; \
	$(ONE_THREAD) $(PY) -m pytest -n logical --maxprocesses 8 --dist loadgroup --no-loadscope-reorder \
	  $(PYTEST_ARGS) || status=1; \
	if [ -e $(LINT_FAILED) ]; then status=1; fi; \
	exit $$status

clean:
	rm -rf _build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build *.egg-info
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV)
