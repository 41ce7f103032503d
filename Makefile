# make run   build everything in .venv and run the main job on real images
# make test  build, lint, type-check, build the documentation and test
# make client  generate the blocking client from the asynchronous one
# make docs  the documentation as a site, in build/site
# Each starts from nothing: Python >= 3.11, a C++ compiler and the package registry are enough.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Processes of `make test`: most tests wait for processes or compute on one thread.
TEST_WORKERS ?= 2
# Everything the build, the library and its checks need is installed first, from the one place that
# names it; the extension is then compiled against the very torch that will load it. The peers of
# the benchmarks are left out: nothing needs them.
define LIST_REQUIREMENTS
import tomllib; \
data = tomllib.load(open('pyproject.toml', 'rb')); \
extras = [group for name, group in data['project']['optional-dependencies'].items() if name not in {'peers', 'fuzz'}]; \
groups = [data['build-system']['requires'], data['project']['dependencies'], *extras]; \
print(*sorted({r for group in groups for r in group if not r.startswith('hvae-codec[')}), sep='\n')
endef
SOURCES := setup.py pyproject.toml $(shell find csrc proto -type f)

.PHONY: run test suite lint types client docs sanitize second-torch clean
.DELETE_ON_ERROR:

run: $(VENV)/built
	$(BIN)/python -m benchmarks.docs.demo --output out

# A third of the tests' time is waiting: types and docs take the cores meanwhile.
test: $(VENV)/built
	$(MAKE) lint
	$(MAKE) --jobs 3 suite types docs

suite: $(VENV)/built
	$(BIN)/python -m pytest -n $(TEST_WORKERS) --durations=20

lint: $(VENV)/built
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python hvae_codec/client/generate_blocking.py --check

types: $(VENV)/built
	$(BIN)/mypy

# The blocking client, from the asynchronous one.
client: $(VENV)/built
	$(BIN)/python hvae_codec/client/generate_blocking.py

# Warnings are errors: of links, anchors and docstrings. With --quiet mkdocs would not count them.
docs: $(VENV)/built
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

$(VENV)/built: $(VENV)/installed $(SOURCES)
	$(BIN)/pip install --quiet --no-build-isolation --no-deps --editable .
	touch $@

$(VENV)/installed: pyproject.toml
	@$(PYTHON) -c "import sys; sys.version_info >= (3, 11) or sys.exit('Python 3.11 or newer is needed, \
	$(PYTHON) is ' + sys.version.split()[0] + '; name another one: make PYTHON=python3.12')"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -c "$(LIST_REQUIREMENTS)" > $(VENV)/requirements.txt
	$(BIN)/pip install --quiet --requirement $(VENV)/requirements.txt
	touch $@

clean:
	rm -rf $(VENV) build out *.egg-info hvae_codec/*.so hvae_codec/v1/*_pb2*
