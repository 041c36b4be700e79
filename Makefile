# make demo   install, then blur, shrink and upscale the photos that ship
# make test   install with what the tests need, then run them all, one process per core: twelve minutes on two cores
# make quick  the tests of what a change most likely breaks: two minutes on two cores
# make lint   ruff and mypy
# make asan   every instruction set of the C++ operators, as plain programs under AddressSanitizer: two minutes
# make fuzz   read 17,000 broken images, weights, kernels and packs: two minutes; FUZZ='--seed 7' for the same ones again
# make tsan   the threads of the convolutions under the thread sanitizer: two minutes
# make results  write docs/results.md and its plots from the CSVs in docs/results; needs '.[plots]'
# make measure DATA=… KERNELS=…  measure those CSVs: folders Set5, Set14 and B100 in DATA, kernels_12.mat and
#             Levin09.mat in KERNELS; needs '.[mat]'
# make experiments DATA=… VAL=…  train on DATA and test on VAL what docs/experiments.md is about; needs '.[plots]'
# make gpu-check PYTHON=…   on a machine with a GPU, where that Python has a CUDA build of torch: install, test, tune
#             and time everything that a GPU computes, in nine minutes (benchmarks/gpu_check.py)
# make gpu-carry PYTHON=…   without a GPU, where that Python has a CUDA build of torch: compile all that gpu-check would,
#             for a machine that is lent for minutes; [PROBE=FILE.cu] (benchmarks/gpu_carry.py)
# make clean  remove what the others made

PYTHON ?= python3
VENV ?= .venv
WEIGHTS ?= v2-0.3M-x4 v2-0.3M-irregular-x4 v2-0.3M-x3 v2-0.3M-x2 v2-0.3M-irregular-x2
BIN := $(VENV)/bin
SOURCES := pyproject.toml setup.py $(shell find dan_fast kernels csrc -type f -not -name '*.pyc' -not -name '*.so')

.PHONY: demo test quick lint asan fuzz tsan results measure $(WEIGHTS) experiments gpu-check gpu-carry clean

demo: $(VENV)/installed
	$(BIN)/dan-fast doctor
	$(BIN)/dan-fast demo

# Processes of one thread each, so that they do not wait for each other; tests of threads set their own number.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --maxprocesses 8 --dist worksteal

test: $(VENV)/installed-test
	$(PYTEST)
	TRITON_INTERPRET=1 $(PYTEST) tests/interpreted

# All but what is marked as slow: compilers, whole training runs, killed processes (tests/support/slow.py).
quick: $(VENV)/installed-test
	$(PYTEST) -m "not slow"

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/mypy

# Watching local variables would take minutes to compile; all that an index reaches is on the heap.
asan: build/asan/conv3x3_paths build/asan/correlate_paths
	build/asan/conv3x3_paths
	build/asan/correlate_paths

fuzz: $(VENV)/installed-test
	PYTHONPATH=tests $(BIN)/python -m fuzz $(FUZZ)

# Programs that the thread sanitizer watches need their memory where it expects it, which setarch sees to.
tsan: build/tsan/conv3x3_paths
	setarch -R build/tsan/conv3x3_paths

build/tsan/%: tests/csrc/%.cpp $(wildcard csrc/*)
	mkdir -p $(@D)
	$(CXX) -std=c++17 -O1 -g1 -Wall -Wextra -Werror -fsanitize=thread -pthread $< -o $@

build/asan/%: tests/csrc/%.cpp $(wildcard csrc/*)
	mkdir -p $(@D)
	$(CXX) -std=c++17 -O1 -g1 -Wall -Wextra -Werror -fsanitize=address --param asan-stack=0 -pthread $< -o $@

results:
	$(PYTHON) -m dan_fast.cli report docs/results

# An hour or two on two cores. Unseen kernels and iterations are measured on Set5 alone.
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

# An hour on two cores; a second call goes on with what is missing.
QUESTIONS := end-to-end inputs block supervision blur iterations recipe
experiments:
	for q in $(QUESTIONS); do \
		$(PYTHON) -m dan_fast.cli ablate $$q --data $(DATA) --val $(VAL) --out build/experiments/$$q && \
		mkdir -p docs/experiments && cp build/experiments/$$q/table.md docs/experiments/$$q.md && \
		cp build/experiments/$$q/results.csv docs/experiments/$$q.csv || exit 1; done

# In the caller's own environment: the one of this file may have a torch without CUDA.
gpu-check:
	$(PYTHON) benchmarks/gpu_check.py

gpu-carry:
	$(PYTHON) benchmarks/gpu_carry.py $(if $(PROBE),--probe $(PROBE))

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# Each is one build; the larger ones contain the smaller.
$(VENV)/installed: $(SOURCES) | $(VENV)/bin/python
	$(BIN)/pip install .
	touch $@

$(VENV)/installed-test: $(SOURCES) | $(VENV)/bin/python
	$(BIN)/pip install '.[test]'
	touch $(VENV)/installed $@

$(VENV)/installed-dev: $(SOURCES) | $(VENV)/bin/python
	$(BIN)/pip install '.[test,dev]'
	touch $(VENV)/installed $(VENV)/installed-test $@

clean:
	rm -rf $(VENV) build demo-output *.egg-info kernels/_C*.so
