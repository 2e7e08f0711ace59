PYTHON ?= python3
BIN := .venv/bin
KILLS ?= 100
READY := .venv/.ready

.PHONY: quickstart test test-all chaos check setup clean

quickstart: $(READY)
	$(BIN)/purebench run quickstart --db out/quickstart.db
	$(BIN)/purebench report --db out/quickstart.db --out out/quickstart

test: $(READY)
	$(BIN)/pytest -n auto --dist loadfile -m "not slow and not benchmark"

test-all: $(READY)
	$(BIN)/pytest -m "not benchmark"

bench: $(READY)
	$(BIN)/pytest -m benchmark -s tests/benchmarks

chaos: $(READY)
	CHAOS_KILLS=$(KILLS) $(BIN)/pytest -q -s tests/integration/test_chaos.py

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "expected Python 3.11 or newer, got `$(PYTHON) --version`; try: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(READY)

clean:
	rm -rf .venv out
