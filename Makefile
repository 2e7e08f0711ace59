PYTHON ?= python3
BIN := .venv/bin
KILLS ?= 100
BUSY ?= 16
# what people run needs less than what developers do
PLAIN := .venv/.plain
READY := .venv/.ready

# a processor that can do less, and so adds in other orders; of numpy's abilities, those that it found here
MASK := ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 MKL_ENABLE_INSTRUCTIONS=SSE4_2 \
	OPENBLAS_CORETYPE=Nehalem OMP_NUM_THREADS=1
FOUND := from numpy._core._multiarray_umath import __cpu_dispatch__ as known, __cpu_features__ as has; \
	print(*(name for name in known if has[name]))

# one process more than there are cores: some tests wait for others
SEATS := import os; cores = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1)); print(len(cores(0)) + 1)

.PHONY: quickstart test test-masked test-loaded test-all bench chaos picture check setup clean

quickstart: $(PLAIN)
	$(BIN)/purebench run quickstart --db out/quickstart.db
	$(BIN)/purebench report --db out/quickstart.db --out out/quickstart

test: $(READY)
	$(BIN)/pytest -n `$(BIN)/python -c '$(SEATS)'` --dist loadfile --no-loadscope-reorder -m "not slow and not benchmark"

# the same on another processor, and beside others that want this one
test-masked: $(READY)
	$(MASK) NPY_DISABLE_CPU_FEATURES="`$(BIN)/python -c '$(FOUND)'`" $(MAKE) test

test-loaded: $(READY)
	@for number in `seq $(BUSY)`; do sh -c 'while :; do :; done' & busy="$$busy $$!"; done; \
		trap "kill $$busy" EXIT INT TERM; $(MAKE) test

test-all: $(READY)
	$(BIN)/pytest -m "not benchmark"

bench: $(READY)
	$(BIN)/pytest -m benchmark -s tests/benchmarks

chaos: $(READY)
	CHAOS_KILLS=$(KILLS) $(BIN)/pytest -q -s tests/integration/test_chaos.py

# the README's picture of the page that make quickstart wrote
picture: $(READY)
	chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --window-size=1280,900 \
		--user-data-dir=out/chromium --screenshot=page.png file://$(CURDIR)/out/quickstart/index.html
	$(BIN)/python -c 'from PIL import Image; Image.open("page.png").quantize(64).save("page.png", optimize=True)'

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

setup: $(READY)

$(PLAIN): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "expected Python 3.11 or newer, got `$(PYTHON) --version`; try: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --disable-pip-version-check -c constraints.txt -e .
	@touch $(PLAIN)

$(READY): $(PLAIN)
	$(BIN)/pip install --disable-pip-version-check -c constraints.txt -e '.[dev]'
	# torchattacks brings old files of robustbench along, and lays them over the ones that are there
	$(BIN)/pip install --disable-pip-version-check -c constraints.txt --no-deps --force-reinstall robustbench
	@touch $(READY)

clean:
	rm -rf .venv out
