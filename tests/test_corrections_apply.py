"""`wsi-engine apply`: what a pathologist corrected wins, stays, and is asked for when in doubt."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import shapely

import wsi_engine
from tests.support.objects_by_hand import (
    as_qupath_gives_back,
    disc,
    feature,
    identity,
    item,
    write_file,
)
from tests.support.runs import in_a_process
from wsi_engine.cli import main
from wsi_engine.corrections.diff import diff
from wsi_engine.corrections.record import read_corrections
from wsi_engine.corrections.sources import objects_of
from wsi_engine.engine.apply import apply_corrections
from wsi_engine.errors import (
    BusyError,
    CorrectionsError,
    GeoJSONError,
    OutputError,
    ResultError,
)
from wsi_engine.nuclei.measure.context import CONTEXT_COLUMNS, measure_context
from wsi_engine.nuclei.measure.groups import measured_alone
from wsi_engine.nuclei.measure.shape import QUPATH_NAMES
from wsi_engine.regions.cohort import build_cohort
from wsi_engine.regions.measure import measure_regions
from wsi_engine.results.status import status_of
from wsi_engine.results.verify import problems_of
from wsi_engine.sample import SampleTruth
from wsi_engine.slide.frames import Mpp

SETTINGS = {"model": "watershed", "tile_size": 512}
Feature = dict[str, Any]


@pytest.fixture(scope="module")
def engine_result(sample: SampleTruth, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = wsi_engine.run(sample.slide_path, tmp_path_factory.mktemp("out"), **SETTINGS).folder
    assert folder is not None
    return folder


@pytest.fixture
def result(engine_result: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(engine_result, tmp_path / "out" / engine_result.name))


def features_of(folder: Path) -> list[Feature]:
    files = sorted(folder.glob("nuclei*.geojson.gz"))
    return [f for file in files for f in json.loads(gzip.decompress(file.read_bytes()))["features"]]


def polygon_of(feature: Feature) -> shapely.Polygon:
    return shapely.geometry.shape(feature["geometry"])


def by_id(features: list[Feature]) -> dict[str, Feature]:
    return {f["id"]: f for f in features}


def without_context(feature: Feature) -> Feature:
    """Leave out what depends on the neighbours."""
    context = {column.name for column in CONTEXT_COLUMNS}
    values = feature["properties"]["measurements"]
    own = {name: value for name, value in values.items() if name not in context}
    return feature | {"properties": feature["properties"] | {"measurements": own}}


def record_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "run.json").read_text("utf-8"))


def outputs(folder: Path) -> dict[str, bytes]:
    """Files that corrections change; the record has times, and the page tells of the run."""
    other = {"run.json", "report.html", "quality.json", "thumbnail.jpg"}
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name not in other}


def as_exported(features: list[Feature]) -> list[Feature]:
    """Let every shape come back as QuPath writes it."""
    back = json.loads(json.dumps(features))
    for k, made in enumerate(back):
        turned = as_qupath_gives_back(polygon_of(made), k % 5)
        made["geometry"] = shapely.geometry.mapping(turned)
    return back


def edit(folder: Path, path: Path, change: Callable[[list[Feature]], list[Feature]]) -> Path:
    return write_file(path, change(as_exported(features_of(folder))))


def grown(made: Feature, by: float = 1.5) -> None:
    shape = shapely.set_precision(polygon_of(made).buffer(by), 0.01)
    made["geometry"] = shapely.geometry.mapping(shape)


def correct(features: list[Feature]) -> list[Feature]:
    """Delete 0 to 2, reclassify 3, reshape 4, name 5, do all of it to 6, and add two."""
    classification = {"name": "Tumor: Positive", "color": [1, 2, 3]}
    for k in (3, 6):
        features[k]["properties"]["classification"] = classification
    for k in (4, 6):
        grown(features[k])
    for k in (5, 6):
        features[k]["properties"]["name"] = f"nucleus {k}"
    added = [
        item(disc(310.25, 300), 1, "Drawn"),
        item(disc(350, 300.5), 2, object_type="cell", nucleus=disc(350, 300.5, 4)),
    ]
    return features[3:] + [feature(made) for made in added]


@pytest.fixture
def corrected(result: Path, tmp_path: Path) -> Path:
    return edit(result, tmp_path / "corrected.geojson", correct)


# --- what is corrected wins ------------------------------------------------------------------


def test_an_export_that_was_not_corrected_changes_nothing(result, tmp_path):
    before = outputs(result) | {"run.json": (result / "run.json").read_bytes()}
    applied = apply_corrections(edit(result, tmp_path / "same.geojson", list), result)
    assert (applied.deleted, applied.edited, applied.added) == (0, 0, 0)
    assert applied.nuclei == len(features_of(result))
    assert outputs(result) | {"run.json": (result / "run.json").read_bytes()} == before


def test_every_correction_arrives_in_geojson(result, corrected):
    before = features_of(result)
    applied = apply_corrections(corrected, result)
    after = by_id(features_of(result))
    wanted = by_id(json.loads(corrected.read_text("utf-8"))["features"])
    assert (applied.deleted, applied.edited, applied.added) == (3, 4, 2)
    assert after.keys() == wanted.keys()
    for k in (3, 6):
        names = after[before[k]["id"]]["properties"]["classification"]
        assert names == {"names": ["Tumor", "Positive"], "color": [1, 2, 3]}
    for k in (5, 6):
        assert after[before[k]["id"]]["properties"]["name"] == f"nucleus {k}"
    for k in (4, 6):
        found = after[before[k]["id"]]
        assert polygon_of(found).equals(polygon_of(wanted[before[k]["id"]]))
    assert polygon_of(after[identity(1)]).equals(disc(310.25, 300))
    assert polygon_of(after[identity(2)]).equals(disc(350, 300.5, 4))  # the nucleus of the cell
    for k in range(7, len(before)):
        assert without_context(after[before[k]["id"]]) == without_context(before[k])
    sources = {i: f["properties"].get("metadata", {}).get("Source") for i, f in after.items()}
    assert sources[identity(1)] == sources[identity(2)] == "added"
    assert [sources[before[k]["id"]] for k in range(3, 8)] == [*["edited"] * 4, None]


def test_the_table_follows(result, corrected, sample):
    before = pq.read_table(result / "nuclei.parquet")
    apply_corrections(corrected, result)
    table = pq.read_table(result / "nuclei.parquet")
    assert table["id"].to_pylist() == [f["id"] for f in features_of(result)]
    assert table["source"].to_pylist() == (
        ["edited"] * 4 + ["engine"] * (len(before) - 7) + ["added"] * 2
    )
    assert table["class"].to_pylist()[:4] == ["Tumor: Positive", None, None, "Tumor: Positive"]
    last = dict(zip(table["id"].to_pylist()[-2:], table["class"].to_pylist()[-2:], strict=True))
    assert last == {identity(1): "Drawn", identity(2): None}
    assert table["name"].to_pylist()[2:4] == ["nucleus 5", "nucleus 6"]
    polygons = shapely.from_wkb(table["geometry"].to_numpy())
    measured = measured_alone(polygons, QUPATH_NAMES, Mpp(sample.mpp, sample.mpp))
    for name, column in zip(QUPATH_NAMES, measured.T, strict=True):
        np.testing.assert_array_equal(table[name].to_numpy(), column, err_msg=name)
    # The pixels of a new outline were not measured; those of the others stay as they were.
    ink = table["Hematoxylin: Mean"].to_numpy()
    assert np.flatnonzero(np.isnan(ink)).tolist() == [1, 3, len(table) - 2, len(table) - 1]
    same = np.isfinite(ink[:-2])
    np.testing.assert_array_equal(ink[:-2][same], before["Hematoxylin: Mean"].to_numpy()[3:][same])
    # A nucleus that goes, comes or moves is so for its neighbours, too.
    anchors = np.column_stack([table["x"].to_numpy(), table["y"].to_numpy()])
    context = measure_context(anchors, Mpp(sample.mpp, sample.mpp))
    for column, values in zip(CONTEXT_COLUMNS, context.T, strict=True):
        np.testing.assert_array_equal(table[column.name].to_numpy(), values, err_msg=column.name)
    # Score and place stay those of the engine unless the shape is another; a drawn one has none.
    kept, old = table.slice(0, len(before) - 3), before.slice(3)
    np.testing.assert_array_equal(kept["score"], old["score"])
    assert np.isnan(table["score"].to_numpy()[-2:]).all()
    moved = np.flatnonzero(kept["x"].to_numpy() != old["x"].to_numpy())
    assert set(moved.tolist()) <= {1, 3}
    centroid = polygons[1].centroid
    assert table["x"][1].as_py() == pytest.approx(centroid.x, abs=0.0051)


def test_run_json_says_what_was_done(result, corrected):
    before = record_of(result)
    apply_corrections(corrected, result)
    record = record_of(result)
    corrections = record["corrections"]
    assert before["corrections"] is None
    assert {k: corrections[k] for k in ("deleted", "edited", "added")} == {
        "deleted": 3,
        "edited": 4,
        "added": 2,
    }
    assert corrections["file"] == "corrections.geojson.gz"
    assert [entry["file"] for entry in corrections["applied"]] == ["corrected.geojson"]
    assert corrections["time"]
    assert record["nuclei"]["count"] == before["nuclei"]["count"] - 1 == len(features_of(result))
    density = record["nuclei"]["count"] / record["nuclei"]["area_mm2"]
    assert record["nuclei"]["density_per_mm2"] == pytest.approx(density, abs=0.01)
    assert record["files"].keys() == before["files"].keys() | {"corrections.geojson.gz"}
    untouched = before.keys() - {"nuclei", "corrections", "files"}
    assert {k: record[k] for k in untouched} == {k: before[k] for k in untouched}


def test_afterwards_there_is_no_difference(result, corrected):
    apply_corrections(corrected, result)
    found = diff(result, corrected)
    # The nuclei of cells became detections; what is left of the cell is not compared.
    assert found.not_compared == {"annotation": 1, "cell": 1}
    assert not any(found.counts.values())


def test_applying_again_changes_no_byte(result, corrected):
    apply_corrections(corrected, result)
    first = outputs(result) | {"run.json": (result / "run.json").read_bytes()}
    again = apply_corrections(corrected, result)
    assert (again.deleted, again.edited, again.added) == (0, 0, 0)
    assert outputs(result) | {"run.json": (result / "run.json").read_bytes()} == first


def test_the_same_corrections_give_the_same_bytes(result, corrected, engine_result, tmp_path):
    other = Path(shutil.copytree(engine_result, tmp_path / "other" / engine_result.name))
    apply_corrections(corrected, result)
    apply_corrections(corrected, other)
    assert outputs(other) == outputs(result)


def test_split_files_stay_split(sample, tmp_path):
    out = wsi_engine.run(sample.slide_path, tmp_path, **SETTINGS, split=50).folder
    apply_corrections(edit(out, tmp_path / "x.geojson", correct), out)
    sizes = [
        len(json.loads(gzip.decompress(file.read_bytes()))["features"])
        for file in sorted(out.glob("nuclei_*.geojson.gz"))
    ]
    assert set(sizes[:-1]) == {50}
    assert sum(sizes) == record_of(out)["nuclei"]["count"]


# --- corrections outlive the run ---------------------------------------------------------------


def test_a_later_run_makes_the_corrections_again(result, corrected, sample):
    apply_corrections(corrected, result)
    expected, record = outputs(result), record_of(result)
    again = wsi_engine.run(sample.slide_path, result.parent, **SETTINGS, force=True)
    assert outputs(result) == expected
    made = record_of(result)
    assert made["nuclei"] == record["nuclei"]
    assert made["corrections"] == {k: v for k, v in record["corrections"].items() if k != "time"}
    assert made["warnings"] == record["warnings"]
    assert json.loads(again.record.text()) == made


def test_a_run_with_the_same_settings_and_corrections_does_nothing(result, corrected, sample):
    apply_corrections(corrected, result)
    before = outputs(result) | {"run.json": (result / "run.json").read_bytes()}
    again = wsi_engine.run(sample.slide_path, result.parent, **SETTINGS)
    assert again.is_earlier
    assert json.loads(again.record.text()) == record_of(result)
    assert before == outputs(result) | {"run.json": (result / "run.json").read_bytes()}


def test_corrections_that_came_from_elsewhere_are_made(result, corrected, sample, tmp_path):
    """Copied into the folder, or taken out of it: a run makes the result right."""
    without = outputs(result)
    apply_corrections(corrected, result)
    expected, kept = outputs(result), result / "corrections.geojson.gz"
    kept.rename(tmp_path / "aside")
    assert not wsi_engine.run(sample.slide_path, result.parent, **SETTINGS).is_earlier
    assert outputs(result) == without
    (tmp_path / "aside").rename(kept)
    assert not wsi_engine.run(sample.slide_path, result.parent, **SETTINGS).is_earlier
    assert outputs(result) == expected


def test_a_run_that_does_not_find_a_corrected_nucleus_says_so_and_keeps_it(
    result, corrected, sample, tmp_path
):
    apply_corrections(corrected, result)
    far = write_file(
        tmp_path / "roi.geojson",
        [item(shapely.box(*roi_far_from(features_of(result), sample)), object_type="annotation")],
    )
    again = wsi_engine.run(sample.slide_path, result.parent, **SETTINGS, roi=far, force=True)
    ids = by_id(features_of(result)).keys()
    edited = corrected_ids(result, "edited")
    assert len(edited) == 4
    assert set(edited) <= ids
    assert any("7 nuclei that corrections.geojson.gz" in text for text in again.record.warnings)


def roi_far_from(features: list[Feature], sample: SampleTruth) -> tuple[float, ...]:
    """Half of the sample's field, the one without the first nuclei."""
    field, y = sample.field, [polygon_of(f).centroid.y for f in features[:4]]
    middle = (field.y_min + field.y_max) / 2
    assert max(y) < middle - 50
    return field.x_min, middle + 50, field.x_max, field.y_max


