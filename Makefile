# make           check: lint, types, import contracts, every test that needs no server
# make test      everything, with servers of its own
# make ui        the UI of a demo in a browser, clicked and photographed for the README
# make chaos     servers, drains, machines die at random for 29 minutes, one oracle judges (three nodes of each too)
# make soak      the same for a night
# make demo      services, schema, a simulated fleet and Dagster's UI, until Ctrl-C
#                (SCENARIO=rough_day: a fleet with faults; PORT=3001: the UI's port;
#                SECURE=1: servers with TLS, users and passwords; NODES=3: three of each)
# make demo-once the same, unattended; exits 0 when readings arrived and all checks passed
SHELL := bash
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
# Tests share nothing, so they run side by side. Those with servers often wait: some processes of
# pytest, each with a Kafka and a Cassandra of its own (2.4 GB), module by module, long ones first.
WORKERS ?= 3
SERVERS ?= $(shell awk '/MemTotal/ {print ($$2 > 15000000) ? 3 : 2; found = 1} END {if (!found) print 2}' /proc/meminfo 2>/dev/null || echo 2)
CHECK_TESTS := -n $(WORKERS) --dist worksteal -m "not services and not chaos and not ui"

# Tests and demos start hundreds of processes: each would compile every module again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := check
.PHONY: check setup test ui demo demo-once bench chaos soak compose dashboard lock clean

setup: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; ok = (3, 11) <= sys.version_info < (3, 14); sys.exit(None if ok else f"Python 3.11 to 3.13 is needed, this is {sys.version.split()[0]}: make PYTHON=python3.12 ...")'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "Python's venv module is missing; on Debian or Ubuntu: apt-get install python3-venv"; exit 1; }
	@echo "setup: making .venv and installing the locked packages (about 1 GB on disk, a minute or two)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo
	@echo "mypy, beside the tests: it is heard at the end if it objects"
	@said=$$(mktemp); trap 'kill $$types 2>/dev/null; rm -f "$$said"' EXIT; \
	nice $(BIN)/mypy >"$$said" 2>&1 & types=$$!; \
	$(BIN)/pytest -q $(CHECK_TESTS); tests=$$?; \
	wait $$types || { tests=1; echo "mypy:"; cat "$$said"; }; \
	exit $$tests

test: check
	$(BIN)/pytest -n $(SERVERS) --dist loadfile --no-loadscope-reorder \
	    -m "services or chaos or ui" --durations 25

ui: setup  ## the UI of a demo in a browser (Chromium); writes the README's pictures
	UI_PICTURES=docs/images $(BIN)/pytest -v -m ui

chaos: setup  ## IOT_CHAOS_MINUTES says how long, IOT_CHAOS_SEED repeats a choice of faults
	IOT_CHAOS_MINUTES=$${IOT_CHAOS_MINUTES:-18} $(BIN)/pytest -s iot_pipeline_tests/chaos

soak: setup  ## the same for a night
	IOT_CHAOS_MINUTES=$${IOT_CHAOS_MINUTES:-480} $(BIN)/pytest -s iot_pipeline_tests/chaos

demo: setup  ## until Ctrl-C; SCENARIO=rough_day for a fleet with faults, PORT=3001 for the UI's port
	@$(BIN)/iot demo $(if $(SCENARIO),--scenario $(SCENARIO)) $(if $(PORT),--port $(PORT)) $(if $(SECURE),--secure) $(if $(NODES),--nodes $(NODES))

demo-once: setup  ## the same, unattended; exit code 0 when it works
	@$(BIN)/iot demo --once $(if $(PORT),--port $(PORT)) $(if $(SECURE),--secure) $(if $(NODES),--nodes $(NODES))

bench: setup  ## BENCH="--minutes 5 ..." says how much: docs/performance.md
	$(BIN)/python -m benchmarks $(BENCH)

compose: setup  ## the cluster and the secure variant of docker-compose.yml, made anew
	$(BIN)/python -m iot_pipeline.local.compose_files

dashboard: setup  ## deploy/grafana/iot_pipeline.json, made anew
	$(BIN)/python -m iot_pipeline_tests.grafana_dashboard

lock: setup  ## refresh the locks: Python packages (no index address) and the servers' jars
	$(BIN)/uv pip compile pyproject.toml --group dev \
	    --extra local --extra pictures --extra export --extra alerts --extra postgres \
	    --extra avro --extra protobuf --extra otel --extra celery --universal --python-version 3.11 \
	    --generate-hashes --no-strip-extras --no-emit-index-url --no-header --quiet -o requirements.lock
	$(BIN)/python -m iot_pipeline.local.jar_locks
	$(BIN)/python -m iot_pipeline_tests.cassandra_4_1

clean:
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
