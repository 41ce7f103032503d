# make run   build everything in .venv and run the main job on real images
# make test  build, lint, type-check, build the documentation and test
# make client  generate the blocking client from the asynchronous one
# make wheel  sources and a wheel in dist/; with HVAE_CUDA=1 CUDA kernels are in it
# make docs  the documentation as a site, in build/site
# Each starts from nothing: Python >= 3.11, a C++ compiler and the package registry are enough.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Processes of `make test`: most tests wait for processes or compute on one thread.
TEST_WORKERS ?= 2
# A log needs no bars.
PIP_FLAGS := $(shell [ -t 2 ] || echo --quiet)
# What the build and the main job need, with the extras `server` and `features`, and for all other
# targets every extra but the peers of the benchmarks, which nothing needs: both from the one place
# that names it. The extension is compiled against the very torch that will load it.
define LIST_REQUIREMENTS
import sys, tomllib; \
data = tomllib.load(open('pyproject.toml', 'rb')); \
extras = data['project']['optional-dependencies']; \
named = sys.argv[1:] or sorted(extras.keys() - {'peers', 'fuzz'}); \
groups = [data['build-system']['requires'], data['project']['dependencies'], *(extras[name] for name in named)]; \
print(*sorted({r for group in groups for r in group if not r.startswith('hvae-codec[')}), sep='\n')
endef
SOURCES := setup.py pyproject.toml $(shell find csrc proto -type f)

.PHONY: run test suite lint types client wheel docs sanitize second-torch clean
.DELETE_ON_ERROR:

run: $(VENV)/built
	$(BIN)/python -m benchmarks.docs.demo --output out

# A third of the tests' time is waiting: types and docs take the cores meanwhile.
test: $(VENV)/complete
	$(MAKE) lint
	$(MAKE) --jobs 3 suite types docs

suite: $(VENV)/complete
	$(BIN)/python -m pytest -n $(TEST_WORKERS) --durations=20

lint: $(VENV)/complete
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python hvae_codec/client/generate_blocking.py --check

types: $(VENV)/complete
	$(BIN)/mypy

# The blocking client, from the asynchronous one.
client: $(VENV)/complete
	$(BIN)/python hvae_codec/client/generate_blocking.py

# The wheel is built from the sources in a folder of its own, so nothing of an earlier build is in it.
wheel: $(VENV)/complete
	HVAE_CUDA=$${HVAE_CUDA:-0} $(BIN)/python -m build --no-isolation --outdir dist

# Warnings are errors: of links, anchors and docstrings. With --quiet mkdocs would not count them.
docs: $(VENV)/complete
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

# csrc under AddressSanitizer and UndefinedBehaviorSanitizer; needs a C++ compiler alone.
sanitize:
	bash tests/ops/sanitize.sh build/sanitize

# The golden files with another version of torch: make second-torch SECOND_TORCH=2.12.1
SECOND_TORCH ?= 2.13.0
second-torch:
	bash benchmarks/second_torch.sh $(PYTHON) $(SECOND_TORCH) build/second-torch

# Where there is nvcc, the CUDA kernels are compiled for one architecture, GPU or not: a check.
export HVAE_CUDA_ARCHITECTURES ?= $(if $(shell command -v nvcc),90)

# Built, with all that the checks need.
$(VENV)/complete: $(VENV)/installed $(VENV)/built
	touch $@

$(VENV)/built: $(VENV)/prepared $(SOURCES)
	$(BIN)/pip install --quiet --no-build-isolation --no-deps --editable .
	touch $@

# pip shows its progress on a terminal.
$(VENV)/prepared: pyproject.toml
	@$(PYTHON) -c "import sys; sys.version_info >= (3, 11) or sys.exit('Python 3.11 or newer is needed, \
	$(PYTHON) is ' + sys.version.split()[0] + '; name another one: make PYTHON=python3.12')"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -c "$(LIST_REQUIREMENTS)" server features > $(VENV)/requirements.txt
	$(BIN)/pip install $(PIP_FLAGS) --requirement $(VENV)/requirements.txt
	touch $@

$(VENV)/installed: $(VENV)/prepared
	$(BIN)/python -c "$(LIST_REQUIREMENTS)" > $(VENV)/all-requirements.txt
	$(BIN)/pip install $(PIP_FLAGS) --requirement $(VENV)/all-requirements.txt
	touch $@

clean:
	rm -rf $(VENV) build out *.egg-info hvae_codec/*.so hvae_codec/v1/*_pb2*