def corrected_ids(folder: Path, source: str) -> list[str]:
    text = gzip.decompress((folder / "corrections.geojson.gz").read_bytes())
    features = json.loads(text)["features"]
    return [f["id"] for f in features if f["properties"]["metadata"]["Source"] == source]


def test_a_run_with_another_model_into_the_same_folder_is_refused(result, corrected, sample):
    apply_corrections(corrected, result)
    before = outputs(result)
    with pytest.raises(CorrectionsError, match=r"model \(watershed\).*--output"):
        wsi_engine.run(sample.slide_path, result.parent, model="starconvex", force=True)
    assert outputs(result) == before


def test_a_record_that_was_damaged_is_an_error(result, corrected, sample):
    apply_corrections(corrected, result)
    record = result / "corrections.geojson.gz"
    record.write_bytes(record.read_bytes()[:100])
    with pytest.raises(CorrectionsError, match=r"corrections\.geojson\.gz cannot be read"):
        wsi_engine.run(sample.slide_path, result.parent, **SETTINGS)
    with pytest.raises(CorrectionsError, match=r"corrections\.geojson\.gz cannot be read"):
        apply_corrections(corrected, result)


# --- corrections upon corrections ---------------------------------------------------------------


def test_later_corrections_add_to_earlier_ones(result, corrected, tmp_path):
    apply_corrections(corrected, result)

    def more(features):
        kept = [f for f in features if f["id"] != identity(1)]
        kept[0]["properties"]["classification"] = {"name": "Stroma", "color": [150, 200, 150]}
        return kept[:10] + kept[11:]

    applied = apply_corrections(edit(result, tmp_path / "more.geojson", more), result)
    assert (applied.deleted, applied.edited, applied.added) == (2, 1, 0)
    assert applied.corrections.counts == {"deleted": 4, "edited": 4, "added": 1}
    files = [entry["file"] for entry in record_of(result)["corrections"]["applied"]]
    assert files == ["corrected.geojson", "more.geojson"]


