"""What a start costs: torch is loaded by what needs a network, and by nothing else."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import wsi_engine
from wsi_engine.engine.run import run
from wsi_engine.sample import SampleTruth

COMMAND = """
import sys
from wsi_engine.cli import main
try:
    main(sys.argv[1:])
finally:
    print("loads torch:", "torch" in sys.modules, file=sys.stderr)
"""


def loads_torch(folder: Path, *arguments: str) -> bool:
    """Run a command in a process of its own, in a folder."""
    command = [sys.executable, "-c", COMMAND, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr.endswith("loads torch: True\n")


@pytest.fixture(scope="module")
def finished(sample: SampleTruth, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of results with one slide in it."""
    folder = tmp_path_factory.mktemp("finished") / "out"
    run(sample.slide_path, folder, model="watershed")
    return folder


@pytest.fixture
def folder(finished: Path, sample: SampleTruth, tmp_path: Path) -> Path:
    """Where the commands below find their files."""
    shutil.copytree(finished, tmp_path / "out")
    shutil.copy(tmp_path / "out" / "sample" / "nuclei.geojson.gz", tmp_path)
    shutil.copy(sample.truth_path, tmp_path / "truth.geojson")
    shutil.copy(sample.slide_path, tmp_path / "slide.tif")
    return tmp_path


@pytest.mark.parametrize(
    "line",
    [
        "--help",
        "--version",
        "run --help",
        "models",
        "info slide.tif",
        "validate truth.geojson",
        "validate nuclei.geojson.gz --fix fixed.geojson",
        "convert nuclei.geojson.gz nuclei.parquet",
        "convert out/sample/nuclei.parquet old.geojson --dialect 0.2 --mpp 0.25",
        "diff nuclei.geojson.gz out/sample",
        "apply nuclei.geojson.gz out/sample",
        "measure slide.tif nuclei.geojson.gz -o measured",
        "regions out/sample",
        "cohort out",
        "export out/sample --to csv --to geojson --to geoparquet --to labels",
        "export out/sample --to annotationstore --to anndata",
        "report out/sample --slide slide.tif",
        "view out/sample --slide slide.tif --export shown",
        "status out",
        "verify out",
        "evaluate nuclei.geojson.gz truth.geojson",
    ],
)
def test_commands_without_a_network_do_without_torch(folder: Path, line: str):
    assert not loads_torch(folder, *line.split())


def test_what_looks_at_torch_loads_it(folder: Path):
    assert loads_torch(folder, "doctor")


@pytest.mark.parametrize("line", ["--help", "--version", "run --help", "measure --help"])
def test_help_does_without_numba(tmp_path: Path, line: str):
    code = (
        "import atexit, sys\n"
        "from wsi_engine.cli import main\n"
        "atexit.register(lambda: print('loads numba:', 'numba' in sys.modules))\n"
        "main(sys.argv[1:])"
    )
    command = [sys.executable, "-c", code, *line.split()]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.endswith("loads numba: False\n")


@pytest.mark.parametrize(
    "statement",
    [
        "import wsi_engine",
        "from wsi_engine import iter_objects, read_objects, write_objects, diff",
        "from wsi_engine import EngineError, NucleusTable, Progress, RunSettings, open_slide",
        "from wsi_engine import apply_corrections, available_models, build_cohort, measure_regions",
        "from wsi_engine import export_result",
        "from wsi_engine import Model, ModelEntry, ModelSpec, Predictions, check_model",
        "from wsi_engine import run_archive",
    ],
)
def test_imports_that_do_without_torch(statement: str):
    code = f"{statement}\nimport sys\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_is_there():
    assert dir(wsi_engine) == wsi_engine.__all__
    for name in wsi_engine.__all__:
        assert getattr(wsi_engine, name) is not None


def test_a_name_that_is_not_there():
    with pytest.raises(AttributeError, match="read_nuclei"):
        _ = wsi_engine.read_nuclei
