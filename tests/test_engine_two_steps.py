"""Two steps: a model finds the regions of a slide, and nuclei are found within them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely

import wsi_engine
from tests.support.two_tissues import TwoTissues, write_two_tissues
from wsi_engine.cli import main
from wsi_engine.engine import found_regions
from wsi_engine.engine.workers import computing
from wsi_engine.errors import EngineError, ModelError, RegionError, SettingsError
from wsi_engine.results.verify import problems_of
from wsi_engine.training.regions import RegionsTraining, train_regions

SETTINGS = {"model": "watershed", "tile_size": 256, "measure": ("shape",), "report": False}
WRITTEN = ("nuclei.geojson.gz", "nuclei.parquet", "roi.geojson", "tissue.geojson")


@pytest.fixture(scope="module")
def regions_model(tmp_path_factory) -> Path:
    """Learnt on another slide than it is used on."""
    folder = tmp_path_factory.mktemp("model")
    other = write_two_tissues(folder / "other.tif", seed=1)
    drawn = other.drawn(folder / "drawn.geojson")
    quick = RegionsTraining(trees=15, most_pixels_per_class=3000)
    train_regions([(other.path, drawn)], folder / "glands.safetensors", quick)
    return folder / "glands.safetensors"


@pytest.fixture(scope="module")
def tissues(tmp_path_factory) -> TwoTissues:
    return write_two_tissues(tmp_path_factory.mktemp("tissues") / "slide.tif", seed=2)


def run(tissues: TwoTissues, output: Path, regions_model: Path, **settings: Any):
    chosen = {"regions_model": str(regions_model), "roi_class": ("Gland",)}
    return wsi_engine.run(tissues.path, output, **(SETTINGS | chosen | settings))


@pytest.fixture(scope="module")
def result(tissues, regions_model, tmp_path_factory):
    return run(tissues, tmp_path_factory.mktemp("result"), regions_model)


def shapes_of(result, class_name: str) -> list[shapely.Geometry]:
    objects = wsi_engine.read_objects(result.folder / "roi.geojson")
    return [item.geometry for item in objects if item.class_name == class_name]


def test_the_glands_of_a_slide_are_found(result, tissues):
    found = shapely.union_all(shapes_of(result, "Gland")) & tissues.inner
    truth = tissues.glandular & tissues.inner
    assert (found & truth).area / (found | truth).area > 0.85
    assert found.area / truth.area == pytest.approx(1, abs=0.12)


def test_they_are_annotations_for_qupath(result):
    objects = wsi_engine.read_objects(result.folder / "roi.geojson")
    assert {item.class_name for item in objects} == {"Gland"}
    assert [item.object_type for item in objects] == ["annotation"] * len(objects)
    assert all(item.is_locked for item in objects), "nobody shall learn from what was found"
    assert {item.name for item in objects} == {f"Gland {k}" for k in range(1, len(objects) + 1)}
    assert len({item.id for item in objects}) == len(objects)
    with pytest.raises(SystemExit) as end:
        main(["validate", str(result.folder / "roi.geojson"), "--strict"])
    assert not end.value.code
    assert problems_of(result.folder) == []


def test_nuclei_are_found_in_them_and_nowhere_else(result):
    table = result.nuclei.arrow
    anchors = shapely.points(table["x"].to_numpy(), table["y"].to_numpy())
    found = shapely.union_all(shapes_of(result, "Gland"))
    assert len(anchors) > 50
    assert shapely.intersects(found, anchors).all()
    assert all(name.startswith("Gland ") for name in table["roi"].to_pylist())


def test_regions_have_the_tables_of_drawn_ones(result, tissues, tmp_path):
    """The same run with the found regions given as drawn ones says the same of each."""
    again = wsi_engine.run(
        tissues.path, tmp_path, roi=result.folder / "roi.geojson", roi_class=("Gland",), **SETTINGS
    )
    tables = [wsi_engine.measure_regions(each.folder).table.to_pylist() for each in (result, again)]
    assert tables[0] == tables[1]
    drawn = [row for row in tables[0] if row["kind"] == "annotation"]
    assert len(drawn) == len(shapes_of(result, "Gland"))
    assert sum(row["Nuclei"] for row in drawn) == result.count
    for name in ("nuclei.parquet", "nuclei.geojson.gz", "roi.geojson"):
        assert (again.folder / name).read_bytes() == (result.folder / name).read_bytes()


def test_other_classes_can_be_asked_for_or_cut_out(tissues, regions_model, tmp_path):
    settings = {"roi_class": (), "exclude_class": ("Gland",), "tile_size": 1024}
    stroma = run(tissues, tmp_path, regions_model, **settings)
    assert len(shapes_of(stroma, "Stroma")) > 0
    assert shapes_of(stroma, "Ignore*") == []
    glands = shapely.union_all(shapes_of(stroma, "Gland"))
    table = stroma.nuclei.arrow
    anchors = shapely.points(table["x"].to_numpy(), table["y"].to_numpy())
    assert len(anchors) > 50
    assert not shapely.intersects(glands.buffer(-0.01), anchors).any()


@pytest.mark.parametrize("settings", [{"workers": 1}, {"workers": 3, "batch_size": 1}], ids=str)
def test_the_bytes_do_not_depend_on_workers(tissues, regions_model, result, tmp_path, settings):
    again = run(tissues, tmp_path, regions_model, **settings)
    for name in WRITTEN:
        assert (again.folder / name).read_bytes() == (result.folder / name).read_bytes(), name


def test_worker_processes_agree_and_do_not_look_for_regions_again(
    tissues, regions_model, result, tmp_path, monkeypatch
):
    monkeypatch.setattr(computing, "MEGAPIXELS_PER_JOB", 0.1)
    monkeypatch.chdir(regions_model.parent)
    again = run(tissues, tmp_path, Path(regions_model.name), jobs=2)
    assert len(again.record.workers) > 0
    for name in WRITTEN:
        assert (again.folder / name).read_bytes() == (result.folder / name).read_bytes(), name
    assert again.record.basis == result.record.basis


def test_a_run_that_goes_on_does_not_look_for_regions_again(
    tissues, regions_model, result, tmp_path, monkeypatch
):
    monkeypatch.setattr("wsi_engine.store.tile_store.MOST_TILES_IN_PART", 1)

    def interrupt(progress: wsi_engine.Progress) -> None:
        if progress.tiles == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tissues, tmp_path, regions_model, observe=interrupt)
    with pytest.raises(EngineError, match=r"run with .*min_region_area: 2000.0 -> 9000.0"):
        run(tissues, tmp_path, regions_model, min_region_area=9000)
    monkeypatch.setattr(found_regions, "_found", None)  # would be called
    again = run(tissues, tmp_path, regions_model)
    assert again.record.tiles.resumed > 0
    for name in WRITTEN:
        assert (again.folder / name).read_bytes() == (result.folder / name).read_bytes(), name
    assert {path.name for path in again.folder.iterdir()} == {
        path.name for path in result.folder.iterdir()
    }


def test_a_finished_run_rests_on_its_regions_model(tissues, regions_model, result, tmp_path):
    output, copy = result.folder.parent, tmp_path / "moved.safetensors"
    copy.write_bytes(regions_model.read_bytes())
    assert run(tissues, output, copy).is_earlier, "files count by their content"
    for changed, why in (
        ({"region_smoothing": 4.0}, r"region_smoothing: 8.0 -> 4.0"),
        ({"min_region_hole": 1.0}, r"min_region_hole: 2000.0 -> 1.0"),
    ):
        with pytest.raises(SettingsError, match=f"finished result with {why}"):
            run(tissues, output, copy, **changed)
    copy.write_bytes(copy.read_bytes() + b" ")
    with pytest.raises(SettingsError, match=r"finished result with regions_model: \w+"):
        run(tissues, output, copy)


def test_the_stage_is_told(tissues, regions_model, tmp_path):
    seen = []

    def observe(progress: wsi_engine.Progress) -> None:
        seen.append(progress.stage)
        if progress.stage == "nuclei":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tissues, tmp_path, regions_model, observe=observe)
    assert seen == ["tissue", "regions", "calibration", "nuclei"]


# What cannot be


@pytest.mark.parametrize("setting", ["roi_class", "exclude_class"])
@pytest.mark.parametrize("name", ["Glands", "Ignore*"])
def test_a_class_that_the_model_does_not_find_is_one_sentence(
    tissues, regions_model, tmp_path, monkeypatch, setting, name
):
    monkeypatch.setattr(found_regions, "_found", None)  # nothing is computed for it
    with pytest.raises(
        SettingsError, match=rf"glands.safetensors finds no regions of class '{name[:6]}.*Gland, St"
    ):
        run(tissues, tmp_path, regions_model, **({"roi_class": ()} | {setting: (name,)}))


def test_no_region_of_the_class_is_one_sentence(tissues, regions_model, tmp_path):
    with pytest.raises(RegionError, match=r"glands.safetensors on slide.tif: no .*'Gland'; .*Str"):
        run(tissues, tmp_path, regions_model, min_region_area=60_000)
    with pytest.raises(RegionError, match=r"glands.safetensors on slide.tif: no region is found"):
        run(tissues, tmp_path, regions_model, min_region_area=1e9)


def test_drawn_or_found_but_not_both(tissues, regions_model, result, tmp_path):
    with pytest.raises(SettingsError, match="give --roi or --regions-model, not both"):
        run(tissues, tmp_path, regions_model, roi=result.folder / "roi.geojson")


def test_a_file_that_is_no_model_is_one_sentence(tissues, regions_model, result, tmp_path):
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(regions_model.read_bytes()[:5000])
    for model, why in (
        (broken, "holds no regions model"),
        (result.folder / "roi.geojson", "holds no regions model"),
        (tmp_path / "absent", "there is no regions model"),
    ):
        with pytest.raises(ModelError, match=why):
            run(tissues, tmp_path / "out", model)


def test_a_slide_without_tissue_says_so(regions_model, tmp_path):
    from tests.support.slides import glass
    from wsi_engine.slide.pyramid import write_pyramid

    write_pyramid(tmp_path / "empty.tif", glass(600, 600), 0.5)
    empty = TwoTissues(tmp_path / "empty.tif", shapely.Polygon(), ())
    with pytest.raises(RegionError, match=r"no tissue found"):
        run(empty, tmp_path, regions_model)


def test_the_command_does_the_same(tissues, regions_model, result, tmp_path):
    options = ["--regions-model", regions_model, "--roi-class", "Gland", "--model", "watershed"]
    options += ["--tile-size", 256, "--measure", "shape", "--no-report"]
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in ("run", tissues.path, "-o", tmp_path, *options)])
    assert not end.value.code
    for name in WRITTEN:
        written = (tmp_path / "slide" / name).read_bytes()
        assert written == (result.folder / name).read_bytes(), name
    record = json.loads((tmp_path / "slide" / "run.json").read_text("utf-8"))
    assert record["settings"]["regions_model"] == str(regions_model)
    assert "regions" in record["stages"]


def test_the_sizes_are_in_square_micrometres(result):
    areas = [shape.area * 0.5**2 for shape in shapes_of(result, "Gland")]
    assert min(areas) > 0.95 * 2000
    assert np.median(areas) > 3000
