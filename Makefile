# Every target needs the environment and makes it where it is not there yet; later calls reuse it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/installed

.PHONY: claims test lint mini card clean

## The main job: the IOI claims on GPT-2 small where it is in the local cache, else on the embedded model.
claims: $(READY)
	$(BIN)/python -m pytest claims -k ioi $(ARGS)

## The project's own checks, and all claims on the embedded model.
test: $(READY) lint
	$(BIN)/python -m pytest tests
	$(BIN)/python -m pytest claims --subject mini --report-dir reports/out/test

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

## Train the embedded model anew (about half an hour on 2 cores); `make card` then finds its card anew.
mini: $(READY)
	$(BIN)/python -m training.train_mini
	$(BIN)/python -m training.accept

card: $(READY)
	$(BIN)/python -m training.find_card

# The stamp is written last, so that an interrupted installation is taken up again.
$(READY): requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or later is needed: make PYTHON=python3.12 claims") if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	touch $(READY)

clean:
	rm -rf $(VENV) reports/out .pytest_cache .hypothesis .ruff_cache