def test_what_was_deleted_can_come_back(result, corrected, tmp_path):
    whole = edit(result, tmp_path / "whole.geojson", list)
    before = by_id(features_of(result))
    apply_corrections(corrected, result)
    applied = apply_corrections(whole, result)
    assert (applied.deleted, applied.added) == (2, 3)
    assert applied.corrections.counts == {"deleted": 0, "edited": 7, "added": 0}
    after = by_id(features_of(result))
    assert after.keys() == before.keys()
    for key, made in after.items():
        assert polygon_of(made).equals_exact(polygon_of(before[key]).normalize(), 1) or (
            polygon_of(made).symmetric_difference(polygon_of(before[key])).area < 0.5
        )


def test_an_added_nucleus_that_is_deleted_again_leaves_no_trace(result, tmp_path):
    before = outputs(result)
    extra = edit(result, tmp_path / "a.geojson", lambda f: [*f, feature(item(disc(9, 9), 1))])
    back = edit(result, tmp_path / "b.geojson", list)
    assert apply_corrections(extra, result).added == 1
    assert apply_corrections(back, result).deleted == 1
    assert outputs(result) == before
    assert not (result / "corrections.geojson.gz").exists()


def test_of_two_at_once_one_waits_and_nothing_is_lost(result, tmp_path, monkeypatch):
    first = edit(result, tmp_path / "first.geojson", lambda features: features[1:])
    second = edit(result, tmp_path / "second.geojson", lambda features: features[:1])
    refused = []

    def meanwhile(path, problems):
        if path == first:
            with pytest.raises(BusyError, match="let it finish") as caught:
                apply_corrections(second, result, yes=True)
            refused.append(caught)
        return objects_of(path, problems)

    monkeypatch.setattr("wsi_engine.engine.apply.objects_of", meanwhile)
    assert apply_corrections(first, result).deleted == 1
    assert len(refused) == 1
    assert record_of(result)["corrections"]["deleted"] == 1


