# `make demo` and `make test` set up what they need; nothing but Python 3.11 and make is assumed.

PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin
DEMO    = demo

# Asked before there is an environment, so that none is left that is of no use; any Python reads it.
define require-usable-python
@$(PYTHON) -c 'import sys; sys.version_info < (3, 11) and sys.exit("error: $(PYTHON) is Python \
	%d.%d, and wsi-engine needs 3.11 or later: make $(MAKECMDGOALS) PYTHON=python3.11" \
	% tuple(sys.version_info[:2]))'
@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "error: $(PYTHON) cannot make environments:" \
	"install python3-venv, or give another: make $(MAKECMDGOALS) PYTHON=..." >&2; exit 1; }
endef

.PHONY: demo test test-spatialdata test-snakemake view-test check format bench docs site clean

demo: $(VENV)/.installed
	@mkdir -p $(DEMO)
	$(BIN)/wsi-engine sample $(DEMO)/sample.tif
	$(BIN)/wsi-engine run $(DEMO)/sample.tif -o $(DEMO)/results
	$(BIN)/wsi-engine evaluate $(DEMO)/results/sample/nuclei.geojson.gz $(DEMO)/sample_truth.geojson
	@echo
	@echo "Open $(DEMO)/sample.tif in QuPath and drag $(DEMO)/results/sample/nuclei.geojson.gz onto it."

# Two processes, however many cores there are: networks in the tests take several threads themselves.
test: $(VENV)/.installed-for-tests
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

# SpatialData and squidpy cannot be installed beside TIAToolbox: they want other versions of dask.
test-spatialdata:
	$(require-usable-python)
	$(PYTHON) -m venv $(VENV)-spatialdata
	$(VENV)-spatialdata/bin/python -m pip install --quiet --disable-pip-version-check -e ".[spatialdata,test]" squidpy napari-ome-zarr
	$(VENV)-spatialdata/bin/python -m pytest tests/test_export_spatialdata.py tests/test_export_ome_zarr_viewers.py

# Snakemake wants another version of packaging.
test-snakemake: $(VENV)/.installed-for-tests
	$(PYTHON) -m venv $(VENV)-snakemake
	$(VENV)-snakemake/bin/python -m pip install --quiet --disable-pip-version-check "snakemake>=8.20"
	SNAKEMAKE=$(VENV)-snakemake/bin/snakemake $(BIN)/python -m pytest tests/test_workflow_snakemake.py

# The page of `wsi-engine view` in a chromium without a window; `make test` does it as well.
view-test: $(VENV)/.installed-for-tests
	@command -v chromium || command -v chromium-browser || { echo "error: install chromium" >&2; exit 1; }
	$(BIN)/python -m pytest tests/test_view_browser.py

check: $(VENV)/.installed-for-tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-for-tests
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.installed-for-tests
	$(BIN)/python benchmarks/stages.py

docs: $(VENV)/.installed
	$(BIN)/python -c 'from wsi_engine.results.column_dictionary import markdown as page; print(page(), end="")' > docs/measurements.md

# The site, into build/site; a link that leads nowhere is an error. The variable silences an advertisement.
site: $(VENV)/.installed-for-tests
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

clean:
	rm -rf $(VENV) $(VENV)-spatialdata $(VENV)-snakemake $(DEMO)

$(VENV)/bin/python:
	$(require-usable-python)
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/.installed-for-tests: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[docs,tiatoolbox,test]"
	@touch $@ $(VENV)/.installed
