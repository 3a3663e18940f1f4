# demo: set up and run the embedded default. test: set up and pass the tests. check: lint, types, layers. docs: the site in
# build/site. robust: try kills, full disks, damaged files, bad input, and print the table of
# docs/explanation/reliability.md. wheels: build all.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PACKAGES := -e . -e plugins/mint_metrics -e plugins/mint_plip -e plugins/mint_gestalt -e plugins/mint_rag -e plugins/mint_trl
PROJECTS := pyproject.toml $(wildcard plugins/*/pyproject.toml)

.PHONY: demo test check docs robust wheels clean

demo: $(VENV)/ready
	$(BIN)/mint run --teacher plip --aligner orpo

test: $(VENV)/ready-dev
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

check: $(VENV)/ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/ready-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

robust: $(VENV)/ready-dev
	$(BIN)/python -m tests.robustness --out build/robust

wheels: $(VENV)/ready-dev
	rm -rf dist build plugins/*/build
	for project in . plugins/*/; do $(BIN)/python -m build -q --wheel --outdir dist $$project || exit 1; done
	rm -rf build plugins/*/build

$(VENV)/ready: $(PROJECTS)
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "mint needs Python 3.11 or newer; name one: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check $(PACKAGES)
	touch $@

$(VENV)/ready-dev: $(VENV)/ready requirements-dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

clean:
	rm -rf $(VENV) dist build plugins/*/build .mypy_cache .ruff_cache .pytest_cache
