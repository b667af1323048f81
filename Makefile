# Two commands: `make demo` and `make test`. Each sets up .venv first if it is not there.
VENV   := .venv
PYTHON ?= python3
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
VLLM_STAMP := .venv-vllm/.installed
MODEL  ?= tieout-base

.PHONY: demo reason test bench vllm vllm-environment test-vllm lint format clean

demo: $(STAMP)
	$(BIN)/tieout demo align --out runs/demo

reason: $(STAMP)
	$(BIN)/tieout demo reason --out runs/demo-reason

test: $(STAMP)
	$(BIN)/python -m pytest -n 2

vllm: $(VLLM_STAMP)
	$(PYTHON) scripts/serve_vllm.py --model $(MODEL)

vllm-environment: $(VLLM_STAMP)

test-vllm: $(STAMP) $(VLLM_STAMP)
	TIEOUT_TEST_VLLM=1 $(BIN)/python -m pytest tests/samplers/test_vllm_server.py

bench: $(STAMP)
	$(BIN)/python benchmarks/against_trl.py

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "tieout needs Python 3.11 or later, this is " + sys.version'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(STAMP)

$(VLLM_STAMP): constraints-vllm.txt
	rm -rf .venv-vllm
	$(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r constraints-vllm.txt
	.venv-vllm/bin/python -c 'import vllm'
	touch $(VLLM_STAMP)

clean:
	rm -rf $(VENV) .venv-vllm .pytest_cache .mypy_cache .ruff_cache
