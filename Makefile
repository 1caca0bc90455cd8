# `make demo` and `make test` need python3 (3.11 or newer), pip and make, and build all else under .venv, in the versions
# of the lock for that Python (locks/). Another interpreter: make demo PYTHON=python3.12. Another PyTorch, in an
# environment of its own: make test TORCH=2.11. More test processes: make test JOBS=8.

PYTHON ?= python3
JOBS ?= 2
OUT ?= measurements

# A release of PyTorch in the place of the locked one; torchvision follows it.
TORCH ?=
# Not empty: no lock; all is brought to its newest release at each call.
NEWEST ?=

# Each choice of versions has an environment of its own, so that none spoils another.
VENV := .venv$(if $(TORCH),-torch-$(TORCH))$(if $(NEWEST),-newest)
BIN := $(VENV)/bin
LINKS := .types
LOCKED := 3.11 3.12 3.13
DEMO_EXTRAS := trace,zigzag,report
# They hold all that the demo needs.
TEST_EXTRAS := $(DEMO_EXTRAS),sweep,test
comma := ,
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint $(VENV)/constraints.txt \
  $(if $(NEWEST),--upgrade --upgrade-strategy eager)
# Each test process keeps to one core, and to neighbouring tests, which share what is costly to set up.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal --durations=25
# Runs the source tree without installing it. PYTHONSAFEPATH keeps the working directory, where mmworkload/ lies
# without its shelves, off the path.
FROM_SOURCE := PYTHONPATH=$(LINKS) PYTHONSAFEPATH=1

.DELETE_ON_ERROR:
.PHONY: help demo test test-fast test-all demo-newest test-newest check lint types links locks gpu bench clean distclean
.PHONY: newest

help:
	@echo "make demo      install, then trace, simulate, measure and compare av-mnist/concat: report.html"
	@echo "make test      install, then run the tests (those marked full apart)"
	@echo "make test-all  run all tests"
	@echo "make test-newest, demo-newest  the same two with the newest release of everything instead of the lock"
	@echo "make check     linter, formatter, types and the fast tests"
	@echo "make bench     print the project's benchmarks"
	@echo "make gpu       measure every workload with the python on the path, offline, into $(OUT)/"
	@echo "make locks     bring the locks to the newest releases"
	@echo "make clean     remove what was built; make distclean: the environments as well"

demo: $(VENV)/.installed
	$(BIN)/mmworkload validate av-mnist/concat --arch eyeriss_like -o report.html

test: $(VENV)/.installed-test
	$(PYTEST) -m "not full"

test-all: $(VENV)/.installed-test
	$(PYTEST)

demo-newest:
	$(MAKE) demo NEWEST=yes

test-newest:
	$(MAKE) test NEWEST=yes

# `make -k check` goes on after a complaint.
check: lint types test-fast

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-test links
	$(BIN)/mypy

test-fast: $(VENV)/.installed-test
	$(PYTEST) -q -m "not slow and not full"

bench: $(VENV)/.installed-test
	$(BIN)/python benchmarks/run.py

gpu: links
	$(FROM_SOURCE) $(PYTHON) -m mmworkload.measuring.everything --device cuda -o $(OUT)

# The repository laid out as it is installed, by symbolic links; made afresh each time, in milliseconds.
links:
	@$(PYTHON) .ci/link_tree.py $(LINKS)

# Everything that the extras name, for each Python, on Linux and macOS. uv resolves for Pythons that are not at hand.
locks:
	$(PYTHON) -m venv .venv-locks
	.venv-locks/bin/python -m pip install --quiet --disable-pip-version-check --upgrade uv
	for version in $(LOCKED); do \
	  .venv-locks/bin/uv pip compile --quiet --no-config --upgrade --universal --fork-strategy fewest \
	    --python-version $$version $(foreach extra,$(subst $(comma), ,$(TEST_EXTRAS)),--extra $(extra)) \
	    --constraint locks/held.txt --custom-compile-command "make locks" \
	    --output-file locks/python$$version.txt pyproject.toml || exit 1; \
	done

# Some systems' python3 comes without ensurepip; then the pip at hand puts one into the environment.
$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is not Python 3.11 or newer; name one that is: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV) || \
	  { $(PYTHON) -m venv --without-pip $(VENV) && $(PYTHON) -m pip --python $(BIN)/python install --quiet pip; }

# One call installs all that is used: torch and torchvision work only in versions made for each other. What is built is
# built by the setuptools of the lock, which is there before.
define install
@echo "installing into $(VENV): some minutes and 6 GB, most of it torch"
$(if $(NEWEST),:,$(BIN)/python .ci/constraints.py $(TORCH)) > $(VENV)/constraints.txt
$(INSTALL) setuptools
$(INSTALL) --no-build-isolation -e '.[$(1)]'
endef

DEFINITION := pyproject.toml setup.py .ci/constraints.py $(wildcard locks/*.txt) $(if $(NEWEST),newest)

$(VENV)/.installed: $(DEFINITION) | $(BIN)/pip
	$(call install,$(DEMO_EXTRAS))
	@touch $@

$(VENV)/.installed-test: $(DEFINITION) | $(BIN)/pip
	$(call install,$(TEST_EXTRAS))
	@touch $(VENV)/.installed $@

clean:
	rm -rf $(LINKS) build dist *.egg-info out report.html .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -path './.venv*' -prune -o -name __pycache__ -type d -exec rm -rf {} +

distclean: clean
	rm -rf .venv .venv-*
