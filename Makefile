# Each target makes what it needs: .venv if it is missing, and in it the project with the packages for that target.
# Nothing is installed again until pyproject.toml changes.
#
#   make demo    segment both hippocampi of a real brain image in five steps; masks, scene and pictures in demo/
#   make test    run the tests
#   make nightly what takes too long for every change: 50 kills, coverage, mutations, oldest and newest packages
#   make lint    style, types, dangerous calls (make style), known vulnerabilities of the packages (make audit)
#   make bench   the speed and memory of this machine
#   make lock    write Testing/lock.txt anew: the packages that the tests run with
#   make clean   remove .venv and everything generated
#
# Another Python: make PYTHON=python3.12 test.  Another torch: make TORCH=2.12.1 test.
# Other packages than those of the lock: make PINS=FILE test, or PINS=/dev/null for the newest that are allowed.

PYTHON ?= python3
TORCH ?= 2.13.0
PINS ?= Testing/lock.txt
NEWEST_TORCH ?= 2.15.0
CPU_INDEX ?= https://download.pytorch.org/whl/cpu

# without restarts: with them pytest-xdist begins the file anew, and for ever, where a test ends its process
SIDE_BY_SIDE := --numprocesses auto --maxprocesses 4 --dist loadfile --max-worker-restart 0
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
TORCH_READY := $(VENV)/.torch-$(TORCH)
comma := ,

.PHONY: demo test nightly kills coverage mutations oldest newest lint style audit bench lock clean
.DELETE_ON_ERROR:
.SECONDARY:

demo: $(VENV)/.with-scene+demo
	$(BIN)/python -m DiffSegLib demo --out demo

# files of tests beside each other; a third of the time is waiting for programs that the tests start
test: $(VENV)/.with-scene+demo+test
	$(BIN)/python -m pytest $(SIDE_BY_SIDE)

nightly: kills coverage mutations oldest newest

# lost processes
kills: $(VENV)/.with-scene+demo+test
	DIFFSEG_KILLS=50 $(BIN)/python -m pytest Testing/test_crash.py Testing/test_resume.py

# statements of the engine that the tests run, in their own process and in those that they start
coverage: $(VENV)/.with-scene+demo+test+nightly
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(SIDE_BY_SIDE)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

# how many of the changes made to the diffusion's formulas are noticed
mutations: $(VENV)/.with-scene+demo+test+nightly
	OMP_NUM_THREADS=1 $(BIN)/mutmut run
	$(BIN)/mutmut export-cicd-stats
	$(BIN)/python -c 'import json; n = json.load(open("mutants/mutmut-cicd-stats.json")); share = 1 - n["survived"] / n["total"]; \
		print("{:.1%} of {} mutations noticed".format(share, n["total"])); raise SystemExit(share < 0.85)'

# all tests with the lowest versions that pyproject.toml allows, and with the newest
oldest:
	$(MAKE) VENV=.venv-oldest TORCH=2.10.0 PINS=Testing/oldest.txt test

newest:
	$(MAKE) VENV=.venv-newest TORCH=$(NEWEST_TORCH) PINS=/dev/null test

lint: style audit

style: $(VENV)/.with-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/bandit --quiet --recursive -ll --skip B113,B615 DiffSegLib DiffSeg

# pip-audit is content with packages that it could not look up; here they are told, and nobody takes them for good ones
audit: $(VENV)/.with-dev
	sed 's/+.*//' $(VENV)/torch.txt Testing/lock.txt > $(VENV)/audit.txt
	@$(BIN)/pip-audit --requirement $(VENV)/audit.txt --no-deps --disable-pip --progress-spinner off > $(VENV)/audited.txt || \
		{ cat $(VENV)/audited.txt; echo "Not passed: pip-audit found a vulnerability or could not work, see above."; exit 1; }
	@missed=$$(grep -c "could not be audited" $(VENV)/audited.txt); [ "$$missed" = 0 ] || \
		{ grep "could not be audited" $(VENV)/audited.txt | head -3; \
		  echo "Not done: $$missed of $$(grep -c == $(VENV)/audit.txt) packages could not be looked up at PyPI (is pypi.org/pypi reachable?), so"; \
		  echo "their known vulnerabilities are not ruled out. Run make audit where it is; make style needs no network."; exit 1; }

bench: $(VENV)/.with-bench
	$(BIN)/python Testing/benchmarks/run.py

lock:
	rm -rf .venv-lock
	$(MAKE) VENV=.venv-lock PINS=/dev/null .venv-lock/.with-scene+demo+test+dev
	.venv-lock/bin/python -m pip freeze --exclude-editable --exclude torch > Testing/lock.txt

clean:
	rm -rf .venv .venv-oldest .venv-newest .venv-lock mutants .coverage demo build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find DiffSeg DiffSegLib Testing -name __pycache__ -type d -prune -exec rm -rf {} +

# The first constraint keeps whatever is installed later from exchanging torch for another build. A version of the lock
# may not exist for this Python, or have been withdrawn; then the ranges of pyproject.toml decide alone. Other pins are
# meant as they are: the oldest packages would else be the newest without a word.
$(VENV)/.with-%: pyproject.toml $(PINS) $(TORCH_READY)
	@$(PIP) install --quiet --constraint $(VENV)/torch.txt --constraint $(PINS) --editable ".[$(subst +,$(comma),$*)]" || \
		{ [ $(PINS) = Testing/lock.txt ] || exit 1; echo "The versions of $(PINS) cannot be installed here; taking what pyproject.toml allows."; \
		  $(PIP) install --quiet --constraint $(VENV)/torch.txt --editable ".[$(subst +,$(comma),$*)]"; }
	@touch $@

# On Linux plain "torch" is the CUDA build, several gigabytes of it. Without a working NVIDIA driver the build called
# "+cpu" is asked for by name, so that no other can come: first where pip looks anyway (a mirror or a folder of wheels
# that pip.conf names), then from PyTorch's own index. macOS has one build only, and that is the plain one.
$(TORCH_READY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "DiffSeg needs Python 3.11 or newer; name one, for instance: make PYTHON=python3.12 test"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@if [ "$$(uname -s)" != Linux ] || nvidia-smi >/dev/null 2>&1; then \
		echo "Installing torch $(TORCH)"; \
		$(PIP) install --quiet "torch==$(TORCH)"; \
	else \
		echo "No NVIDIA GPU found: installing torch $(TORCH) for the CPU"; \
		$(PIP) install --quiet --no-deps --retries 1 "torch==$(TORCH)+cpu" 2>/dev/null || \
		$(PIP) install --quiet --no-deps --retries 2 --timeout 30 --index-url $(CPU_INDEX) "torch==$(TORCH)+cpu" || \
		{ echo "No CPU build of torch $(TORCH) could be installed: neither pip's own sources nor $(CPU_INDEX) gave one."; \
		  echo "Check the network, or put its wheel into a folder and run: PIP_FIND_LINKS=FOLDER make test"; exit 1; }; \
	fi
	@$(BIN)/python -c 'from importlib.metadata import version; print("torch==" + version("torch"))' > $(VENV)/torch.txt
	@touch $@
