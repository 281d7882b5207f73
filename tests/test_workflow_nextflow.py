"""The commands of the Nextflow example, by Groovy on a stage; Nextflow itself is on no index."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.support.archives import OPTIONS, write_slides
from tests.support.groovy import groovy
from tests.support.programs import provide_programs

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "configs" / "nextflow" / "main.nf"
STAGE = ROOT / "tests" / "support" / "nextflow_stage.groovy"


def commands(process: str, parameters: dict[str, object], given: dict[str, object]) -> str:
    return groovy(STAGE, EXAMPLE, json.dumps(parameters), process, json.dumps(given))


def run(text: str, folder: Path) -> int:
    environment = os.environ | provide_programs(folder / "environment")
    work = folder / "work"
    work.mkdir(exist_ok=True)
    return subprocess.run(["bash", "-euc", text], cwd=work, env=environment, check=False).returncode


def test_what_its_processes_run_makes_a_study(tmp_path: Path):
    write_slides(tmp_path / "some slides", 2)
    study = tmp_path / "some slides" / "study.csv"
    study.write_text("path,group\nslide_000.tif,a\nslide_001.tif,b\n")
    parameters = {
        "slides": str(study),
        "output": str(tmp_path / "the patient's results"),
        "options": " ".join(OPTIONS),
        "exports": "csv geoparquet",
    }
    result = tmp_path / "the patient's results" / "slide_000"
    whole = "\n".join(
        commands(f"WSI_ENGINE_{name}", parameters, given)
        for name, given in (
            ("RUN", {"share": 1, "task": {"cpus": 2}}),
            ("EXPORT", {"result": str(result)}),
            ("COHORT", {"logs": []}),
        )
    )
    assert run(whole, tmp_path) == 0
    exports = {path.name for path in (result / "exports").iterdir()}
    assert exports == {"slide_000.csv", "slide_000_columns.csv", "slide_000.parquet"}
    table = (result.parent / "cohort.csv").read_text(encoding="utf-8-sig")
    assert '"group"' in table.partition("\n")[0]


@pytest.mark.parametrize(
    ("slides", "code"),
    [("broken", 0), ("nowhere", 1)],
    ids=["a slide that fails is no reason to do a share again", "slides that are not there are"],
)
def test_a_share_is_done_again_only_where_that_helps(tmp_path: Path, slides: str, code: int):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "slide.svs").write_bytes(b"no slide")
    parameters = {"slides": str(tmp_path / slides), "output": str(tmp_path / "results")}
    text = commands("WSI_ENGINE_RUN", parameters, {"share": 1, "task": {"cpus": 1}})
    assert (run(text, tmp_path) != 0) == code


def test_the_settings_are_of_a_process_that_there_is():
    settings = (EXAMPLE.parent / "nextflow.config").read_text(encoding="utf-8")
    assert "withName: 'WSI_ENGINE_RUN'" in settings
    assert "process WSI_ENGINE_RUN {" in EXAMPLE.read_text(encoding="utf-8")
