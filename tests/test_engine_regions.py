"""Regions drawn in QuPath bound a run, and each nucleus says in which of them it lies."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import shapely

import wsi_engine
from tests.support.objects_by_hand import identity, item, write_file
from wsi_engine.cli import main
from wsi_engine.errors import RegionError, SettingsError
from wsi_engine.nuclei.labels import CORE_COLUMNS
from wsi_engine.qupath.reader import read_objects
from wsi_engine.qupath.writer import write_objects
from wsi_engine.regions.measure import measure_regions
from wsi_engine.results.layout import COLUMNS
from wsi_engine.sample import SampleTruth

SETTINGS = {"model": "watershed", "tile_size": 512}
TUMOUR, ISLAND, NECROSIS, STROMA = 1, 2, 3, 4


def drawn(shape, k, class_name, name=None):
    return item(shape, k, class_name, name=name, object_type="annotation")


@pytest.fixture(scope="module")
def shapes(sample: SampleTruth) -> dict[int, shapely.Geometry]:
    """A tumour with an island of tumour and a necrosis in it, and stroma that overlaps it."""
    x, y = sample.field.x_min, sample.field.y_min
    return {
        TUMOUR: shapely.box(x + 100, y + 100, x + 700, y + 700),
        ISLAND: shapely.box(x + 150, y + 150, x + 350, y + 350),
        NECROSIS: shapely.Point(x + 500, y + 500).buffer(120),
        STROMA: shapely.box(x + 600, y + 100, x + 900, y + 700),
    }


@pytest.fixture(scope="module")
def roi(shapes, tmp_path_factory) -> Path:
    objects = [
        drawn(shapes[STROMA], STROMA, "Stroma"),
        drawn(shapes[TUMOUR], TUMOUR, "Tumor", "main"),
        drawn(shapes[NECROSIS], NECROSIS, "Necrosis"),
        drawn(shapes[ISLAND], ISLAND, "Tumor: Positive"),
        drawn(shapely.Point(3, 3), 5, "Tumor"),
    ]
    return write_file(tmp_path_factory.mktemp("roi") / "drawn.geojson", objects)


def run(sample: SampleTruth, output: Path, **settings: Any) -> wsi_engine.Result:
    return wsi_engine.run(sample.slide_path, output, **(SETTINGS | settings))


@pytest.fixture(scope="module")
def whole(sample, tmp_path_factory) -> wsi_engine.Result:
    return run(sample, tmp_path_factory.mktemp("whole"))


def anchors(result: wsi_engine.Result) -> np.ndarray:
    table = result.nuclei.arrow
    return shapely.points(table["x"].to_numpy(), table["y"].to_numpy())


@pytest.mark.parametrize(
    ("roi_class", "exclude_class", "area"),
    [
        ((), (), lambda s: shapely.union_all(list(s.values()))),
        (("Tumor",), (), lambda s: s[TUMOUR]),
        (("Tumor",), ("Necrosis",), lambda s: s[TUMOUR] - s[NECROSIS]),
        (("Tumor: Positive", "Stroma"), (), lambda s: s[ISLAND] | s[STROMA]),
        ((), ("Necrosis", "Stroma"), lambda s: s[TUMOUR] - s[NECROSIS] - s[STROMA]),
    ],
    ids=lambda value: str(value) if isinstance(value, tuple) else "area",
)
def test_nuclei_are_found_in_the_area_and_nowhere_else(
    sample, roi, shapes, whole, tmp_path, roi_class, exclude_class, area
):
    result = run(sample, tmp_path, roi=roi, roi_class=roi_class, exclude_class=exclude_class)
    wanted = area(shapes)
    assert shapely.intersects(wanted, anchors(result)).all()
    # The model is calibrated to the area, so that not all nuclei are the same.
    there = int(shapely.intersects(wanted, anchors(whole)).sum())
    assert 0.9 * there < result.count < 1.1 * there
    assert 20 < there < 0.8 * whole.count


@pytest.fixture(scope="module")
def result(sample, roi, tmp_path_factory) -> wsi_engine.Result:
    output = tmp_path_factory.mktemp("result")
    return run(sample, output, roi=roi, roi_class=("Tumor", "Stroma"), exclude_class=("Necrosis",))


def test_each_nucleus_says_in_which_annotation_it_lies(result, shapes):
    table, points = result.nuclei.arrow, anchors(result)
    names = {ISLAND: "Tumor: Positive", STROMA: "Stroma", TUMOUR: "main"}
    smallest_first = sorted(names, key=lambda k: shapes[k].area)
    expected = [next(k for k in smallest_first if shapes[k].intersects(p)) for p in points]
    assert set(expected) == set(names)
    assert table["roi"].to_pylist() == [names[k] for k in expected]
    assert table["roi_id"].to_pylist() == [identity(k) for k in expected]


def test_cores_of_an_array_bound_a_run_and_a_missing_one_has_no_numbers(sample, tmp_path):
    x, y = sample.field.x_min, sample.field.y_min
    cores = [
        replace(
            item(shapely.Point(x + column, y + row).buffer(180), k, object_type="tmaCore"),
            name=name,
            is_missing=name == "A-2",
            metadata={"Case ID": f"case {k}"},
        )
        for k, (name, row, column) in enumerate(
            [("A-1", 300, 300), ("A-2", 300, 900), ("B-1", 900, 300)]
        )
    ]
    roi = tmp_path / "array.geojson"
    write_objects(roi, cores)
    found = run(sample, tmp_path, roi=roi, regions=True)
    assert set(found.nuclei.arrow["roi"].to_pylist()) == {"A-1", "B-1"}
    in_cores = set(
        zip(*(found.nuclei.arrow[name].to_pylist() for name in CORE_COLUMNS), strict=True)
    )
    assert in_cores == {("A-1", "A", "1"), ("B-1", "B", "1")}
    described = {
        column["name"] for column in json.loads((found.folder / COLUMNS).read_text("utf-8"))
    }
    assert described == set(found.nuclei.arrow.column_names)
    missing = cores[1].geometry
    assert not shapely.intersects(missing, anchors(found)).any()
    rows = {row["region"]: row for row in measure_regions(found.folder).table.to_pylist()}
    assert {name: rows[name]["Case ID"] for name in ("A-1", "A-2", "B-1")} == {
        "A-1": "case 0",
        "A-2": "case 1",
        "B-1": "case 2",
    }
    assert (rows["B-1"]["TMA row"], rows["B-1"]["TMA column"]) == ("B", "1")
    assert rows["A-1"]["Nuclei"] > 5
    assert rows["A-2"]["Nuclei"] is rows["A-2"]["Area mm^2"] is None


def test_nuclei_in_an_annotation_are_still_in_its_core_and_stay_so_when_corrected(sample, tmp_path):
    x, y = sample.field.x_min, sample.field.y_min
    core = replace(
        item(shapely.Point(x + 300, y + 300).buffer(180), 0, object_type="tmaCore"), name="2-B"
    )
    inner = item(shapely.box(x + 200, y + 200, x + 300, y + 400), 1, object_type="annotation")
    beside = item(shapely.box(x + 600, y + 200, x + 800, y + 400), 2, object_type="annotation")
    write_objects(roi := tmp_path / "array.geojson", [core, inner, beside])
    found = run(sample, tmp_path, roi=roi)
    before = found.nuclei.arrow
    assert set(before["roi_id"].to_pylist()) == {one.id for one in (core, inner, beside)}
    for row in before.select(["roi_id", *CORE_COLUMNS]).to_pylist():
        expected = (None, None, None) if row["roi_id"] == beside.id else ("2-B", "2", "B")
        assert tuple(row[name] for name in CORE_COLUMNS) == expected
    (export,) = wsi_engine.export_result(found.folder, "geoparquet")
    assert pq.read_table(export)["tma_core"].to_pylist() == before["tma_core"].to_pylist()
    objects = read_objects(found.folder / "nuclei.geojson.gz")
    write_objects(tmp_path / "corrected.geojson", objects[1:])
    wsi_engine.apply_corrections(tmp_path / "corrected.geojson", found.folder)
    after = pq.read_table(found.folder / "nuclei.parquet")
    assert after["tma_core"].to_pylist() == before["tma_core"].to_pylist()[1:]


def test_without_cores_nuclei_have_no_columns_of_them(result):
    assert not set(CORE_COLUMNS) & set(result.nuclei.arrow.column_names)


def test_annotations_without_an_id_have_one_in_all_tables(sample, shapes, tmp_path):
    """Regions of the file that bounded the run join the nuclei in it, and those of the cohort."""
    drawings = [
        drawn(shapely.Point(3, 3), None, "Tumor"),
        drawn(shapes[STROMA], None, "Stroma", "right"),
        drawn(shapes[STROMA], None, "Stroma", "right again"),
        drawn(shapes[TUMOUR], None, "Tumor", "left"),
        drawn(shapes[NECROSIS], None, "Necrosis"),
    ]
    path = write_file(tmp_path / "drawn.geojson", drawings)
    result = run(sample, tmp_path / "out", roi=path, exclude_class=("Necrosis",))
    regions = wsi_engine.measure_regions(result.folder, path).table
    cohort = wsi_engine.build_cohort(tmp_path / "out").table
    written = [
        *wsi_engine.read_objects(result.folder / "roi.geojson"),
        *wsi_engine.read_objects(result.folder / "regions.geojson"),
    ]
    nuclei = result.nuclei.arrow
    ids = set(nuclei["roi_id"].to_pylist())
    assert len(ids) == 2
    named = dict(zip(regions["id"].to_pylist(), regions["region"].to_pylist(), strict=True))
    assert {named[k] for k in ids} <= {"left", "right", "right again"}
    assert [named[k] for k in nuclei["roi_id"].to_pylist()] == nuclei["roi"].to_pylist()
    assert cohort["id"].to_pylist() == regions["id"].to_pylist()
    drawn_ids = {k for k, name in named.items() if k and not name.startswith("Tissue")}
    assert len(drawn_ids) == 4
    assert {made.id for made in written if made.class_name != "Tissue"} == drawn_ids


def test_qupath_shows_it_as_metadata(result):
    text = gzip.decompress((result.folder / "nuclei.geojson.gz").read_bytes())
    metadata = [f["properties"]["metadata"] for f in json.loads(text)["features"]]
    table = result.nuclei.arrow
    assert [pair["ROI"] for pair in metadata] == table["roi"].to_pylist()
    assert [pair["ROI id"] for pair in metadata] == table["roi_id"].to_pylist()


def test_without_regions_there_is_none(sample, tmp_path):
    result = run(sample, tmp_path)
    assert set(result.nuclei.arrow["roi"].to_pylist()) == {None}
    assert set(result.nuclei.arrow["source"].to_pylist()) == {"engine"}
    assert not (tmp_path / "sample" / "roi.geojson").exists()
    text = gzip.decompress((tmp_path / "sample" / "nuclei.geojson.gz").read_bytes())
    assert b"metadata" not in text


def test_the_annotations_are_written_beside_as_they_were_drawn(result, shapes):
    regions = wsi_engine.read_objects(result.folder / "roi.geojson")
    assert {made.id for made in regions} == {
        identity(k) for k in (TUMOUR, ISLAND, NECROSIS, STROMA)
    }
    main = next(made for made in regions if made.name == "main")
    assert main.class_name == "Tumor"
    assert main.geometry.equals(shapes[TUMOUR])


def test_regions_of_an_earlier_run_do_not_stay(sample, roi, tmp_path):
    run(sample, tmp_path, roi=roi)
    assert (tmp_path / "sample" / "roi.geojson").exists()
    run(sample, tmp_path, force=True)
    assert not (tmp_path / "sample" / "roi.geojson").exists()


def test_the_density_is_that_of_the_area(result, shapes):
    wanted = shapely.union_all([shapes[TUMOUR], shapes[STROMA]]) - shapes[NECROSIS]
    pixel_mm2 = (0.25**2) / 1e6
    assert result.record.nuclei.area_mm2 <= wanted.area * pixel_mm2 + 1e-6
    assert result.record.settings.roi_class == ("Tumor", "Stroma")


@pytest.mark.parametrize("settings", [{"workers": 1}, {"workers": 4, "batch_size": 1}], ids=str)
def test_the_bytes_do_not_depend_on_workers(sample, roi, result, tmp_path, settings):
    chosen = {"roi": roi, "roi_class": ("Tumor", "Stroma"), "exclude_class": ("Necrosis",)}
    again = run(sample, tmp_path, **chosen, **settings)
    for name in ("nuclei.geojson.gz", "nuclei.parquet", "roi.geojson"):
        assert (again.folder / name).read_bytes() == (result.folder / name).read_bytes()


def test_labels_do_not_depend_on_the_tiles(sample, roi, result, tmp_path):
    chosen = {"roi": roi, "roi_class": ("Tumor", "Stroma"), "exclude_class": ("Necrosis",)}
    again = run(sample, tmp_path, **chosen, tile_size=256)
    tables = [pq.read_table(r.folder / "nuclei.parquet").sort_by("id") for r in (result, again)]
    for name in ("id", "roi", "roi_id"):
        assert tables[0][name].to_pylist() == tables[1][name].to_pylist()
    assert np.allclose(tables[0]["x"], tables[1]["x"])


@pytest.mark.parametrize("renamed", [False, True])
def test_tiles_are_used_again_only_for_the_same_regions(
    sample, roi, tmp_path, monkeypatch, renamed
):
    monkeypatch.setattr("wsi_engine.store.tile_store.MOST_TILES_IN_PART", 1)
    path = tmp_path / "drawn.geojson"
    path.write_bytes(roi.read_bytes())

    def interrupt(progress: wsi_engine.Progress) -> None:
        if progress.tiles == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(sample, tmp_path, roi=path, tile_size=256, observe=interrupt)
    if renamed:
        path.write_text(roi.read_text("utf-8").replace('"main"', '"other"'), "utf-8")
        with pytest.raises(wsi_engine.EngineError, match=r"unfinished run with roi: \w+\.\.\. -> "):
            run(sample, tmp_path, roi=path, tile_size=256)
    again = run(sample, tmp_path, roi=path, tile_size=256, force=renamed)
    assert (again.record.tiles.resumed == 0) == renamed
    assert ("other" in again.nuclei.arrow["roi"].to_pylist()) == renamed


def test_the_options_of_the_command_can_be_repeated(sample, roi, result, tmp_path):
    options = ["--roi", roi, "--roi-class", "Tumor", "--roi-class", "Stroma"]
    options += ["--exclude-class", "Necrosis", "--model", "watershed", "--tile-size", 512]
    with pytest.raises(SystemExit) as end:
        main([str(o) for o in ("run", sample.slide_path, "-o", tmp_path, *options)])
    assert not end.value.code
    written, expected = (
        (folder / "nuclei.geojson.gz").read_bytes()
        for folder in (tmp_path / "sample", result.folder)
    )
    assert written == expected


def test_no_annotation_of_the_class(sample, roi, tmp_path):
    with pytest.raises(RegionError, match=r"drawn\.geojson.*'Tumour'.*Necrosis \(1\)"):
        run(sample, tmp_path / "out", roi=roi, roi_class=("Tumour",))
    assert not (tmp_path / "out" / "sample").exists()


@pytest.mark.parametrize("setting", ["roi_class", "exclude_class"])
def test_classes_without_annotations(sample, tmp_path, setting):
    with pytest.raises(SettingsError, match="--roi"):
        run(sample, tmp_path / "out", **{setting: ("Tumor",)})
