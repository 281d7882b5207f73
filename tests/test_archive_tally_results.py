"""What counts as done in an archive: exactly what a run of the slide alone would not touch."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.support.archives import SETTINGS, Heard, results, write_slide
from wsi_engine import run_archive
from wsi_engine.archive.run import ArchiveSummary
from wsi_engine.engine.progress import Progress
from wsi_engine.engine.run import run as run_alone
from wsi_engine.errors import EngineError
from wsi_engine.results.status import status_of

ROI = (
    '{"type": "Feature", "geometry": {"type": "Polygon", "coordinates": '
    "[[[0, 0], [%d, 0], [%d, 256], [0, 256], [0, 0]]]}, "
    '"properties": {"objectType": "annotation"}}'
)


def run(slide: Path, output: Path, **options) -> tuple[ArchiveSummary, Heard]:
    heard = Heard()
    return run_archive([slide], output, listen=heard, **(SETTINGS | options)), heard


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    return write_slide(tmp_path / "slides" / "a.tif")


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out"


def test_a_result_that_stands_is_not_begun(slide: Path, output: Path):
    run(slide, output, regions=True, report=True)
    summary, heard = run(slide, output, regions=True, report=True)
    assert [outcome.computed for outcome in summary.done] == [False]
    assert not heard.of("slide_started")


@pytest.mark.parametrize(
    ("wanted", "file"), [("regions", "regions.geojson"), ("report", "report.html")]
)
def test_what_a_killed_run_did_not_sum_up_is_made_up_for(slide, output, wanted: str, file: str):
    run(slide, output)
    assert not (output / "a" / file).exists()
    summary, _ = run(slide, output, **{wanted: True})
    assert len(summary.done) == 1
    assert (output / "a" / file).exists()


def cut_off_a_redo(slide: Path, output: Path) -> None:
    def interrupt(progress: Progress) -> None:
        if progress.tiles == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_alone(slide, output, force=True, observe=interrupt, **(SETTINGS | {"tile_size": 64}))


def test_a_redo_that_was_cut_off_goes_on(slide: Path, output: Path):
    run(slide, output, tile_size=64)
    cut_off_a_redo(slide, output)
    assert [state.state for state in status_of(output)] == ["unfinished"]
    _, heard = run(slide, output, tile_size=64)
    assert heard.computed() == ["a"]
    assert [state.state for state in status_of(output)] == ["finished"]
    assert not (output / "a" / ".work").exists()


def another_slide(slide: Path, output: Path, roi: Path) -> None:
    before = slide.stat()
    write_slide(slide, 1)
    os.utime(slide, ns=(before.st_atime_ns, before.st_mtime_ns))  # as `rsync -a` leaves it


def another_region(slide: Path, output: Path, roi: Path) -> None:
    roi.write_text(ROI % (99, 99))


def no_nuclei(slide: Path, output: Path, roi: Path) -> None:
    (output / "a" / "nuclei.geojson.gz").unlink()


def older_version(slide: Path, output: Path, roi: Path) -> None:
    path = output / "a" / "run.json"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace('"version of results": ', '"version of results": 1000'))


@pytest.mark.parametrize("change", [another_slide, another_region, no_nuclei, older_version])
def test_what_a_run_alone_refuses_is_not_done_in_an_archive(slide, output, tmp_path, change):
    roi = tmp_path / "roi.geojson"
    roi.write_text(ROI % (256, 256))
    run(slide, output, roi=roi)
    kept = shutil.copytree(output / "a", tmp_path / "kept")
    change(slide, output, roi)
    with pytest.raises(EngineError) as refused:
        run_alone(slide, output, **(SETTINGS | {"roi": roi}))
    summary, _ = run(slide, output, roi=roi)
    assert not summary.done
    assert summary.failed[0].failure.reason == str(refused.value)
    if change is not no_nuclei:
        nuclei = "nuclei.geojson.gz"
        assert (output / "a" / nuclei).read_bytes() == (kept / nuclei).read_bytes()


def test_force_replaces_what_does_not_stand(slide: Path, output: Path):
    run(slide, output)
    before = results(output)
    another_slide(slide, output, slide)
    summary, _ = run(slide, output, force=True)
    assert summary.computed == 1
    assert results(output) != before
