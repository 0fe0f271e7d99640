# The commands of this project; `make help` lists them.

PY ?= python3
BIN := .venv/bin
STAMP := .venv/installed
PLAIN := .venv/installed-plain
# CPU=1 takes torch's build for CPUs, from where the image has it, which saves gigabytes on Linux; TORCH_INDEX=URL takes it from there
TORCH_INDEX = $(if $(CPU),$(shell sed -n 's/^ARG TORCH_INDEX=//p' deploy/Dockerfile))
TORCH = $(if $(TORCH_INDEX),$(BIN)/python -m pip install --quiet torch --index-url $(TORCH_INDEX))
QUESTION := May allow_origins be a wildcard when allow_credentials is True?

# a process a core, each with one thread and some 2 GB; a file's tests stay together
SHARED_OUT := -n $(or $(WORKERS),auto) --maxprocesses 4 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help setup models demo types check format test test-lab coverage test-data test-integrations soak chaos mutations image chroot screenshots docs typescript-types dist release-check bench bench-answers bench-gpu peers clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' Makefile

setup: $(STAMP) ## make .venv and install tamis, tamis-agents, the lab and the development tools

.venv/bin/python:
	@test -x $(BIN)/python || $(PY) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PY) is missing or older than Python 3.11; name another: make PY=python3.13 setup" >&2; exit 1; }
	@test -x $(BIN)/python || $(PY) -m venv .venv || \
	  { rm -rf .venv; echo "$(PY) -m venv failed; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --upgrade pip

$(STAMP): pyproject.toml agents/pyproject.toml lab/pyproject.toml | .venv/bin/python
	@echo "installing tamis and its tools into .venv; torch is large, so the first time takes minutes"
	$(TORCH)
	$(BIN)/python -m pip install --quiet -e '.[dev]' -e './agents[mcp]'
	$(BIN)/python -m pip install --quiet -e './lab[dev]'
	@touch $@ $(PLAIN)

$(PLAIN): pyproject.toml agents/pyproject.toml | .venv/bin/python
	@echo "installing tamis into .venv; torch is large, so the first time takes minutes"
	$(TORCH)
	$(BIN)/python -m pip install --quiet -e . -e ./agents
	@touch $@

models: setup ## fetch the models of the default method (346 MB, once)
	$(BIN)/tamis models pull

demo: $(PLAIN) ## compress the example pages to 300 tokens, without the development tools
	$(BIN)/tamis models pull
	$(BIN)/tamis compress examples/fastapi-docs -q "$(QUESTION)" --max-tokens 300 --explain

types: ## link the folders under the names they install as, for mypy
	@mkdir -p .types/tamis .types/tamis_agents .types/tamis_lab
	@for path in $(wildcard probes text compressors retrieval service service/front/*.py*); do \
	  ln -sfn ../../$$path .types/tamis/$${path##*/}; done
	@for path in $(wildcard agents/commands agents/gateway agents/*.js agents/*.py*); do \
	  ln -sfn ../../$$path .types/tamis_agents/$${path##*/}; done
	@for path in $(wildcard lab/bench lab/datasets lab/methods lab/options lab/train lab/*.py*); do \
	  ln -sfn ../../$$path .types/tamis_lab/$${path##*/}; done

check: setup types ## lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup ## rewrite the files as `make check` wants them
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: models check ## check, then every test of tamis and tamis-agents that needs no data set (ORDER=random, WORKERS=1)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not data" $(SHARED_OUT) $(if $(filter random,$(ORDER)),--random-order)

test-lab: models check ## check, then every test of the lab that needs no data set
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest lab/tests -m "not data" $(SHARED_OUT) $(if $(filter random,$(ORDER)),--random-order)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -p lab.tests.law_methods tests/laws -m "not data" $(SHARED_OUT)

coverage: models ## line coverage of the quick tests, a figure and no gate
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not data and not slow" $(SHARED_OUT) \
	  --cov=tamis --cov=tamis_agents --cov-report=term --cov-report=xml

test-data: models ## the tests that measure on ../shared/data
	$(BIN)/python -m pytest tests agents/tests lab/tests -m data

test-integrations: models ## tamis inside other projects, each in an environment of its own
	$(BIN)/python -m tests.integrations.environments

soak: models ## the service under twice the load it can bear, ten minutes (MINUTES=3 for three)
	$(BIN)/python -m tests.soak.load --minutes $(or $(MINUTES),10)

chaos: models ## every fault test, each with its promise (SHARE=0.1 for a tenth of the faults)
	$(BIN)/python -m tests.chaos --share $(or $(SHARE),1)

mutations: models ## two hundred faults in the source, does a test notice? (SHARE=0.1 for the first tenth)
	$(BIN)/python -m tests.mutations --share $(or $(SHARE),1)

image: ## the image of the service, with docker (TARGET=cuda for GPUs)
	docker build -f deploy/Dockerfile --target $(or $(TARGET),cpu) -t tamis:$(or $(TARGET),cpu) .

chroot: ## the image's steps where there is no engine, then the smoke test; as root
	python3 -m tests.deploy.chroot build deploy/Dockerfile --target cpu
	python3 -m tests.deploy.chroot run deploy/Dockerfile --target cpu

screenshots: models ## the pictures of the page and the terminal, into docs/; needs chromium
	$(BIN)/python -m tests.screenshots

docs: setup ## the reference from the code, then the site, into site/; every warning is an error
	$(BIN)/python docs/_site.py
	$(BIN)/python -m mkdocs build --strict --quiet

typescript-types: setup types ## the types of the TypeScript client, anew from the service's OpenAPI document
	cd clients/typescript && npm ci --no-audit --no-fund
	$(BIN)/python clients/typescript/openapi_document.py > .types/openapi.json
	cd clients/typescript && npm run --silent types -- ../../.types/openapi.json --output src/openapi.ts

dist: setup ## wheels and source distributions of tamis, tamis-agents and the lab, into dist/
	rm -rf dist build
	$(BIN)/python -m build --outdir dist .
	$(BIN)/python -m build --outdir dist agents
	$(BIN)/python -m build --outdir dist lab

release-check: dist ## open both, install the wheel into empty environments, ask it, list licences
	$(BIN)/python -m tests.release dist

bench-gpu: setup ## what a user of a GPU waits for: whole requests, cold and kept, one and 64 at a time
	$(BIN)/python -m tamis_lab.bench.gpu

peers: models ## tamis and published compressors side by side, each in an environment of its own
	$(BIN)/python -m lab.tests.peers.environments
	TAMIS_PEERS=1 $(BIN)/python -m pytest -q lab/tests/peers/test_packages.py lab/tests/peers/test_tool_packages.py
	$(BIN)/tamis lab bench peers

bench: models ## how much evidence each method keeps, at which budget
	$(BIN)/tamis lab bench evidence

READERS := qwen2.5-coder-0.5b qwen2.5-coder-1.5b
bench-answers: models ## how well two readers (1.6 GB) still answer from what is kept; hours, and goes on where it stopped
	for reader in $(READERS); do \
	  $(BIN)/tamis models pull $$reader --home build/readers && \
	  $(BIN)/tamis lab bench answers --reader build/readers/models/$$reader --coverage 0.9 \
	    --results build/answers-$$reader.jsonl --plot build/answers-$$reader.png || exit 1; \
	done

clean: ## remove what can be made again, the models aside
	rm -rf .venv .types build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage coverage.xml
