"""What a nucleus is in a QuPath file: the same for all who ask."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shapely

from tests.support.objects_by_hand import disc, identity, item, write_file
from wsi_engine.corrections.selection import FLAT, NucleusSelection
from wsi_engine.evaluation.drawings import read_drawing
from wsi_engine.qupath.nuclei import is_nucleus, nucleus_outline, read_nuclei, separate_parts

SMALL, LARGE = disc(100, 100, 3), disc(100, 100, 8)
PARTS = shapely.MultiPolygon([SMALL, disc(130, 100, 5)])
LINE = shapely.LineString([(0, 0), (9, 9)])


def of(object_type, shape=LARGE, k=1, class_name=None, nucleus=None):
    return item(shape, k, class_name, object_type=object_type, nucleus=nucleus)


# (object, classes of annotations that are nuclei, whether it is a nucleus)
TYPES = {
    "detection": (of("detection"), (), True),
    "cell": (of("cell"), (), True),
    "cell with a nucleus": (of("cell", nucleus=SMALL), (), True),
    "tile": (of("tile"), ("Nucleus",), False),
    "core": (of("tmaCore"), ("Nucleus",), False),
    "annotation": (of("annotation"), (), False),
    "annotation without a class": (of("annotation"), ("Nucleus",), False),
    "of that class": (of("annotation", class_name="Nucleus"), ("Nucleus",), True),
    "derived from it": (of("annotation", class_name="Nucleus: Tumor"), ("Other", "Nucleus"), True),
    "of another class": (of("annotation", class_name="Tumor"), ("Nucleus",), False),
    "of the class that it derives from": (
        of("annotation", class_name="Nucleus"),
        ("Nucleus: Tumor",),
        False,
    ),
    "detection of whatever class": (of("detection", class_name="Tumor"), ("Nucleus",), True),
}


@pytest.mark.parametrize(("made", "drawn_class", "expected"), TYPES.values(), ids=TYPES)
def test_which_objects_are_nuclei(made, drawn_class, expected):
    assert is_nucleus(made, drawn_class) == expected


# (object, its outline as a nucleus, the parts of it that do not touch)
OUTLINES = {
    "detection": (of("detection"), LARGE, [LARGE]),
    "cell": (of("cell"), LARGE, [LARGE]),
    "cell with a nucleus": (of("cell", nucleus=SMALL), SMALL, [SMALL]),
    "cell without a boundary": (replace(of("cell", nucleus=SMALL), roi=None), SMALL, [SMALL]),
    "several parts": (of("detection", PARTS), PARTS, [PARTS.geoms[1], SMALL]),
    "no area": (of("detection", LINE), LINE, [LINE]),
}


@pytest.mark.parametrize(("made", "outline", "parts"), OUTLINES.values(), ids=OUTLINES)
def test_the_outline_of_a_nucleus(made, outline, parts):
    assert nucleus_outline(made).equals(outline)
    found = separate_parts(nucleus_outline(made))
    assert len(found) == len(parts)
    assert all(map(shapely.equals, found, parts))


MIXED = [
    of("detection", SMALL, 1),
    of("cell", disc(50, 50, 9), 2, nucleus=disc(50, 50, 4)),
    of("annotation", disc(20, 20), 3),
    of("tile", disc(70, 20), 4),
    of("detection", LINE, 5),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_file(tmp_path / "x.geojson", MIXED)


def test_detections_and_cells_are_the_nuclei_of_a_file_that_has_any(path):
    found = read_nuclei(path)
    assert found.ids == [identity(1), identity(2), identity(5)]
    assert found.geometries[1].equals(disc(50, 50, 4))


def test_in_a_file_without_them_all_objects_are_nuclei(tmp_path):
    found = read_nuclei(write_file(tmp_path / "x.geojson", MIXED[2:4]))
    assert found.ids == [identity(3), identity(4)]


def test_whoever_asks_finds_the_same_nuclei(path):
    selection = NucleusSelection()
    taken = list(selection.nuclei(MIXED))
    drawing = read_drawing(path)
    foreign = read_nuclei(path)
    with_area = [shape for shape in foreign.geometries if shape.area > 0]
    assert [made.id for made in taken] == foreign.ids[:2]
    for shapes in ([made.geometry for made in taken], drawing.detections.shapes):
        assert shapely.equals(shapes, with_area).all()
    assert selection.left_out == {"annotation": 1, "tile": 1, FLAT: 1}


def test_parts_that_do_not_touch_are_nuclei_of_their_own(tmp_path: Path):
    touching = shapely.MultiPolygon([shapely.box(0, 0, 4, 4), shapely.box(4, 0, 8, 4)])
    path = write_file(
        tmp_path / "x.geojson", [of("detection", PARTS), of("detection", touching, 2)]
    )
    found = read_nuclei(path)
    assert [round(shape.area) for shape in found.geometries] == [
        round(PARTS.geoms[1].area), round(SMALL.area), 32,
    ]  # fmt: skip
    assert found.ids == [identity(1), None, identity(2)]
    assert found.divided == 1


def test_a_class_that_is_not_read_as_one_is_told(tmp_path: Path):
    square = {"type": "Polygon", "coordinates": [[[0, 0], [9, 0], [9, 9], [0, 9], [0, 0]]]}
    said = [
        {"cell_type": "Tumor", "area": 81},
        {"type_str": "Stroma"},
        {"objectType": "detection", "classification": '{"name": "Tumor"}'},
        {"objectType": "detection", "classification": {"name": "Tumor"}, "class": "Tumor"},
    ]
    for chosen, elsewhere, in_text in [
        (said[:2], ("cell_type", "type_str"), 0),
        (said[2:], (), 1),
        (said[3:], (), 0),
    ]:
        features = [{"type": "Feature", "geometry": square, "properties": each} for each in chosen]
        path = tmp_path / "x.geojson"
        path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
        found = read_nuclei(path)
        assert (found.elsewhere, found.in_text) == (elsewhere, in_text)
        assert found.take(np.array([0])).elsewhere == elsewhere


def test_the_parts_of_a_corrected_nucleus_are_all_taken_in():
    taken = list(NucleusSelection().nuclei([of("detection", PARTS)]))
    assert [made.id for made in taken] == [identity(1), None]
    assert sum(made.geometry.area for made in taken) == pytest.approx(PARTS.area)
