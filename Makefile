# Every command a person needs. `make` alone lists them; nothing has to be installed first but
# Python 3.11 or newer.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# arm64 or x86_64: what the function runs on. The layer serves both (docs/decisions/0003).
ARCHITECTURE ?= arm64

# Where `make local` listens. A container on Linux reaches its host at the bridge's gateway:
# make local HOST=172.17.0.1
HOST ?= 127.0.0.1

# Options for the commands that take some, for instance: make bench ARGS="--only idle"
ARGS ?=

VENV := .venv
PY := $(VENV)/bin/python
SAM_VENV := .venv-sam
SAM := $(SAM_VENV)/bin/sam

export SAM_CLI_TELEMETRY := 0
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_RETRIES := 8
# `sam validate` wants a region to name, though it asks AWS nothing.
export AWS_DEFAULT_REGION ?= us-east-1

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# ---------------------------------------------------------------- environments

# Sets $$python to the first interpreter that is new enough and can make a virtual environment.
# Each is run, not looked up: a version manager's shim is on PATH without its Python installed.
define find_python
for python in $(PYTHON) python3.13 python3.12 python3.11 python3 ''; do \
  test -n "$$python" || break; \
  "$$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' \
    >/dev/null 2>&1 && break; \
done; \
test -n "$$python" || { \
  echo 'No Python that can be used: Tidemark needs 3.11 or newer with its venv module.' >&2; \
  echo '  Debian, Ubuntu:  apt-get install python3-venv' >&2; \
  echo '  macOS:           brew install python@3.13' >&2; \
  echo '  elsewhere:       make … PYTHON=/path/to/python3.13' >&2; \
  exit 1; }
endef

# $(1): the virtual environment, $(2): its pinned and hashed requirements, complete, so that pip
# has nothing to resolve (which it cannot do with hashes where a package is wanted with an extra).
define make_venv
@$(find_python); \
echo "Setting up $(1) with $$("$$python" --version)"; \
"$$python" -m venv --clear $(1) && \
$(1)/bin/python -m pip install --quiet --no-deps --require-hashes -r $(2)
@touch $(1)/.installed
endef

$(VENV)/.installed: requirements-dev.txt
	$(call make_venv,$(VENV),$<)

$(SAM_VENV)/.installed: requirements-sam.txt
	$(call make_venv,$(SAM_VENV),$<)

.PHONY: venv
venv: $(VENV)/.installed ## Set up .venv with everything but SAM (the other targets do it for you)

# What the Lambda runtime carries is not the layer's, whoever asks for it (docs/decisions/0001).
OF_THE_RUNTIME := $(addprefix --no-emit-package ,boto3 botocore s3transfer python-dateutil six urllib3)

# $(1): the file without its ending, $(2): more options.
define compile
@.tidemark/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
  --no-emit-index-url $(2) --custom-compile-command 'make lock' --output-file $(1).txt $(1).in
endef

.PHONY: lock
lock: ## Pin and hash the requirements*.in files anew
	@$(find_python); "$$python" -m venv .tidemark/lock
	@.tidemark/lock/bin/python -m pip install --quiet uv==0.13.9
	$(call compile,layers/tidemark/requirements,$(OF_THE_RUNTIME))
	$(call compile,requirements-dev)
	$(call compile,requirements-sam)

# ---------------------------------------------------------------- try it

.PHONY: demo
demo: $(VENV)/.installed ## Watch the main job for 40 s: real change streams, killed containers, a verdict
	@$(PY) local/demo.py

.PHONY: local
local: $(VENV)/.installed ## Keep an embedded MongoDB and AWS running, for `sam local invoke`
	@$(PY) local/world.py --host $(HOST) $(ARGS)

# ---------------------------------------------------------------- judge it

# MongoDB's BSON corpus is in the source distribution of PyMongo, which is had at the layer's pin.
CORPUS := .tidemark/bson-corpus

$(CORPUS)/.fetched: layers/tidemark/requirements.txt | $(VENV)/.installed
	@rm -rf $(CORPUS) && mkdir -p $(CORPUS)
	@awk '/^pymongo==/ { found = 1 } found; found && !/\\$$/ { exit }' $< > $(CORPUS)/pymongo.txt
	@$(PY) -m pip download --quiet --no-deps --no-binary pymongo --require-hashes \
	  --dest $(CORPUS) -r $(CORPUS)/pymongo.txt
	@touch $@

.PHONY: test
test: $(VENV)/.installed $(SAM_VENV)/.installed $(CORPUS)/.fetched ## Run all tests (MONGODB_URI=… runs them on a real replica set)
	@$(PY) -m pytest

.PHONY: lint
lint: $(VENV)/.installed $(SAM_VENV)/.installed ## Format, lint, types and template, without the tests
	@$(PY) -m ruff format --check
	@$(PY) -m ruff check
	@$(PY) -m mypy
	@$(SAM) validate --lint
	@$(VENV)/bin/cfn-lint --template template.yaml --non-zero-exit-code informational

.PHONY: check
check: lint test ## Everything that CI runs, the tests last

# What finds the rare: each says its seed, so that it can be had again (ARGS="--seed 7").

.PHONY: soak
soak: $(VENV)/.installed ## Play 10,000 random schedules of crashes and faults against the engine
	@$(PY) tests/simulation/soak.py --schedules 10000 $(ARGS)

.PHONY: exhaust
exhaust: $(VENV)/.installed ## Look into every state of 2 containers, 3 changes and 2 faults (10 minutes at most)
	@$(PY) tests/simulation/exhaust.py --mutations $(ARGS)

.PHONY: chaos
chaos: $(VENV)/.installed ## Kill and freeze real containers 200 times, let a stream fall behind (20 minutes at most)
	@$(PY) local/chaos.py --kills 200 $(ARGS)
	@$(PY) local/chaos_scans.py

.PHONY: bench
bench: $(VENV)/.installed ## Measure everything in docs/performance.md again (20 minutes)
	@$(PY) bench/run.py $(ARGS)

# ---------------------------------------------------------------- deploy it

.PHONY: build
build: $(SAM_VENV)/.installed ## Build function and layer into .aws-sam (ARCHITECTURE=x86_64)
	@TIDEMARK_ARCHITECTURE=$(ARCHITECTURE) TIDEMARK_PYTHON='$(CURDIR)/$(SAM_VENV)/bin/python' \
	  $(SAM) build --parameter-overrides Architecture=$(ARCHITECTURE)
	@tar -C .aws-sam/build/TidemarkLayer -czf - . | wc -c | \
	  awk '{ printf "The layer: %.1f MB compressed (Lambda takes 50)\n", $$1 / 1e6 }'

.PHONY: clean
clean: ## Remove everything that these targets made
	rm -rf $(VENV) $(SAM_VENV) .aws-sam .tidemark .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