def test_the_picture_of_the_slide_stays_where_the_slide_has_gone(result, corrected):
    """Without the slide the page is made again, but its picture and flags cannot be."""
    record = record_of(result)
    record["slide_path"] = "/absent/sample.tif"
    (result / "run.json").write_text(json.dumps(record), "utf-8")
    before = (result / "thumbnail.jpg").read_bytes()
    assert apply_corrections(corrected, result).deleted == 3
    assert (result / "thumbnail.jpg").read_bytes() == before
    assert (result / "quality.json").exists()


USERS_FILES = (
    "nuclei_corrected.geojson.gz",
    "nuclei_01.geojson.gz",
    "nuclei_of_me/notes.txt",
    "regions_tumour.geojson",
    "regions_old/regions.csv",
    "quality.txt",
)


def test_no_file_of_the_user_is_touched_or_counted(result, corrected, sample):
    """The engine knows its own by their whole names; folders are none of them."""
    for name in USERS_FILES:
        (result / name).parent.mkdir(exist_ok=True)
        (result / name).write_bytes(b"mine")
    mine = result / "nuclei_corrected.geojson.gz"
    mine.write_bytes(gzip.compress(corrected.read_bytes()))
    contents = {name: (result / name).read_bytes() for name in USERS_FILES}
    assert apply_corrections(mine, result).deleted == 3
    assert {name: (result / name).read_bytes() for name in USERS_FILES} == contents
    assert problems_of(result) == []
    assert not any(diff(result, corrected).counts.values())
    wsi_engine.run(sample.slide_path, result.parent, **SETTINGS, force=True)
    assert {name: (result / name).read_bytes() for name in USERS_FILES} == contents


