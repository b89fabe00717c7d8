# Each target does all set-up on a machine with nothing but Python 3.11 and pip.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: demo test lint clean

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(STAMP)

demo: $(STAMP)  ## plain FE on digits through Ray with real cryptography, then the attacks
	$(BIN)/keyhole run plain-fe --dataset digits --seed 0 \
	    --attack lp --attack smooth --attack tv --attack gradient --attack stack --attack labels --attack master-key

test: $(STAMP)  ## what needs Ray beside what does not: two processes
	$(BIN)/python -m pytest -m ray > .ray-tests.log 2>&1 & ray=$$!; \
	$(BIN)/python -m pytest -m "not ray"; rest=$$?; \
	wait $$ray; ray=$$?; cat .ray-tests.log; exit $$((rest + ray))

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache
