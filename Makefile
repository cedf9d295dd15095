# Two commands: `make demo` shows pc3d at work, `make test` proves it. Both make and fill .venv by themselves.
PYTHON ?= python3
PYTHON_VENV := .venv/bin/python
EXTRAS ?= dev,viz,io,lift,train
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help demo test bench lint native clean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1|/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-14s %s\n", $$1, $$2}'

demo: ## install what the demo needs, then segment the room that ships with pc3d; writes demo/
	@$(PYTHON) tools/setup_env.py
	@$(PYTHON_VENV) -m pc3d demo -o demo

test: ## install the test extras, then run all tests (pytest options: make test ARGS="-k ply")
	@$(PYTHON) tools/setup_env.py --extras $(EXTRAS)
	@OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(PYTHON_VENV) -m pytest -q -n $(WORKERS) $(ARGS)

bench: ## time every op and the whole way of a scan on this machine
	@$(PYTHON) tools/setup_env.py
	@$(PYTHON_VENV) tools/benchmark.py $(ARGS)

lint: ## ruff and mypy
	@$(PYTHON) tools/setup_env.py --extras $(EXTRAS)
	@$(PYTHON_VENV) -m ruff check .
	@$(PYTHON_VENV) -m mypy

native: ## rebuild the native library in place
	@$(PYTHON) tools/setup_env.py
	@$(PYTHON_VENV) setup.py -q build_ext --inplace

clean: ## remove what make made: .venv, builds, caches, demo/
	rm -rf .venv build dist demo *.egg-info pc3d/_C.abi3.so .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find pc3d tests tools -name __pycache__ -type d -prune -exec rm -rf {} +
