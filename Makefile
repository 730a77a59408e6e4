# Thin verbs; each says itself what it does with `make help`. CI calls only these.
SHELL := bash
.DEFAULT_GOAL := help
BIN := .venv/bin
ARGS ?=
# The tests mostly wait for real parts: two processes, each with parts of its own, take little more than half the time of one on two cores.
WORKERS ?= 2

.PHONY: help setup demo test check fmt bench schemas up status down clean

help: ## say what can be done here
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: ## install everything in the lock into .venv (the other verbs do it by themselves)
	@.ci/setup

demo: setup ## start the whole system here and answer a real question on HTCondor and Dask
	@$(BIN)/python examples/water_network/demo.py $(ARGS)

test: check ## all checks and all tests, on real parts that the tests start themselves
	@$(BIN)/pytest $(or $(ARGS),-n $(WORKERS) --dist loadfile)

check: setup ## formatting, lint, types, the arrows between packages, generated files
	@$(BIN)/ruff format --check --quiet . && $(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python contracts/generate.py --check && $(BIN)/python docs/generate.py --check

fmt: setup ## format the code and repair what the linter can
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

bench: setup ## measure ourselves against limits and peers, as ratios in one run
	@$(BIN)/python -m benchmarks $(ARGS)

schemas: setup ## generate contracts/schemas and the reference pages again
	@$(BIN)/python contracts/generate.py && $(BIN)/python docs/generate.py

up: setup ## start the whole system on this machine, or say that it is up
	@$(BIN)/jobledger up $(ARGS)

status: setup ## say what is running
	@$(BIN)/jobledger status

down: setup ## stop everything that up started; the data stays
	@$(BIN)/jobledger down

clean: ## remove .venv and the tools' caches; data folders stay
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache out
