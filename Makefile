# Everything a fresh machine needs is Python 3.11 or newer, a C++ compiler and make; `make setup` brings the rest.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
BUILD_TOOLS := scikit-build-core nanobind ziglang cmake ninja
PACKAGE := src/acalsim_backend
C_SOURCES := $(shell find engine $(PACKAGE) -name '*.[chS]' -o -name '*.[ch]pp')
# What the native products are made of: a change rebuilds them; a change of other Python files needs nothing.
NATIVE := $(C_SOURCES) CMakeLists.txt $(shell find engine $(PACKAGE) -name CMakeLists.txt -o -name '*.ld') \
	$(shell find $(PACKAGE)/program $(PACKAGE)/firmware $(PACKAGE)/device/registers.py $(PACKAGE)/toolchain.py -name '*.py')

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all coverage sanitize fuzz fuzz-programs opinfo libm lint tidy format bench docs site clean

help: ## print this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' Makefile

setup: .venv/.installed ## create .venv, install everything and build the native parts

demo: setup ## run ResNet-18 on the simulated machine
	$(BIN)/acalsim run resnet18

test: setup ## run the tests (minutes)
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

test-all: setup ## run the tests, the slow ones too, with inputs drawn anew
	$(BIN)/python -m pytest -n 2 --dist worksteal --hypothesis-profile anew

coverage: setup ## run the tests and say which lines and branches of the package they never reach
	$(BIN)/python -m pytest -n 2 -m "not slow" --cov

sanitize: setup ## run the engine, its bindings and the kernels under sanitizers (minutes)
	$(BIN)/python -m pytest -s -v tests/engine/test_cpp.py

fuzz: setup ## throw 100,000 drawn messages at each device server (minutes)
	$(BIN)/python tests/qemu/fuzz_servers.py 100000

fuzz-programs: setup ## compare 5,000 random PyTorch programs with eager, from seed START on (an hour)
	$(BIN)/python tests/fuzz/fuzz_programs.py 5000 --start $(or $(START),0)

opinfo: setup ## compare PyTorch's own operator database with eager (an hour)
	$(BIN)/python tests/fuzz/opinfo.py

libm: setup ## put every f32 through the firmware's elementary functions (a quarter of an hour)
	$(BIN)/python tests/firmware/exhaustive_libm.py

lint: setup ## check style, types, import rules and C formatting
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/mypy tests/firmware/conftest.py
	$(BIN)/mypy tests/machine/conftest.py
	$(BIN)/lint-imports
	$(BIN)/clang-format --dry-run --Werror $(filter-out %.S,$(C_SOURCES))

# One set of flags for each of the three worlds: the engine, bare metal, and C that the host loads.
PYTHON_INCLUDES = $(shell $(BIN)/python -c \
  'import nanobind, sysconfig; print(nanobind.include_dir(), sysconfig.get_path("include"))')
TIDY = xargs -P 2 -n 4 $(BIN)/clang-tidy --quiet -p build/tidy $(addprefix --extra-arg=,$(1))
tidy: setup ## look for likely bugs in C and C++ (minutes)
	mkdir -p build/tidy && touch build/tidy/compile_flags.txt
	$(BIN)/python -m acalsim_backend.firmware.c_header > build/tidy/acal_abi.h
	find engine/src engine/bindings.cpp -name '*.cpp' | $(call TIDY,-std=c++17 -I../../engine/include \
	  -I../../engine/src -I. $(addprefix -isystem,$(PYTHON_INCLUDES)))
	find $(PACKAGE)/firmware -name '*.c' ! -name host.c | $(call TIDY,-std=c11 -I. -ffreestanding \
	  --target=riscv64-unknown-elf -march=rv64gc -mabi=lp64d)
	ls $(PACKAGE)/firmware/host.c $(PACKAGE)/machine/*.c | $(call TIDY,-std=c11 -I.)

format: setup ## rewrite Python and C in the project's style
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(BIN)/clang-format -i $(filter-out %.S,$(C_SOURCES))

bench: setup ## measure speed end to end
	$(BIN)/python benchmarks/end_to_end.py

docs: setup ## write the generated pages of docs/ anew
	$(BIN)/python docs/generate.py

site: setup ## make the documentation, with the API from the docstrings, a web site in build/site
	$(PIP) --no-build-isolation --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

clean: ## remove what was built; .venv stays
	rm -rf build dist .venv/.installed .pytest_cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache
	find src -name '*.so' -delete -o -name '*.elf' -delete -o -name __pycache__ -prune -exec rm -rf {} +

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'make setup: $(PYTHON) is missing or older than 3.11; name another one: make setup PYTHON=python3.11' >&2; exit 4; }
	@$(PYTHON) -m venv .venv || \
	  { rm -rf .venv; echo 'make setup: python venv is missing; on Debian: apt-get install python3-venv' >&2; exit 4; }

.venv/.tools: .venv/bin/python constraints.txt
	$(PIP) $(BUILD_TOOLS)
	@touch $@

# Without build isolation, so that CMake's cache survives and zig is downloaded once.
.venv/.installed: .venv/.tools pyproject.toml $(NATIVE)
	$(PIP) --no-build-isolation --editable '.[dev]'
	@touch $@
