# make demo      installs, tracks real and rendered video, prints scores, opens the App (not with DEMO_ARGS=--no-app)
# make test      installs, runs the test suite (some of it with TEST_ARGS="-k tracker")
# make soak      runs the long tests: kills, signals, clocks, 10,000 frames, 4K (minutes)
# make lint      runs ruff and mypy
# make docs      builds the documentation into site/
# make pictures  takes the pictures of the documentation again (needs Chromium and a font with emoji)
VENV := .venv
BIN := $(VENV)/bin
CHECK := import sys, ensurepip; sys.exit(not (3, 10) <= sys.version_info < (3, 14))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.10; do \
	$$p -c '$(CHECK)' 2>/dev/null && echo $$p && break; done)

# Everything that FiftyOne writes stays under .venv or in a temporary folder: the user's own ~/.fiftyone is left alone.
export FIFTYONE_CONFIG_PATH := $(CURDIR)/$(VENV)/fiftyone/config.json
export FIFTYONE_DEFAULT_DATASET_DIR := $(CURDIR)/$(VENV)/fiftyone/datasets
export FIFTYONE_PLUGINS_DIR := $(CURDIR)
export FIFTYONE_DATABASE_VALIDATION := false
export FIFTYONE_DO_NOT_TRACK := true

.PHONY: demo test soak lint docs pictures
demo: $(VENV)/.demo
	$(BIN)/python scripts/with_mongod.py $(VENV)/fiftyone/database $(BIN)/colortrack demo $(DEMO_ARGS)
test: $(VENV)/.dev
	$(BIN)/python -m pytest $(TEST_ARGS)
soak: $(VENV)/.dev
	COLORTRACK_SOAK=1 $(BIN)/python -m pytest tests/faults tests/browser/test_flow.py tests/test_docs.py $(TEST_ARGS)
lint: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
docs: $(VENV)/.docs
	$(BIN)/mkdocs build --strict

pictures: $(VENV)/.dev
	COLORTRACK_SCREENSHOTS=$(VENV)/pictures $(BIN)/python -m pytest tests/browser
	cd $(VENV)/pictures && for name in *.png; do \
		if [ -f $(CURDIR)/docs/images/$$name ]; then cp $$name $(CURDIR)/docs/images/; fi; done
	$(BIN)/python scripts/readme_pictures.py assets

$(VENV)/.%: pyproject.toml scripts/ensure_mongod.py | $(BIN)/pip
	$(BIN)/python -m pip install -e '.[$*]'
	$(BIN)/python scripts/ensure_mongod.py
	touch $@
$(BIN)/pip:
	@test -n "$(PYTHON)" || { echo "No Python 3.10 to 3.13 with venv found on PATH (Debian: apt install python3-venv);" \
		"name one: make PYTHON=/path/to/python3.11"; exit 1; } >&2
	$(PYTHON) -m venv $(VENV)
