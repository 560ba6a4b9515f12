# Two commands do all set-up on a fresh machine: `make demo` and `make test`. Both begin with `make install`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PYTHONWARNINGS ?= ignore

.PHONY: install install-bench demo test test-kafka lint prove bench lock up clean

# What is installed is what the lock file says, each file by its hash.
install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 14) else "qethics needs Python 3.11 to 3.13, this is %d.%d; set PYTHON=python3.x" % v)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# The peers of `qethics bench pipeline`; users do not need them.
install-bench: install $(VENV)/.installed-bench

$(VENV)/.installed-bench: requirements-bench.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-bench.lock
	@touch $@

demo: install
	$(BIN)/qethics demo

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Everything that needs nothing but Python: unit, property and integration tests, these on the embedded broker.
# Three processes, of which each has a broker of its own: half of the time goes into waiting for heartbeats.
JOBS ?= 3
test: install lint
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile

# The same integration suite on Apache Kafka 4.x (needs Java 17 and Maven Central).
test-kafka: install
	QETHICS_TEST_BROKER=apache $(BIN)/python -m pytest tests/integration

# The longer proofs: exactness under chaos, the gate and policy bundles with real processes, on the embedded broker and on
# Apache Kafka; OPA, Kubernetes' types, and the benches. With `PROVE=bounded` they end within twenty to sixty
# minutes, by the machine. What measures or fills the machine runs alone and says its figures; the rest two at a time.
PROVE ?= full
prove: install-bench
	PROVE=$(PROVE) $(BIN)/python -m pytest tests/proofs -s -m alone
	PROVE=$(PROVE) $(BIN)/python -m pytest tests/proofs -m "not alone" -n 2 --dist loadfile
	PROVE=$(PROVE) QETHICS_TEST_BROKER=apache $(BIN)/python -m pytest tests/proofs -s -m alone
	PROVE=$(PROVE) QETHICS_TEST_BROKER=apache $(BIN)/python -m pytest tests/proofs -m "not alone" -n 2 --dist loadfile

bench: install-bench
	$(BIN)/qethics bench pipeline

# Needs `uv`. Hashes of every platform's files; no registry is named in the lock files.
lock:
	uv pip compile pyproject.toml --extra demo --extra dev --universal --generate-hashes --no-emit-index-url --no-header --quiet -o requirements.lock
	uv pip compile pyproject.toml --extra image --universal --generate-hashes --no-emit-index-url --no-header --quiet -c requirements.lock -o requirements-runtime.lock
	uv pip compile pyproject.toml --extra demo --extra dev --extra bench --universal --generate-hashes --no-emit-index-url --no-header --quiet -c requirements.lock -o requirements-bench.lock

# The whole on one machine: Kafka, two workers, pager, load, Prometheus, Alertmanager, Grafana, Tempo, S3. Needs Docker.
up:
	$(PYTHON) deploy/compose/build.py --secrets
	docker compose up --detach --build --wait

clean:
	rm -rf $(VENV) var .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
