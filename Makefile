# Two commands matter: `make run` serves the default model, `make test` runs every test.
# Environments are made with `venv --clear`: one that an older Python began is no use to another.
PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 8000

SERVE_ENV := .venv-serve
DEV_ENV := .venv
PIP := bin/python -m pip --disable-pip-version-check install -q

PEER_ENV := .venv-peers
PEERS := onnxoptimizer onnxsim onnxslim torchao

.PHONY: run test lint format bench conformance docker docker-test lock clean

run: $(SERVE_ENV)/.done  ## serving dependencies alone, server up, URL and a curl line printed
	exec $(SERVE_ENV)/bin/flatfold serve --host $(HOST) --port $(PORT)

test: $(DEV_ENV)/.done  ## everything installed, all tests (Docker's have their own target)
	$(DEV_ENV)/bin/python -m pytest -n auto -m "not docker" $(PYTEST_ARGS)

lint: $(DEV_ENV)/.done
	$(DEV_ENV)/bin/ruff check .
	$(DEV_ENV)/bin/ruff format --check .
	$(DEV_ENV)/bin/mypy

format: $(DEV_ENV)/.done
	$(DEV_ENV)/bin/ruff check --fix-only -q .
	$(DEV_ENV)/bin/ruff format .

bench: $(DEV_ENV)/.done  ## drive this server and its peers (needs wrk), rewrite docs/benchmarks.md
	$(DEV_ENV)/bin/python -m benchmarks.run $(BENCH_ARGS)

conformance: $(PEER_ENV)/.done  ## measure this tool and its peers, rewrite docs/fold-conformance.md
	$(PEER_ENV)/bin/python benchmarks/conformance.py

docker:  ## build the image flatfold:latest
	deploy/docker-build.sh --tag flatfold

docker-test: $(DEV_ENV)/.done  ## build the image and use it, misuse it, stop it under load
	PYTHON=$(CURDIR)/$(DEV_ENV)/bin/python deploy/docker-test.sh

lock: $(DEV_ENV)/.done  ## refresh the locked serving dependencies (UPGRADE=--upgrade: newer ones)
	PATH="$(CURDIR)/$(DEV_ENV)/bin:$$PATH" requirements/refresh.sh $(UPGRADE)

$(PEER_ENV)/.done: pyproject.toml
	$(PYTHON) -m venv --clear $(PEER_ENV)
	$(PEER_ENV)/$(PIP) -e ".[export]" $(PEERS)
	touch $@

$(SERVE_ENV)/.done: pyproject.toml
	$(PYTHON) -m venv --clear $(SERVE_ENV)
	$(SERVE_ENV)/$(PIP) -e .
	touch $@

$(DEV_ENV)/.done: pyproject.toml
	$(PYTHON) -m venv --clear $(DEV_ENV)
	$(DEV_ENV)/$(PIP) -U "pip>=25.1"
	$(DEV_ENV)/$(PIP) -e ".[train,export,telemetry]" --group dev
	touch $@

clean:
	rm -rf $(SERVE_ENV) $(DEV_ENV) $(PEER_ENV) dist build
