# jaxcache: `make help` lists what can be made.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check --no-compile
# uv takes a third of the time; it reads none of pip's settings, so that pip installs where uv finds no index.
install = $(BIN)/uv pip install --quiet --python $(BIN)/python $(1) || $(PIP) $(1)
SECONDS ?= 120
SEED ?= 0
SEEDS ?= 50
WRITERS ?= 1000
ROUNDS ?= 20
TRIALS ?= 40
RUNNER ?= local
RESOLVE := $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --quiet
JAX_SOURCE ?= ../jax
JAX_TESTS ?= api pjit aot array jax_jit debug_nans mutable_array multi_device ann api_util error_check python_callback
FILES ?= $(sort $(shell find tests -name 'test_*.py'))
# Not ?=: some shells export a HOST, which is not meant.
HOST =
DB =

.DEFAULT_GOAL := help
.PHONY: help setup sweep test test-alone torture torture-remote torture-writers torture-code-keys torture-sweep torture-slurm parity check format ui stop deploy bench bench-gpu measured figures
.PHONY: docs diagrams examples lock release clean

help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'
	@echo "  PYTHON=python3.12 make … picks the interpreter of a new $(VENV)"

setup: $(READY) ## Make .venv from the hashed lock file

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
		|| { echo "jaxcache needs Python 3.11, 3.12 or 3.13, but $(PYTHON) is $$($(PYTHON) --version 2>&1); set PYTHON=…"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing what requirements.lock lists into $(VENV) (less than a minute, or two) …"
	-@$(PIP) --require-hashes -r requirements-uv.lock
	@$(call install,--require-hashes -r requirements.lock)
	@$(call install,--no-build-isolation --no-deps -e .)
	@touch $@

sweep: $(READY) ## Run the default study: lru and size_based on all three workloads
	$(BIN)/python -m flows.sweep eviction=lru,size_based

test: $(READY) ## Run the tests
	$(BIN)/python -m pytest

test-alone: $(READY) ## Run each test file in a process of its own (FILES="tests/…")
	@for file in $(FILES); do echo "$$file"; $(BIN)/python -m pytest "$$file" || exit 1; done

torture: $(READY) ## Kill processes and damage files of a shared directory (SECONDS=120 SEED=0)
	$(BIN)/python -m tests.torture.disk --seconds $(SECONDS) --seed $(SEED)

torture-remote: $(READY) ## Kill writers of an object store and its server, and flip bytes in it (SECONDS=120 SEED=0)
	$(BIN)/python -m tests.torture.remote --seconds $(SECONDS) --seed $(SEED)

torture-writers: $(READY) ## Let writers of an object store loose at once, more than it can serve (WRITERS=1000)
	$(BIN)/python -m tests.torture.writers --writers $(WRITERS)

torture-code-keys: $(READY) ## Kill processes that start without tracing, and edit their code between runs (SECONDS=120 SEED=0)
	$(BIN)/python -m tests.torture.code_keys --seconds $(SECONDS) --seed $(SEED)

torture-sweep: $(READY) ## Kill trials, flow and server of sweeps that must end right (SEEDS=50 SEED=0 TRIALS=40 RUNNER=local)
	$(BIN)/python -m tests.torture.sweep --seeds $(SEEDS) --seed $(SEED) --trials $(TRIALS) --runner $(RUNNER)

torture-slurm: $(READY) ## Kill jobs, trials and daemons of a SLURM that runs sweeps here, as root (ROUNDS=20 SEED=1)
	$(BIN)/python -m tests.torture.slurm --rounds $(ROUNDS) --seed $(SEED)

parity: $(READY) ## Run JAX's own tests with cache.jit in the place of jax.jit (JAX_SOURCE=../jax JAX_TESTS="api pjit")
	$(BIN)/python -m tests.parity.compare $(JAX_TESTS:%=$(JAX_SOURCE)/tests/%_test.py)

check: $(READY) ## Run what CI runs: lint, format, types, tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright --pythonpath $(BIN)/python
	$(BIN)/python -m pytest

format: $(READY) ## Format the code and sort imports
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(READY) ## Build the site into outputs/site, to be opened from disk
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "outputs/site/index.html"

diagrams: $(READY) ## Draw the documents' diagrams that were changed (needs npm and Chromium)
	@$(BIN)/python docs/diagrams.py

examples: $(VENV)/.examples ## Run the programs of examples/ again, and keep what they print
	$(BIN)/python docs/gallery.py

$(VENV)/.examples: requirements-examples.lock $(READY)
	@$(call install,--require-hashes -r requirements-examples.lock)
	@touch $@

ui: $(READY) ## Start the project's Prefect server if need be, and open its UI (HOST=0.0.0.0 DB=postgresql://…)
	@$(BIN)/python -m flows.server open $(if $(HOST),--host '$(HOST)') $(if $(DB),--database '$(DB)')

stop: $(READY) ## End the project's Prefect server
	$(BIN)/python -m flows.server stop

deploy: $(READY) ## Offer the sweep to the Prefect server, to start and schedule it from the UI (POOL=name)
	$(BIN)/python -m flows.deploy $(if $(POOL),--pool $(POOL))

bench: $(READY) ## Run the benchmarks; they print ratios, and write benchmarks/results/ and docs/measured.md
	$(BIN)/python -m benchmarks.hit_path
	$(BIN)/python -m benchmarks.memory
	$(BIN)/python -m benchmarks.policies
	$(BIN)/python -m benchmarks.replay
	$(BIN)/python -m benchmarks.buckets
	$(BIN)/python -m benchmarks.loops
	$(BIN)/python -m benchmarks.disk
	$(BIN)/python -m benchmarks.warm_start
	$(BIN)/python -m benchmarks.reload_costs
	$(BIN)/python -m benchmarks.process
	$(BIN)/python -m benchmarks.remote
	$(BIN)/python -m benchmarks.watching
	$(BIN)/python -m benchmarks.attribution
	$(BIN)/python -m benchmarks.pytest_plugin
	$(BIN)/python -m benchmarks.sweep_overhead
	$(BIN)/python -m benchmarks.scale
	$(BIN)/python -m benchmarks.sweep_peers
	if command -v slurmctld >/dev/null; then $(BIN)/python -m benchmarks.slurm_sweep; fi
	$(BIN)/python -m benchmarks.tune
	$(BIN)/python docs/measured.py

measured: $(READY) ## Write docs/measured.md and the README's figures from benchmarks/results/
	$(BIN)/python docs/measured.py

bench-gpu: ## Run the library's benchmarks on a GPU; needs only jax[cuda] and numpy for PYTHON
	PYTHONPATH=src $(PYTHON) -m benchmarks.gpu

figures: $(READY) ## Make the README's answer and pictures again, from conf/experiment/readme.yaml
	$(BIN)/python -m flows.sweep experiment=readme
	$(BIN)/python docs/figures.py

lock: $(READY) ## Resolve the lock files anew
	$(RESOLVE) pyproject.toml --extra dev --upgrade -o requirements.lock
	$(RESOLVE) pyproject.toml --extra examples --constraints requirements.lock -o requirements-examples.lock
	echo uv | $(RESOLVE) - --no-annotate --upgrade -o requirements-uv.lock

release: $(READY) ## Build dist/, and try the wheel in a fresh environment of each Python that is here
	VENV=$(VENV) .ci/release

clean: stop ## Remove what was made, but not outputs/
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis
