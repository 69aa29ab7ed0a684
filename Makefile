# make chat   the sample bot's page        make test   all tests
# make check  format, lint, strict types   PIP_ARGS    options for pip, e.g. your own index

PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
PIP_ARGS ?=
export FEATHERDESK_PIP_ARGS := $(PIP_ARGS)

.PHONY: chat test check install install-dev format clean

chat: $(VENV)/.installed
	$(BIN)/featherdesk demo $(CHAT_ARGS)

install: $(VENV)/.installed
install-dev: $(VENV)/.installed-dev

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --upgrade pip $(PIP_ARGS)
	$(BIN)/python -m pip install -c constraints.txt $(PIP_ARGS) -e '.[cpu,train,serve,mcp]'
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install -c constraints.txt $(PIP_ARGS) -e '.[cpu,train,serve,mcp,dev]'
	mkdir -p build/ns && ln -sfn ../.. build/ns/featherdesk
	touch $@

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest

check: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy -p featherdesk.agent -p featherdesk.compress -p featherdesk.serve

format: $(VENV)/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
