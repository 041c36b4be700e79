# make demo   install, then blur, shrink and upscale the photos that ship
# make test   install, then run all tests, one process per core: a quarter of an hour on two cores
# make quick  run the tests that a change is most likely to break: two minutes on two cores
# make lint   run ruff and mypy
# make wheel  build the sdist, and wheels with and without the extension into dist/; check their ABI: three minutes
# make test-wheel  install them, after make wheel, without a compiler in fresh environments of Python 3.10, 3.12 and
#             3.13, and upscale a photo there; a Python that is not here is skipped
# make completions  write dan_fast/completions/ again, after a change of a command's options
# make asan   run every instruction set of the C++ operators under AddressSanitizer: two minutes
# make tsan   run the threads of the C++ convolutions under ThreadSanitizer: two minutes
# make fuzz   read 17,000 broken images, weights, kernels and packs: two minutes; FUZZ='--seed 7' breaks the same again
# make results  write docs/results.md and its plots from the CSVs in docs/results; needs '.[plots]'
# make measure DATA=… KERNELS=…  measure those CSVs, with the folders Set5, Set14 and B100 in DATA, and kernels_12.mat
#             and Levin09.mat in KERNELS; needs '.[mat]'
# make experiments DATA=… VAL=…  train on DATA and test on VAL what docs/experiments.md reports; needs '.[plots]'
# make experiments DATA=… VAL=… INIT=WEIGHTS  the same for larger networks, from these weights, into
#             build/experiments-from-weights: half a day on two cores; PRESET=… and SETTINGS='…' replace network and options
# make gpu-check PYTHON=…   on a machine with a GPU, with a Python that has a CUDA build of torch: install, test, tune
#             and time everything that a GPU computes, in 14 minutes (benchmarks/gpu_check.py)
# make gpu-carry PYTHON=…   without a GPU, with a Python that has a CUDA build of torch: compile all that gpu-check
#             would, for a machine that is lent for minutes; [PROBE=FILE.cu] (benchmarks/gpu_carry.py)
# make clean  remove what the others made
# make help   print this

PYTHON ?= python3
VENV ?= .venv
WEIGHTS ?= v2-1.7M-x4 v2-1.7M-x3 v2-1.7M-x2 v2-0.3M-x4 v2-0.3M-irregular-x4 v2-0.3M-x3 v2-0.3M-x2 v2-0.3M-irregular-x2
BIN := $(VENV)/bin
# The versions that pip takes are the tested ones; make PIP_CONSTRAINT= demo lifts that. Newer versions of pip read the
# second variable for the environments in which they build.
PIP_CONSTRAINT ?= $(CURDIR)/constraints.txt
PIP_BUILD_CONSTRAINT ?= $(PIP_CONSTRAINT)
PIP = PIP_CONSTRAINT="$(PIP_CONSTRAINT)" PIP_BUILD_CONSTRAINT="$(PIP_BUILD_CONSTRAINT)" $(BIN)/pip
CSRC := $(shell find csrc -type f)
SOURCES := pyproject.toml setup.py constraints.txt $(CSRC) $(shell find dan_fast kernels -type f -not -name '*.pyc' -not -name '*.so')

.PHONY: help demo test quick lint wheel test-wheel completions asan fuzz tsan results measure $(WEIGHTS) experiments gpu-check gpu-carry clean
.DEFAULT_GOAL := demo

help:
	@sed '/^$$/q; s/^# //' Makefile

demo: $(VENV)/installed
	$(BIN)/dan-fast doctor
	$(BIN)/dan-fast demo

# Every process has one thread, so that none waits for another; tests of threads set their own number.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --maxprocesses 8 --dist worksteal

test: $(VENV)/installed-test
	$(PYTEST)
	TRITON_INTERPRET=1 $(PYTEST) tests/interpreted

# All tests but those that are marked as slow: compilers, whole training runs, killed processes (tests/support/slow.py).
quick: $(VENV)/installed-test
	$(PYTEST) -m "not slow"

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/mypy

