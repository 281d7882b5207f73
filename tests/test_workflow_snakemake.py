"""The Snakemake example, run by Snakemake, which `make test-snakemake` installs and points to."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import shapely

from tests.support.archives import OPTIONS, write_slides
from tests.support.programs import provide_programs
from tests.support.results import write_annotations_by_hand
from tests.support.slides import overwrite_tile

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "configs" / "snakemake" / "Snakefile"


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A manifest of two slides, one of them with annotations, the other damaged in a place."""
    slides = tmp_path / "a study"
    write_slides(slides, 2)
    overwrite_tile(slides / "slide_001.tif", 0, 1, 1)
    write_annotations_by_hand(slides / "drawn.geojson", shapely.box(50, 50, 200, 200))
    manifest = slides / "study.csv"
    manifest.write_text("path,annotations\nslide_000.tif,drawn.geojson\nslide_001.tif,\n")
    return manifest


def snakemake(manifest: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    folder = manifest.parents[1]
    programs = folder / "environment"
    environment = os.environ | (provide_programs(programs) if not programs.exists() else {})
    environment["PATH"] = f"{programs / 'programs'}{os.pathsep}{os.environ['PATH']}"
    # Of Snakemake's own environment nothing is wanted.
    environment["PYTHONPATH"] = ""
    command = [str(Path(os.environ["SNAKEMAKE"]).absolute()), "--snakefile", str(EXAMPLE)]
    config = [f"manifest={manifest}", "output=the results", f"options={' '.join(OPTIONS)}"]
    return subprocess.run(
        [*command, "--cores", "2", *arguments, "--config", *config, "exports=csv geoparquet"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_slides_become_a_study_and_are_done_once(study: Path):
    done = snakemake(study)
    assert done.returncode == 0, done.stderr
    results = study.parents[1] / "the results"
    exports = {path.name for path in (results / "slide_000" / "exports").iterdir()}
    assert exports == {"slide_000.csv", "slide_000_columns.csv", "slide_000.parquet"}
    kinds = [
        (results / name / "regions.csv").read_text(encoding="utf-8-sig").count('"annotation"')
        for name in ("slide_000", "slide_001")
    ]
    assert kinds == [1, 0]
    assert json.loads((results / "slide_001" / "run.json").read_bytes())["unreadable"]
    assert (results / "cohort.html").is_file()
    assert "Nothing to be done" in snakemake(study).stderr


def test_a_slide_that_cannot_be_read_does_not_stop_the_others(study: Path):
    (study.parent / "slide_000.tif").write_bytes(b"no slide")
    done = snakemake(study, "--keep-going")
    assert done.returncode != 0
    results = study.parents[1] / "the results"
    assert (results / "slide_001" / "run.json").is_file()
    assert not (results / "cohort.html").exists()


def test_two_slides_of_one_name_are_refused_before_anything_is_run(study: Path):
    study.write_text("path\na/slide.tif\nb/slide.tif\n")
    assert "names two files alike" in snakemake(study).stderr
