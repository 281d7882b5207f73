"""Nuclei of another program: measured as in a run, with a defined answer to whatever comes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import shapely

import wsi_engine
from wsi_engine.cli import main
from wsi_engine.engine.progress import Progress
from wsi_engine.errors import CorrectionsError, GeoJSONError, ResultError
from wsi_engine.nuclei.labels import LABEL_COLUMNS
from wsi_engine.nuclei.measure.context import CONTEXT_COLUMNS, measure_context
from wsi_engine.nuclei.measure.groups import GROUPS
from wsi_engine.sample import SampleTruth
from wsi_engine.slide.frames import Mpp
from wsi_engine.slide.pyramid import write_pyramid

TILE_GROUPS = tuple(name for name in GROUPS if name != "context")
ONE_ID = "6ba7b810-9dad-41d1-80b4-00c04fd430c8"
DISC = shapely.Point(300, 300).buffer(16)
"""8 µm across at 0.25 µm."""


@pytest.fixture(scope="module")
def found(sample: SampleTruth, tmp_path_factory: pytest.TempPathFactory) -> wsi_engine.Result:
    """What a run finds, and measures, on the sample."""
    # The tissue leaves out nuclei at its edge, which then do not clip a ring.
    return wsi_engine.run(
        sample.slide_path,
        tmp_path_factory.mktemp("found"),
        model="watershed",
        tissue=False,
        measure=TILE_GROUPS,
    )


def test_the_context_is_that_among_all_nuclei_of_the_slide(sample: SampleTruth):
    table = wsi_engine.run(
        sample.slide_path, model="watershed", measure=("context",), tile_size=128
    ).nuclei.arrow.to_pandas()
    values = measure_context(table[["x", "y"]].to_numpy(), Mpp(sample.mpp, sample.mpp))
    names = [column.name for column in CONTEXT_COLUMNS]
    np.testing.assert_array_equal(table[names].to_numpy(), values)


FILES = ["columns.json", "nuclei.geojson.gz", "nuclei.parquet", "run.json"]
"""What is in the folder after nuclei were measured."""


def features(*geometries, object_type="detection", **members):
    return {
        "type": "FeatureCollection",
        "features": [
            {
                "type": "Feature",
                "geometry": json.loads(shapely.to_geojson(geometry)),
                "properties": {"objectType": object_type},
                **members,
            }
            for geometry in geometries
        ],
    }


def measure(sample: SampleTruth, folder: Path, document: object, **settings: object):
    """Measure what a document holds; return the table and the warnings."""
    path = folder / "nuclei.geojson"
    path.write_text(json.dumps(document), encoding="utf-8")
    result = wsi_engine.measure(sample.slide_path, path, folder, **settings)
    return result.nuclei.arrow.to_pandas(), list(result.record.warnings)


@pytest.mark.parametrize("tile_size", [128, 1024])
def test_what_a_run_found_is_measured_the_same_again(
    sample: SampleTruth, found: wsi_engine.Result, tmp_path: Path, tile_size: int
):
    assert found.folder is not None
    again = wsi_engine.measure(
        sample.slide_path,
        found.folder / "nuclei.geojson.gz",
        tmp_path,
        measure=TILE_GROUPS,
        tile_size=tile_size,
    )
    first = found.nuclei.arrow.to_pandas().set_index("id")
    second = again.nuclei.arrow.to_pandas().set_index("id").loc[first.index]
    assert len(second) > 100
    names = list(first.columns[7 + len(LABEL_COLUMNS) :])
    assert len(names) > 70
    np.testing.assert_array_equal(second[names].to_numpy(), first[names].to_numpy())
    assert again.record.warnings == ()


def test_ids_and_classes_are_kept(sample: SampleTruth, tmp_path: Path):
    document = features(DISC, shapely.Point(500, 500).buffer(14))
    document["features"][0]["id"] = ONE_ID
    document["features"][0]["properties"]["classification"] = {
        "name": "Tumor",
        "color": [200, 0, 0],
    }
    document["features"][1]["id"] = "no-uuid"
    table, warnings = measure(sample, tmp_path, document)
    assert warnings == []
    assert table["id"][0] == ONE_ID
    assert table["class"].tolist()[0] == "Tumor"
    assert table["class"].isna().tolist() == [False, True]
    assert table["id"][1] != "no-uuid"
    assert len(table["id"][1]) == 36


def test_of_one_uuid_the_first_is_kept(sample: SampleTruth, tmp_path: Path):
    """A copied object keeps its id in many programs; two may even lie at one place."""
    document = features(DISC, DISC, shapely.Point(500, 500).buffer(14), id=ONE_ID)
    document["features"] += features(DISC)["features"]
    table, warnings = measure(sample, tmp_path, document)
    assert table["id"].is_unique
    assert table.loc[table["id"] == ONE_ID, "x"].tolist() == [300]
    assert len(table) == 4
    (warning,) = warnings
    assert "2 nuclei have the id of another one" in warning
    again, _ = measure(sample, tmp_path, document)
    assert again["id"].tolist() == table["id"].tolist()
    # Those that were given a name here are not pushed aside by the others.
    (tmp_path / "first").mkdir()
    named = features(DISC)
    named["features"] += features(DISC, id=table["id"].iloc[-1])["features"]
    kept, warnings = measure(sample, tmp_path / "first", named)
    assert kept["id"].is_unique
    assert kept["id"].iloc[-1] == table["id"].iloc[-1]
    assert warnings == []


def test_a_feature_without_geometry_is_counted(sample: SampleTruth, tmp_path: Path):
    document = features(DISC, shapely.Point(500, 500).buffer(14), shapely.Point(9, 9))
    document["features"].append(document["features"][0] | {"geometry": None})
    path = tmp_path / "nuclei.geojson"
    path.write_text(json.dumps(document), encoding="utf-8")
    record = wsi_engine.measure(sample.slide_path, path, tmp_path).record
    assert (record.nuclei.count, record.nuclei.left_out) == (2, 2)
    assert "1 feature(s) that could not be read were left out" in " ".join(record.warnings)


PIXELS = "Hematoxylin: Mean"
CASES = {
    # geometries; rows; whether each has pixels; words of the warning
    "one nucleus": ([DISC], [True], ""),
    "none": ([], [], "holds no nuclei"),
    "outside the slide": ([DISC, shapely.box(-90, -90, -60, -60)], [True, False], "1 of 2 nuclei"),
    "far outside": ([shapely.box(1e6, 1e6, 1e6 + 30, 1e6 + 30)], [False], "lie outside the slide"),
    "half outside": ([shapely.box(-15, 100, 15, 130)], [True], ""),
    "crossing itself": ([shapely.Polygon([(0, 0), (40, 40), (40, 0), (0, 40)])], [True], ""),
    "of two parts": (
        [shapely.MultiPolygon([DISC, shapely.box(400, 400, 404, 404)])],
        [True, True],
        "parts",
    ),
    "a point and a line": (
        [shapely.Point(9, 9), shapely.LineString([(0, 0), (9, 9)]), DISC],
        [True],
        "2 objects without an area",
    ),
    "an area of tissue": (
        [DISC, shapely.Point(500, 300).buffer(16), shapely.box(0, 0, 900, 900)],
        [True, True, False],
        "1 of 3 objects are larger than 100 µm",
    ),
    "smaller than a pixel": ([DISC, shapely.box(10, 10, 10.3, 10.3)], [True, False], ""),
    "in another unit": ([shapely.Point(9, 9).buffer(3)], [True], "median nucleus is 1.5 µm"),
    "larger than nuclei are": (
        [shapely.Point(99, 99).buffer(24)],
        [True],
        "median nucleus is 12.0",
    ),
}


@pytest.mark.parametrize(("geometries", "measured", "words"), CASES.values(), ids=CASES)
def test_whatever_comes_has_defined_values(
    sample: SampleTruth, tmp_path: Path, geometries, measured, words
):
    table, warnings = measure(sample, tmp_path, features(*geometries))
    assert np.isfinite(table["Area µm^2"]).all()
    assert (table["Area µm^2"] > 0).all()
    assert np.isfinite(table[PIXELS]).tolist() == measured
    assert np.isfinite(table["Cytoplasm: Eosin: Mean"]).tolist() == measured
    assert words in " ".join(warnings)
    assert bool(warnings) == bool(words)


def test_an_area_of_tissue_takes_no_ring_from_the_nuclei_in_it(sample: SampleTruth, tmp_path: Path):
    alone, _ = measure(sample, tmp_path, features(DISC))
    within, _ = measure(sample, tmp_path, features(DISC, shapely.box(0, 0, 900, 900)))
    name = "Nucleus/Cell area ratio"
    assert within[name][0] == alone[name][0] < 0.6


def test_annotations_are_measured_where_there_is_nothing_else(sample: SampleTruth, tmp_path: Path):
    document = features(DISC, object_type="annotation")
    assert len(measure(sample, tmp_path, document)[0]) == 1
    document["features"] += features(shapely.Point(500, 500).buffer(14))["features"]
    table, _ = measure(sample, tmp_path, document)
    assert table["x"].tolist() == [500]


def test_another_pixel_size_gives_other_micrometres(sample: SampleTruth, tmp_path: Path):
    table, _ = measure(sample, tmp_path, features(DISC))
    other, warnings = measure(sample, tmp_path, features(DISC), mpp=0.5)
    assert other["Area µm^2"][0] == pytest.approx(4 * table["Area µm^2"][0])
    assert "--mpp 0.5 replaces" in warnings[0]


def test_a_slide_without_stain(tmp_path: Path):
    glass = tmp_path / "glass.tif"
    write_pyramid(glass, np.full((1024, 1024, 3), 255, np.uint8), 0.25)
    nuclei = tmp_path / "nuclei.geojson"
    nuclei.write_text(json.dumps(features(DISC)), encoding="utf-8")
    result = wsi_engine.measure(glass, nuclei, tmp_path, stains="estimated")
    row = result.nuclei.arrow.to_pandas().iloc[0]
    assert row["Hematoxylin: Mean"] == 0
    assert np.isnan(row["Hematoxylin: Haralick Correlation (F2)"])
    assert "no two stains" in result.record.warnings[0]


def test_no_such_file(sample: SampleTruth, tmp_path: Path):
    with pytest.raises(GeoJSONError, match="no such file"):
        wsi_engine.measure(sample.slide_path, tmp_path / "none.geojson", tmp_path / "out")
    assert not (tmp_path / "out" / sample.slide_path.stem).exists()


def left_by_a_run(sample: SampleTruth, output: Path) -> Path:
    """Run with annotations, then leave the tiles of a run that was cut off."""
    roi = output / "drawn.geojson"
    roi.write_text(json.dumps(features(shapely.box(0, 0, 600, 600), object_type="annotation")))
    result = wsi_engine.run(sample.slide_path, output, model="watershed", measure=(), roi=roi)
    assert result.folder is not None
    return result.folder


def test_a_run_is_not_replaced_unasked_and_leaves_nothing_behind(
    sample: SampleTruth, tmp_path: Path
):
    folder = left_by_a_run(sample, tmp_path)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ResultError, match=r"the result of a run: .* --force"):
        measure(sample, tmp_path, features(DISC))
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    measure(sample, tmp_path, features(DISC), force=True)
    assert sorted(path.name for path in folder.iterdir()) == FILES
    # What was measured is replaced without asking.
    assert len(measure(sample, tmp_path, features(DISC))[0]) == 1


def test_neither_apply_nor_a_run_takes_the_place_of_what_was_measured(
    sample: SampleTruth, tmp_path: Path
):
    measure(sample, tmp_path, features(DISC))
    folder = tmp_path / sample.slide_path.stem
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(CorrectionsError, match=r"take no corrections: .* measure them again$"):
        wsi_engine.apply_corrections(folder / "nuclei.geojson.gz", folder)
    with pytest.raises(ResultError, match=r"nuclei of another program .*: choose another --output"):
        wsi_engine.run(sample.slide_path, tmp_path, model="watershed")
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_an_unfinished_run_is_not_replaced_unasked(sample: SampleTruth, tmp_path: Path):
    def cut_off(progress: Progress) -> None:
        if progress.stage == "nuclei" and progress.tiles > 1:
            raise KeyboardInterrupt

    folder = tmp_path / sample.slide_path.stem
    with pytest.raises(KeyboardInterrupt):
        wsi_engine.run(
            sample.slide_path, tmp_path, model="watershed", tile_size=128, observe=cut_off
        )
    assert (folder / ".work").exists()
    with pytest.raises(ResultError, match="an unfinished run"):
        measure(sample, tmp_path, features(DISC))
    measure(sample, tmp_path, features(DISC), force=True)
    assert sorted(path.name for path in folder.iterdir()) == FILES


def test_the_command(sample: SampleTruth, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    nuclei = tmp_path / "mine.geojson"
    nuclei.write_text(json.dumps(features(DISC)), encoding="utf-8")
    with pytest.raises(SystemExit) as end:
        main(["measure", str(sample.slide_path), str(nuclei), "-o", str(tmp_path / "out")])
    assert end.value.code == 0
    folder = tmp_path / "out" / sample.slide_path.stem
    assert sample.slide_path.name in capsys.readouterr().out
    assert sorted(path.name for path in folder.iterdir()) == FILES