# Wheels are built from the sdist. One of 20 MB has something in it that does not belong there.
wheel test-wheel: export PATH := $(abspath $(BIN)):$(PATH)
wheel: $(VENV)/installed-dev
	rm -rf dist build/dist
	DAN_FAST_CUDA=0 python -m build --no-isolation --outdir build/dist
	auditwheel repair --strip --exclude 'libtorch*' --exclude 'libc10*' \
		--wheel-dir dist build/dist/*-abi3-*.whl
	DAN_FAST_EXTENSION=0 python -m build --no-isolation --outdir dist
	abi3audit --strict --report dist/*-abi3-*.whl
	test -z "$$(find dist -name '*.whl' -size +20M)"

test-wheel: $(VENV)/installed-dev
	nox -t wheel

completions: $(VENV)/installed-test
	PYTHONPATH=tests:. $(BIN)/python -m support.completions

# Local variables are not watched (asan-stack=0): that takes minutes to compile, and all that is indexed is on the heap.
asan: build/asan/conv3x3_paths build/asan/correlate_paths
	build/asan/conv3x3_paths
	build/asan/correlate_paths

fuzz: $(VENV)/installed-test
	PYTHONPATH=tests $(BIN)/python -m fuzz $(FUZZ)

# ThreadSanitizer expects memory at fixed addresses: setarch -R turns their randomisation off.
tsan: build/tsan/conv3x3_paths
	setarch -R build/tsan/conv3x3_paths

build/tsan/%: tests/csrc/%.cpp $(CSRC)
	mkdir -p $(@D)
	$(CXX) -std=c++17 -O1 -g1 -Wall -Wextra -Werror -fsanitize=thread -pthread $< -o $@

build/asan/%: tests/csrc/%.cpp $(CSRC)
	mkdir -p $(@D)
	$(CXX) -std=c++17 -O1 -g1 -Wall -Wextra -Werror -fsanitize=address --param asan-stack=0 -pthread $< -o $@

results:
	$(PYTHON) -m dan_fast.cli report docs/results

# This takes an hour or two on two cores. Unseen kernels and iterations are measured on Set5 alone.
EVALUATE = $(PYTHON) -m dan_fast.cli evaluate $@ --out build/measured
measure: $(WEIGHTS)
$(WEIGHTS):
	$(EVALUATE) --data $(DATA)/Set5 $(DATA)/Set14 $(DATA)/B100
	cp build/measured/summary.csv docs/results/$@.csv
	$(EVALUATE) --data $(DATA)/Set5 $(DATA)/Set14 $(DATA)/B100 --protocol irregular
	cp build/measured/summary.csv docs/results/irregular/$@.csv
	$(EVALUATE) --data $(DATA)/Set5 --protocol file \
		--kernels $(KERNELS)/kernels_12.mat $(KERNELS)/Levin09.mat
	cp build/measured/summary.csv docs/results/unseen/$@.csv
	$(PYTHON) -m dan_fast.cli bench --weights $@ --sizes 128x128 --plain --csv docs/results/speed/$@.csv
	for n in 1 2 3 4 5 6 7 8; do mkdir -p docs/results/iterations/$$n && \
		$(EVALUATE) --data $(DATA)/Set5 --iterations $$n && \
		cp build/measured/summary.csv docs/results/iterations/$$n/$@.csv || exit 1; done

# This takes an hour on two cores; a second call goes on with what is missing.
QUESTIONS := end-to-end inputs block supervision blur iterations recipe
ifdef INIT
# These questions have parts that all their networks can share; for iterations nothing is trained.
PRESET ?= v2-0.3M-x4
SETTINGS ?= --steps 4000 --seeds 5 --batch 4 --patch 48 --learning-rate 5e-4 --warmup 200 --short-until 0
AGAIN = $(PYTHON) -m dan_fast.cli ablate $(1) --preset $(PRESET) --init $(INIT) --data $(DATA) --val $(VAL) \
	--out build/experiments-from-weights/$(1)
experiments:
	$(call AGAIN,iterations) --steps 0
	$(call AGAIN,end-to-end) $(SETTINGS)
	$(call AGAIN,inputs) $(SETTINGS)
	$(call AGAIN,block) $(SETTINGS)
	$(call AGAIN,supervision) $(SETTINGS)
else
experiments:
	for q in $(QUESTIONS); do \
		$(PYTHON) -m dan_fast.cli ablate $$q --data $(DATA) --val $(VAL) --out build/experiments/$$q && \
		mkdir -p docs/experiments && cp build/experiments/$$q/table.md docs/experiments/$$q.md && \
		cp build/experiments/$$q/results.csv docs/experiments/$$q.csv || exit 1; done
endif

# These two run in the caller's environment: the one in VENV may have a torch without CUDA.
gpu-check:
	$(PYTHON) benchmarks/gpu_check.py

gpu-carry:
	$(PYTHON) benchmarks/gpu_carry.py $(if $(PROBE),--probe $(PROBE))

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# Each of these builds once; the larger ones contain the smaller.
$(VENV)/installed: $(SOURCES) | $(VENV)/bin/python
	$(PIP) install .
	touch $@

$(VENV)/installed-test: $(SOURCES) | $(VENV)/bin/python
	$(PIP) install '.[test]'
	touch $(VENV)/installed $@

$(VENV)/installed-dev: $(SOURCES) | $(VENV)/bin/python
	$(PIP) install '.[test,dev]'
	touch $(VENV)/installed $(VENV)/installed-test $@

clean:
	rm -rf $(VENV) .nox build dist demo-output *.egg-info kernels/_C*.so
