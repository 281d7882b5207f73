"""`wsi-engine diff`: files and folders in, counts and groups out."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.exports import shared_export
from tests.support.objects_by_hand import (
    as_qupath_gives_back,
    disc,
    feature,
    identity,
    item,
    write_file,
)
from wsi_engine.cli import main
from wsi_engine.corrections.diff import diff
from wsi_engine.errors import GeoJSONError, OutputError

OLD = [
    item(disc(20, 20), 0, "Tumor"),
    item(disc(40, 20), 1, "Tumor"),
    item(disc(60, 20), 2, "Stroma"),
    item(disc(80, 20), 3, "Stroma"),
    item(disc(100, 20), 4),
]
NEW = [
    item(as_qupath_gives_back(disc(20, 20)), 0, "Tumor"),
    item(disc(40, 20), 1, "Stroma"),
    item(disc(61, 20), 2, "Tumor", name="large"),
    item(disc(100, 20), 4),
    item(disc(120, 20), 9, "Tumor"),
]
COUNTS = {"added": 1, "deleted": 1, "reclassified": 2, "reshaped": 1, "renamed": 1, "marked": 0}


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return write_file(tmp_path / "old.geojson", OLD)


@pytest.fixture
def new(tmp_path: Path) -> Path:
    return write_file(tmp_path / "new.geojson", NEW)


def test_counts_and_classes(old, new):
    found = diff(old, new)
    assert found.counts == COUNTS
    assert found.unchanged == 2
    assert found.reclassified == {("Tumor", "Stroma"): 1, ("Stroma", "Tumor"): 1}
    overlap = disc(60, 20).intersection(disc(61, 20)).area / disc(60, 20).union(disc(61, 20)).area
    assert found.mean_iou == pytest.approx(overlap)
    assert found.not_compared == {}


def test_a_file_and_itself(old):
    found = diff(old, old)
    assert not any(found.counts.values())
    assert found.unchanged == len(OLD)


def test_there_and_back(old, new):
    back = diff(new, old)
    assert back.counts == COUNTS
    assert back.reclassified == {("Tumor", "Stroma"): 1, ("Stroma", "Tumor"): 1}


@pytest.mark.parametrize(
    ("one", "other", "count"),
    [
        ("12_hierarchy_flat_all_objects", "12_hierarchy_nested_childObjects", 7),
        ("01_annotations_all_shapes", "01_annotations_all_shapes_bare_array", 9),
        ("old_v0.4.4_mixed_bare_array", "old_v0.4.4_mixed_feature_collection", 9),
    ],
)
def test_exports_of_qupath_of_the_same_objects(one, other, count):
    found = diff(shared_export(f"{one}.geojson"), shared_export(f"{other}.geojson"))
    assert not any(found.counts.values())
    assert found.unchanged == count


def test_split_files_in_a_folder(old, new, tmp_path):
    folder = tmp_path / "split"
    folder.mkdir()
    write_file(folder / "nuclei_001.geojson", OLD[:2])
    write_file(folder / "nuclei_002.geojson", OLD[2:])
    assert diff(folder, new).counts == COUNTS


def test_of_a_result_folder_the_objects_are_compared(new, tmp_path):
    folder = tmp_path / "slide"
    folder.mkdir()
    plain = write_file(tmp_path / "all.geojson", OLD)
    (folder / "nuclei.geojson.gz").write_bytes(gzip.compress(plain.read_bytes()))
    write_file(folder / "tissue.geojson", [item(disc(60, 60, 50), 50, object_type="annotation")])
    write_file(folder / "corrections.geojson.gz", [])  # a record, not a version
    (folder / "run.json").write_text("{}")
    found = diff(folder, new)
    assert found.counts == COUNTS
    assert found.not_compared == {"annotation": 1}


def result_of(folder: Path) -> Path:
    folder.mkdir()
    nuclei = write_file(folder / "all.geojson", OLD)
    (folder / "nuclei.geojson.gz").write_bytes(gzip.compress(nuclei.read_bytes()))
    nuclei.unlink()
    write_file(folder / "tissue.geojson", [item(disc(60, 60, 50), 50, object_type="annotation")])
    write_file(folder / "roi.geojson", [item(disc(60, 60, 40), 51, object_type="annotation")])
    (folder / "run.json").write_text("{}")
    return folder


def test_tissue_and_regions_that_an_export_lacks_are_not_deleted(tmp_path):
    drawn = item(disc(60, 60, 30), 70, "Tumor", object_type="annotation")
    found = diff(result_of(tmp_path / "slide"), write_file(tmp_path / "x.geojson", [*NEW, drawn]))
    assert found.counts == COUNTS
    assert found.annotations == dict.fromkeys(COUNTS, 0) | {"added": 1}


def test_annotations_are_counted_apart(tmp_path):
    regions = [item(disc(60, 60, r), 70 + r, "Tumor", object_type="annotation") for r in (30, 40)]
    old = write_file(tmp_path / "old.geojson", [*OLD, *regions])
    new = write_file(tmp_path / "new.geojson", [*NEW, regions[0]])
    found = diff(old, new)
    assert found.counts == COUNTS
    assert found.annotations == dict.fromkeys(COUNTS, 0) | {"deleted": 1}


def test_new_ids_are_told_and_are_no_difference(capsys, old, tmp_path):
    copies = [replace(made, id=identity(900 + k)) for k, made in enumerate(OLD)]
    for objects, overlapping in ((copies, 0), (OLD + copies, len(OLD))):
        found = diff(old, write_file(tmp_path / "x.geojson", objects))
        assert not any(found.counts.values())
        assert (found.by_place, found.overlapping) == (len(OLD), overlapping)
    with pytest.raises(SystemExit):
        main(["diff", str(old), str(tmp_path / "x.geojson")])
    told = capsys.readouterr().err
    assert "5 nuclei have ids that the result does not know" in told
    assert "5 of them were passed over" in told


@pytest.mark.parametrize("swapped", [False, True])
def test_types_that_one_version_lacks_are_not_compared(old, tmp_path, swapped):
    region = item(disc(50, 50, 40), 70, "Tumor", object_type="annotation")
    other = write_file(tmp_path / "x.geojson", [*OLD, region, item(disc(9, 9), 9)])
    found = diff(other, old) if swapped else diff(old, other)
    assert found.not_compared == {"annotation": 1}
    assert found.counts["deleted" if swapped else "added"] == 1


@pytest.mark.parametrize(("first", "group"), [(True, "added"), (False, "deleted")])
def test_an_empty_version_is_compared(old, tmp_path, first, group):
    empty = write_file(tmp_path / "empty.geojson", [])
    found = diff(empty, old) if first else diff(old, empty)
    assert found.counts == dict.fromkeys(COUNTS, 0) | {group: len(OLD)}
    assert found.not_compared == {}


def test_children_are_compared_like_all_others(old, tmp_path):
    parent = feature(item(disc(60, 60, 90), 50, object_type="annotation"))
    parent["properties"]["childObjects"] = [feature(made) for made in NEW]
    found = diff(old, write_file(tmp_path / "nested.geojson", [parent]))
    assert found.counts == COUNTS


def test_the_groups_are_written_for_a_look(old, new, tmp_path):
    diff(old, new, tmp_path / "look")
    groups = {
        path.stem: json.loads(path.read_text("utf-8"))["features"]
        for path in (tmp_path / "look").iterdir()
    }
    assert {name: [f["id"] for f in features] for name, features in groups.items()} == {
        "added": [identity(9)],
        "deleted": [identity(3)],
        "reclassified": [identity(1), identity(2)],
        "reshaped": [identity(2)],
        "renamed": [identity(2)],
        "marked": [],
    }
    before = [f["properties"]["metadata"]["Class before"] for f in groups["reclassified"]]
    assert before == ["Tumor", "Stroma"]
    iou = groups["reshaped"][0]["properties"]["measurements"]["IoU with before"]
    assert iou == pytest.approx(diff(old, new).mean_iou, rel=1e-6)
    assert not diff(tmp_path / "look" / "deleted.geojson", old).counts["reshaped"]


def test_a_version_that_is_read_twice_is_doubted_once(old, new, tmp_path, caplog):
    document = json.loads(old.read_text("utf-8"))
    features = document["features"] if isinstance(document, dict) else document
    features.append({"type": "Feature", "geometry": {"type": "Blob"}, "properties": {}})
    old.write_text(json.dumps(document), "utf-8")
    assert diff(old, new, write=tmp_path / "groups").counts["deleted"]
    assert len([record for record in caplog.records if "Blob" in record.getMessage()]) == 1


def test_nothing_is_written_when_a_file_breaks_off(old, new, tmp_path):
    text = new.read_text("utf-8")
    new.write_text(text[: len(text) // 2], "utf-8")
    with pytest.raises(GeoJSONError, match=r"new\.geojson"):
        diff(old, new, tmp_path / "look")
    assert list((tmp_path / "look").iterdir()) == []


@pytest.mark.parametrize("what", ["absent", "no JSON", "empty folder"])
def test_versions_that_are_none(old, tmp_path, what):
    path = tmp_path / "strange"
    if what == "no JSON":
        path.write_text("no JSON")
    if what == "empty folder":
        path.mkdir()
    with pytest.raises(GeoJSONError, match="strange"):
        diff(old, path)


def test_a_folder_that_cannot_be_written(old, new, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot write"):
        diff(old, new, tmp_path / "file")


def test_what_the_command_prints(capsys, old, new, tmp_path):
    with pytest.raises(SystemExit) as end:
        main(["diff", str(old), str(new), "--write", str(tmp_path / "look")])
    assert not end.value.code
    printed = capsys.readouterr().out
    lines = [line.split() for line in printed.splitlines()]
    for group, count in COUNTS.items():
        assert any(words[:1] == [group] and words[1].strip(",") == str(count) for words in lines)
    assert ["unchanged", "2"] in lines
    assert any(words[1:6:2] == ["Tumor", "Stroma", "1"] for words in lines)
    assert "look" in printed
