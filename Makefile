# Each target does all set-up on a machine with nothing but Python 3.11 and pip.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: demo test recipe docs lint clean

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(STAMP)

demo: $(STAMP)  ## plain FE on digits through Ray with real cryptography, then the attacks
	$(BIN)/keyhole run plain-fe --dataset digits --seed 0 --record consumed \
	    --attack lp --attack smooth --attack tv --attack gradient --attack stack --attack labels --attack master-key

# Three processes: what needs Ray, whose workers are nice and wait much of the time, and the rest in two halves of
# about as much processor time, nicer still; one thread each, as more of them wait for each other on two cores.
# Arrays up to 64 MB come from the heap and go back to it: a fifth of the time would go into fresh pages for them.
HALF := tests/figures tests/rules tests/language tests/parties tests/audit tests/network tests/crypto tests/recorder
test: export OMP_NUM_THREADS = 1
test: export MALLOC_MMAP_THRESHOLD_ = 67108864
test: export MALLOC_TRIM_THRESHOLD_ = 268435456
test: $(STAMP)
	@$(BIN)/python -m pytest -m ray > .tests-ray.log 2>&1 & ray=$$!; \
	nice -n 19 $(BIN)/python -m pytest -m "not ray and not recipe" $(HALF) > .tests-half.log 2>&1 & half=$$!; \
	nice -n 19 $(BIN)/python -m pytest -m "not ray and not recipe" $(HALF:%=--ignore %); failed=$$?; \
	wait $$half; failed=$$((failed + $$?)); wait $$ray; failed=$$((failed + $$?)); \
	cat .tests-half.log .tests-ray.log; exit $$failed

recipe: $(STAMP)  ## the cluster of docs/running.md on two nodes, by itself: it wants an idle machine
	$(BIN)/python -m pytest -m recipe tests/parties

docs: $(STAMP)  ## build/docs/site: the pages of docs/, and those that are made of the code
	$(BIN)/python -m scenarios.docs build/docs
	cd build/docs && ../../$(BIN)/zensical build --strict --clean

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache
