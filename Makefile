# Each target's plain commands are in README.md, "Without make".
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Without a GPU torch comes as its CPU build. `make demo TORCH_CONSTRAINT=` takes whatever pip finds.
TORCH_CONSTRAINT ?= $(shell command -v nvidia-smi >/dev/null 2>&1 || echo "-c constraints/cpu.txt")

.PHONY: demo docs test test-oldest-gymnasium lint clean

demo: $(STAMP)
	$(BIN)/python -m experiments demo --out runs/demo

test: $(STAMP)
	$(BIN)/python -m pytest
	$(MAKE) test-oldest-gymnasium

# RLlib pins Gymnasium 1.2.2: the contract tests run on it too, laid over the installed one.
test-oldest-gymnasium: $(STAMP)
	test -d $(VENV)/gymnasium-1.2 || $(BIN)/python -m pip install -q --target $(VENV)/gymnasium-1.2 --no-deps "gymnasium==1.2.2"
	PYTHONPATH=$(VENV)/gymnasium-1.2 $(BIN)/python -m pytest tests/contracts

docs: $(STAMP)
	$(BIN)/mkdocs build --strict

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

$(STAMP): pyproject.toml constraints/cpu.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q $(TORCH_CONSTRAINT) torch || { echo "pip found no CPU build of torch. Give it the index \
	of CPU builds that PyTorch's installation page names (PIP_EXTRA_INDEX_URL=... make $(MAKECMDGOALS)), or take the \
	default build, several GB: make $(MAKECMDGOALS) TORCH_CONSTRAINT="; exit 1; }
	$(BIN)/python -m pip install -q $(TORCH_CONSTRAINT) -e ".[test]"
	touch $(STAMP)

clean:
	rm -rf $(VENV) build site *.egg-info
