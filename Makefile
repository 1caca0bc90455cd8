# `make demo` and `make test` need python3 (3.11 or newer), pip and make, and build all else under .venv.
# Another interpreter: make demo PYTHON=python3.12. More test processes: make test JOBS=8.

PYTHON ?= python3
JOBS ?= 2
OUT ?= measurements

VENV := .venv
BIN := $(VENV)/bin
LINKS := .types
# One call installs everything: torch and torchvision work only in versions made for each other.
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# Each test process keeps to one core, and to neighbouring tests, which share what is costly to set up.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal
# Runs the source tree without installing it. PYTHONSAFEPATH keeps the working directory, where mmworkload/ lies
# without its shelves, off the path.
FROM_SOURCE := PYTHONPATH=$(LINKS) PYTHONSAFEPATH=1

.DELETE_ON_ERROR:
.PHONY: help demo test test-fast test-all check lint types links gpu bench clean distclean

help:
	@echo "make demo      install, then trace, simulate, measure and compare av-mnist/concat: report.html"
	@echo "make test      install, then run the tests (those marked full apart)"
	@echo "make test-all  run all tests"
	@echo "make check     linter, formatter, types and the fast tests"
	@echo "make bench     print the project's benchmarks"
	@echo "make gpu       measure every workload with the python on the path, offline, into $(OUT)/"
	@echo "make clean     remove what was built; make distclean: $(VENV) as well"

demo: $(VENV)/.installed
	$(BIN)/mmworkload validate av-mnist/concat --arch eyeriss_like -o report.html

test: $(VENV)/.installed-test
	$(PYTEST) -m "not full"

test-all: $(VENV)/.installed-test
	$(PYTEST)

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

# Some systems' python3 comes without ensurepip; then the pip at hand puts one into the environment.
$(BIN)/pip:
	$(PYTHON) -m venv $(VENV) || \
	  { $(PYTHON) -m venv --without-pip $(VENV) && $(PYTHON) -m pip --python $(BIN)/python install --quiet pip; }

$(VENV)/.installed: pyproject.toml setup.py | $(BIN)/pip
	@echo "installing into $(VENV): some minutes and 6 GB, most of it torch"
	$(INSTALL) -e '.[trace,zigzag,report]'
	@touch $@

# The test environment holds all that the demo needs.
$(VENV)/.installed-test: pyproject.toml setup.py | $(BIN)/pip
	@echo "installing into $(VENV): some minutes and 6 GB, most of it torch"
	$(INSTALL) -e '.[trace,zigzag,report,sweep,test]'
	@touch $(VENV)/.installed $@

clean:
	rm -rf $(LINKS) build dist *.egg-info out report.html .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV)
