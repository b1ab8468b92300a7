# The front door. Everything runs in .venv, which set-up makes from the hashed locks; nothing else is touched.

PYTHON ?= python3
VENV := .venv/bin
RUN := $(VENV)/python

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev demo demo-products demo-issues up test simulate interleave museum chaos chaos-planner test-cluster lint format image verify stubs docs bench bench-large eval train clean

help:  ## This list
	@echo "penstock: make TARGET"
	@grep -hE '^[a-z-]+:.*  ## ' $(MAKEFILE_LIST) | awk -F ':.*  ## ' '{ printf "  %-13s %s\n", $$1, $$2 }'

setup:  ## Make .venv with .venv/bin/penstock (Python 3.11 or newer with its venv module)
	@$(PYTHON) -I tools/setup.py runtime

setup-dev:
	@$(PYTHON) -I tools/setup.py dev

demo: setup  ## Documents in, results out, in a few minutes: demo-out/ [DOCS=FOLDER|FILE.zip]
	@$(RUN) -m tools.demo $(if $(DOCS),"$(DOCS)")

demo-products: setup  ## A catalog scanned under limits, through two kills: demo-out/products/ [DATA=FILE.jsonl]
	@$(RUN) -m tools.demo_products $(if $(DATA),"$(DATA)")

demo-issues: setup-dev  ## Issues labelled by what is missing or unsure: demo-out/issues/ [DATA=FILE.jsonl|FILE.csv.gz] [FRESH=1]
	@$(RUN) -m tools.demo_issues "$(DATA)" $(if $(FRESH),fresh)

up: setup  ## Start Penstock here until Ctrl-C [ARGS="--port 9000 --data DIR"]
	@exec $(VENV)/penstock up $(ARGS)

test: setup-dev  ## All tests, on real servers [ARGS="tests/unit -k name"]
	@$(RUN) -m tools.test $(ARGS)

simulate: setup-dev  ## The scheduler under virtual time and every fault [SEEDS=2000]
	@PYTHONHASHSEED=0 $(RUN) -m tests.simulator --seeds $(or $(SEEDS),2000) $(ARGS)

interleave: setup-dev  ## Two schedulers on PostgreSQL, every pair of operations at every statement [ARGS="-k grant-report"]
	@$(RUN) -m tests.interleaved $(ARGS)

museum: setup-dev  ## Known defects, put in one by one: each must be found [ARGS="-k fence"]
	@PYTHONHASHSEED=0 $(RUN) -m tests.museum $(ARGS)

chaos: setup-dev  ## Real programs killed, stopped and cut off while they work [MINUTES=10]
	@$(RUN) -m tests.chaos --minutes $(or $(MINUTES),10) $(ARGS)

chaos-planner: setup-dev  ## Planner, database, scheduler killed at moments of all that the planner writes [KILLS=2 an act]
	@PLANNER_KILLS=$(or $(KILLS),2) $(RUN) -m tools.test tests/chaos/test_planner_kills.py $(ARGS)

test-cluster: setup-dev  ## On a real cluster, as root [TIER=image|chart|control-plane|scale|node|faults|box] [ARGS="-k name"]
	@$(RUN) -m tests.cluster --install $(TIER) -- $(ARGS)

lint: setup-dev  ## ruff and mypy --strict
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .
	@$(RUN) -m mypy

format: setup-dev
	@$(RUN) -m ruff check --fix .
	@$(RUN) -m ruff format .

image:  ## The container image, its bill of materials and weights: build/image/ [BASE_IMAGE=NAME@sha256:…] [ARGS=]
	@$(PYTHON) -m tools.image $(if $(BASE_IMAGE),--base "$(BASE_IMAGE)") $(ARGS)

verify: setup-dev  ## Generated files and documents say what their sources say
	@$(RUN) -m tools.verify

stubs: setup-dev  ## Generate penstock/v1 from protos/
	@$(RUN) -m tools.stubs

docs: setup-dev  ## Write the settings' table into docs/operating.md
	@$(RUN) -m tools.verify --write-docs

bench: setup-dev  ## Speed and size, as tables and bench-out/*.json [ARGS=--quick]
	@$(RUN) -m tests.bench $(ARGS)

bench-large: setup-dev  ## CPU an item and memory at 10,000,000 items on SQLite: half an hour, 8 GB [ITEMS=10000000]
	@$(RUN) -m tests.bench.size --large $(or $(ITEMS),10000000)

eval: setup-dev  ## Measure the detector and the clusters: eval-out/ (needs the data beside the project)
	@$(RUN) -P -m analyzer.evaluation evaluate $(ARGS)

train: setup-dev  ## Make the shipped model again from the same data
	@$(RUN) -P -m analyzer.evaluation train $(ARGS)

clean:  ## Remove .venv and what the targets above have written
	rm -rf .venv demo-out bench-out eval-out build *.egg-info .mypy_cache .ruff_cache .pytest_cache