@pytest.mark.parametrize("then", ["apply", "run"])
def test_cut_off_before_its_regions_are_renewed_the_next_makes_up_for_it(
    result, corrected, sample, monkeypatch, then
):
    def cut(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("wsi_engine.regions.measure.summarise", cut)
        with pytest.raises(KeyboardInterrupt):
            apply_corrections(corrected, result)
    count = record_of(result)["nuclei"]["count"]
    assert count == len(features_of(result))
    assert pq.read_table(result / "regions.parquet")["Nuclei"][0].as_py() != count
    if then == "apply":
        assert apply_corrections(corrected, result).edited == 0
    else:
        assert wsi_engine.run(sample.slide_path, result.parent, **SETTINGS).is_earlier
    assert pq.read_table(result / "regions.parquet")["Nuclei"][0].as_py() == count
    assert (result / "report.html").exists()
    build_cohort(result.parent)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
@pytest.mark.parametrize("then", ["apply", "run", "regions"])
def test_killed_while_the_result_is_published_nothing_is_lost(result, corrected, sample, then):
    assert in_a_process(apply_and_die, corrected, result) == -signal.SIGKILL
    assert not (result / "run.json").exists()
    assert [status.state for status in status_of(result)] == ["unfinished"]
    assert problems_of(result) == []
    if then == "apply":
        applied = apply_corrections(corrected, result)
        assert (applied.deleted, applied.edited, applied.added) == (0, 0, 0)
    elif then == "run":
        assert wsi_engine.run(sample.slide_path, result.parent, **SETTINGS).is_earlier
    else:
        measure_regions(result)
    assert [status.state for status in status_of(result)] == ["finished"]
    assert record_of(result)["corrections"]["deleted"] == 3
    assert problems_of(result) == []


def apply_and_die(corrected: Path, result: Path) -> None:
    """Apply a file, and be killed when the old record has gone."""
    unlink = os.unlink

    def deadly(path, **options) -> None:
        unlink(path, **options)
        if Path(path) == result / "run.json":
            os.kill(os.getpid(), signal.SIGKILL)

    os.unlink = deadly
    apply_corrections(corrected, result)


# --- what a file may be ---------------------------------------------------------------------------


def test_a_part_deletes_nothing(result, tmp_path):
    part = edit(result, tmp_path / "part.geojson", lambda features: correct(features)[:10])
    applied = apply_corrections(part, result, partial=True)
    assert (applied.deleted, applied.edited, applied.added) == (0, 4, 0)
    assert applied.nuclei == record_of(result)["nuclei"]["count"]


def test_a_file_that_lacks_most_nuclei_is_refused(result, tmp_path):
    few = edit(result, tmp_path / "few.geojson", lambda features: features[:10])
    before = outputs(result)
    with pytest.raises(CorrectionsError, match=r"few\.geojson lacks .*--partial.*--yes"):
        apply_corrections(few, result)
    assert outputs(result) == before
    assert apply_corrections(few, result, yes=True).nuclei == 10


def test_annotations_are_no_nuclei_unless_they_are_said_to_be(result, tmp_path):
    drawn = item(disc(310, 300), 1, "Nucleus: drawn", object_type="annotation")
    tile = item(disc(500, 300), 2, object_type="tile")
    path = edit(result, tmp_path / "x.geojson", lambda f: [*f, feature(drawn), feature(tile)])
    applied = apply_corrections(path, result)
    assert applied.added == 0
    assert applied.left_out == {"annotation": 1, "tile": 1}
    applied = apply_corrections(path, result, drawn_class=["Nucleus"])
    assert applied.added == 1
    assert applied.left_out == {"tile": 1}
    assert features_of(result)[-1]["properties"]["objectType"] == "detection"


def test_nuclei_without_an_area_are_left_out(result, tmp_path):
    flat = item(shapely.LineString([(0, 0), (9, 9)]), 1)
    path = edit(result, tmp_path / "x.geojson", lambda features: [*features, feature(flat)])
    applied = apply_corrections(path, result)
    assert applied.left_out == {"without an area": 1}
    assert applied.added == 0


def test_parts_that_do_not_touch_are_nuclei_and_the_largest_keeps_the_id(result, tmp_path):
    parts = item(shapely.MultiPolygon([disc(310, 300, 3), disc(330, 300, 6)]), 1)
    path = edit(result, tmp_path / "x.geojson", lambda features: [*features, feature(parts)])
    assert apply_corrections(path, result).added == 2
    assert polygon_of(by_id(features_of(result))[identity(1)]).equals(disc(330, 300, 6))
    assert apply_corrections(path, result).edited == 0


def test_a_nucleus_without_id_gets_one_that_stays(result, tmp_path):
    path = edit(result, tmp_path / "x.geojson", lambda f: [*f, feature(item(disc(310, 300)))])
    assert apply_corrections(path, result).added == 1
    assert apply_corrections(path, result).added == 0


def test_an_id_that_occurs_twice_counts_once(result, tmp_path):
    path = edit(result, tmp_path / "x.geojson", lambda features: [*features, features[3]])
    applied = apply_corrections(path, result)
    assert applied.duplicates == 1
    assert (applied.deleted, applied.edited, applied.added) == (0, 0, 0)


def test_an_unreadable_nucleus_is_not_taken_for_a_deleted_one(result, tmp_path):
    def spoil(features):
        features[7]["geometry"] = {"type": "Polygon", "coordinates": "none"}
        return features

    path = edit(result, tmp_path / "x.geojson", spoil)
    with pytest.raises(CorrectionsError, match=r"x\.geojson: feature 7.*--partial"):
        apply_corrections(path, result)
    assert apply_corrections(path, result, partial=True).deleted == 0


@pytest.mark.parametrize("what", ["no folder", "unfinished", "no table", "spoilt table"])
def test_folders_that_hold_no_result(result, corrected, what):
    folder = result
    if what == "no folder":
        folder = result.parent / "absent"
    if what == "unfinished":
        (result / "run.json").unlink()
    if what == "no table":
        (result / "nuclei.parquet").unlink()
    if what == "spoilt table":
        (result / "nuclei.parquet").write_bytes(b"no table")
    with pytest.raises((CorrectionsError, ResultError)) as caught:
        apply_corrections(corrected, folder)
    assert folder.name in str(caught.value)
    assert not (result / ".work").exists()


def test_a_file_that_breaks_off_changes_nothing(result, corrected):
    text = corrected.read_text("utf-8")
    corrected.write_text(text[: len(text) // 2], "utf-8")
    before = outputs(result)
    with pytest.raises(GeoJSONError, match=r"corrected\.geojson"):
        apply_corrections(corrected, result)
    assert outputs(result) == before


def test_a_disk_that_is_full_changes_nothing(result, corrected, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    before = outputs(result) | {"run.json": (result / "run.json").read_bytes()}
    monkeypatch.setattr("wsi_engine.results.nucleus_files.GeoJSONWriter.write", full)
    with pytest.raises(OutputError, match="disk is full"):
        apply_corrections(corrected, result)
    assert outputs(result) | {"run.json": (result / "run.json").read_bytes()} == before


def test_tiles_of_a_run_that_was_interrupted_are_left_alone(result, corrected):
    tiles = result / ".work" / "tiles"
    tiles.mkdir(parents=True)
    (tiles / "part-000000.arrow").write_bytes(b"of a run that goes on later")
    apply_corrections(corrected, result)
    assert (tiles / "part-000000.arrow").exists()


def test_what_the_command_prints(capsys, result, corrected):
    with pytest.raises(SystemExit) as end:
        main(["apply", str(corrected), str(result)])
    assert not end.value.code
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["deleted", "3"] in lines
    assert ["edited", "4"] in lines
    assert ["added", "2"] in lines


# --- what is marked is corrected -------------------------------------------------------------


def mark(features: list[Feature]) -> list[Feature]:
    """Lock 0, colour 1, note something at 2."""
    features[0]["properties"]["isLocked"] = True
    features[1]["properties"]["color"] = [1, 2, 3]
    features[2]["properties"]["metadata"] = {"seen": "yes", "_wsi_engine": "a mark of the import"}
    return features


def test_locks_own_colours_and_metadata_are_edits(result, tmp_path):
    before = features_of(result)
    applied = apply_corrections(edit(result, tmp_path / "marked.geojson", mark), result)
    assert (applied.deleted, applied.edited, applied.added) == (0, 3, 0)
    after = features_of(result)
    source = {"Source": "edited"}
    expected = [
        {"isLocked": True, "metadata": source},
        {"color": [1, 2, 3], "metadata": source},
        {"metadata": {"seen": "yes"} | source},
    ]
    for old, new, marks in zip(before, after, expected, strict=False):
        assert new == old | {"properties": old["properties"] | marks}
    assert after[3:] == before[3:]
    again = apply_corrections(edit(result, tmp_path / "again.geojson", lambda all_: all_), result)
    assert (again.deleted, again.edited, again.added) == (0, 0, 0)


def test_metadata_that_an_export_of_qupath_0_5_lacks_stay(result, tmp_path):
    apply_corrections(edit(result, tmp_path / "marked.geojson", mark), result)

    def lost(features: list[Feature]) -> list[Feature]:
        for made in features:
            made["properties"].pop("metadata", None)
        features[2]["properties"]["name"] = "odd one"
        return features

    applied = apply_corrections(edit(result, tmp_path / "lost.geojson", lost), result)
    assert applied.edited == 1
    assert features_of(result)[2]["properties"]["metadata"]["seen"] == "yes"


# --- ids that QuPath gave anew ---------------------------------------------------------------


def with_new_ids(features: list[Feature]) -> list[Feature]:
    return [made | {"id": identity(10_000 + k)} for k, made in enumerate(features)]


@pytest.mark.parametrize("partial", [False, True])
@pytest.mark.parametrize("both", [False, True])
def test_new_ids_double_nothing(result, tmp_path, partial, both):
    before = features_of(result)

    def change(features: list[Feature]) -> list[Feature]:
        copies = with_new_ids(features)
        grown(copies[0])
        return features + copies if both else copies

    file = edit(result, tmp_path / "new_ids.geojson", change)
    applied = apply_corrections(file, result, partial=partial)
    assert (applied.deleted, applied.edited, applied.added) == (0, 1, 0)
    assert applied.by_place == len(before)
    assert applied.overlapping == (len(before) - 1 if both else 0)
    after = features_of(result)
    assert [f["id"] for f in after] == [f["id"] for f in before]
    assert polygon_of(after[0]).area > polygon_of(before[0]).area


def test_of_two_drawn_in_one_place_one_is_added(result, tmp_path):
    twins = [feature(item(disc(310.25, 300), k)) for k in (1, 2)]
    file = edit(result, tmp_path / "twins.geojson", lambda all_: all_ + twins)
    applied = apply_corrections(file, result)
    assert (applied.added, applied.overlapping) == (1, 1)


def test_what_was_looked_at_is_kept(result: Path, tmp_path: Path):
    """Where deleted nuclei were, and which areas were checked, is what training learns from."""
    features = as_exported(features_of(result))
    gone, edited = features[0]["id"], features[1]["id"]
    before = {k: polygon_of(by_id(features_of(result))[k]) for k in (gone, edited)}
    grown(features[1])
    area = {"type": "Polygon", "coordinates": [[[0, 0], [90, 0], [90, 80], [0, 80], [0, 0]]]}
    checked = {"objectType": "annotation", "classification": {"name": "Checked"}}
    drawn = {"type": "Feature", "geometry": area, "properties": checked}
    applied = apply_corrections(write_file(tmp_path / "a.geojson", [*features[1:], drawn]), result)
    assert applied.checked == 1
    assert applied.left_out == {}
    kept = read_corrections(result)
    assert kept is not None
    assert {k: shape.equals(before[k]) for k, shape in kept.outlines.items()} == {
        gone: True, edited: True,
    }  # fmt: skip
    assert [part.area for part in kept.checked] == [90 * 80]
    # What is exported without them leaves them as they were, and a later edit the outline.
    grown(features[1], 3)
    apply_corrections(write_file(tmp_path / "b.geojson", features[1:]), result)
    again = read_corrections(result)
    assert again is not None
    assert (again.checked, again.outlines) == (kept.checked, kept.outlines)
    assert problems_of(result) == []
