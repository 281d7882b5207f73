"""CellViT and HoVer-Net: every form that they write, and words for what they do not."""

from __future__ import annotations

import gzip
import json

import cv2
import numpy as np
import pytest
import shapely

from wsi_engine.convert.cellvit import read_cellvit
from wsi_engine.convert.hovernet import magnification, read_hovernet
from wsi_engine.convert.types import read_types
from wsi_engine.errors import ConversionError
from wsi_engine.nuclei.polygons import polygons_from_rings
from wsi_engine.nuclei.tracing import trace_labels
from wsi_engine.qupath.objects import PathClass

TYPE_MAP = {"0": "Background", "1": "Neoplastic", "2": "Inflammatory"}


@pytest.fixture
def labels():
    """Three nuclei of an image."""
    image = np.zeros((60, 80), np.int32)
    for k, (x, y, a, b) in enumerate([(20, 20, 9, 6), (50, 30, 5, 11), (66, 50, 4, 4)], 1):
        rows, columns = np.mgrid[:60, :80]
        image[((columns - x) / a) ** 2 + ((rows - y) / b) ** 2 <= 1] = k
    return image


def outlines(labels):
    xy, offsets, _ = trace_labels(labels)
    return polygons_from_rings(xy, offsets)


def inst_info(labels, types=(1, 2, 0)):
    """What HoVer-Net's post-processing says of each nucleus, with OpenCV's contours."""
    found = {}
    for k, number in zip(range(1, labels.max() + 1), types, strict=True):
        mask = (labels == k).astype(np.uint8)
        rows, columns = np.nonzero(mask)
        contour = cv2.findContours(mask, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)[0][0]
        found[str(k)] = {
            "bbox": [
                [int(rows.min()), int(columns.min())],
                [int(rows.max()) + 1, int(columns.max()) + 1],
            ],
            "centroid": [float(columns.mean()), float(rows.mean())],
            "contour": np.squeeze(contour.astype("int32")).tolist(),
            "type_prob": 0.875,
            "type": number,
        }
    return found


def cells_json(labels, scale=1.0, **metadata):
    """What CellViT writes: rescaled, and rounded, where the slide has another resolution."""
    cells = []
    for nucleus in inst_info(labels).values():
        nucleus["contour"] = [[round(x * scale), round(y * scale)] for x, y in nucleus["contour"]]
        cells.append(
            nucleus | {"patch_coordinates": [0, 1], "cell_status": 0, "offset_global": [0, 960]}
        )
    return {"wsi_metadata": metadata, "type_map": TYPE_MAP, "cells": cells}


def write(path, document):
    raw = json.dumps(document).encode()
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


def shapes(objects):
    return [item.roi.geometry for item in objects]


# CellViT


@pytest.mark.parametrize("name", ["cells.json", "cells.json.gz"])
def test_cellvit_cells_are_detections_with_the_outlines_of_their_pixels(tmp_path, labels, name):
    path = write(tmp_path / name, cells_json(labels, base_mpp=0.25, target_patch_mpp=0.25))
    found = list(read_cellvit(path))
    assert shapely.equals(shapes(found), outlines(labels)).all()
    assert {item.object_type for item in found} == {"detection"}
    assert [item.class_name for item in found] == ["Neoplastic", "Inflammatory", None]
    assert found[0].classification == PathClass.of("Neoplastic")
    assert found[0].measurements == {"Type probability": 0.875}


def test_cellvit_as_is(tmp_path, labels):
    document = cells_json(labels)
    found = list(read_cellvit(write(tmp_path / "cells.json", document), pixel_centres=False))
    expected = [shapely.Polygon(cell["contour"]) for cell in document["cells"]]
    assert shapely.equals(shapes(found), expected).all()


@pytest.mark.parametrize(
    ("slide_mpp", "scale"), [(0.2, 1.25), (0.1, 2.5), (0.23, 1.0), (0.28, 1.0)]
)
def test_cellvit_pixels_are_those_in_which_it_worked(tmp_path, labels, slide_mpp, scale):
    """CellViT multiplies by 0.25 over the slide's µm where they differ by more than 0.035."""
    document = cells_json(labels, scale, base_mpp=slide_mpp, target_patch_mpp=0.25)
    found = list(read_cellvit(write(tmp_path / "cells.json", document)))
    expected = shapely.transform(outlines(labels), lambda xy: xy * scale)
    assert shapely.equals_exact(shapes(found), expected, tolerance=1e-9).all()


def test_the_type_map_may_follow_the_cells_and_map_names_to_numbers(tmp_path, labels):
    document = cells_json(labels)
    document["type_map"] = {"Background": 0, "Neoplastic": 1, "Inflammatory": 2}
    path = write(tmp_path / "cells.json", dict(reversed(document.items())))
    names = [item.class_name for item in read_cellvit(path)]
    assert names == ["Neoplastic", "Inflammatory", None]


def test_cell_detection_json_gives_points_in_the_middle_of_pixels(tmp_path):
    cells = [{"bbox": [[0, 0], [5, 5]], "centroid": [12.0, 7.0], "type": 1}]
    path = write(tmp_path / "cell_detection.json", {"type_map": TYPE_MAP, "cells": cells})
    assert shapes(read_cellvit(path)) == [shapely.Point(12.5, 7.5)]


def test_a_slide_without_cells(tmp_path):
    path = write(tmp_path / "cells.json", {"wsi_metadata": {}, "type_map": {}, "cells": []})
    assert list(read_cellvit(path)) == []


# HoVer-Net


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda nuclei: {"mag": 40, "nuc": nuclei},
        lambda nuclei: {"mag": None, "nuc": nuclei},
        lambda nuclei: {"nuc": nuclei, "mag": 20.0},
        lambda nuclei: nuclei,
    ],
    ids=["slide", "tile", "turned round", "bare"],
)
def test_hovernet_in_each_of_its_forms(tmp_path, labels, wrapped):
    path = write(tmp_path / "slide.json", wrapped(inst_info(labels)))
    found = list(read_hovernet(path))
    assert shapely.equals(shapes(found), outlines(labels)).all()
    assert [item.class_name for item in found] == ["Type 1", "Type 2", None]


def test_hovernet_types_have_the_names_and_colours_of_type_info(tmp_path, labels):
    info = {"0": ["nolabe", [0, 0, 0]], "1": ["neopla", [255, 0, 0]], "2": ["inflam", [0, 255, 0]]}
    types = read_types(write(tmp_path / "type_info.json", info))
    found = list(read_hovernet(write(tmp_path / "x.json", inst_info(labels)), types=types))
    assert [item.class_name for item in found] == ["neopla", "inflam", None]
    assert found[1].classification.colour == (0, 255, 0)


def test_hovernet_writes_a_nucleus_of_one_pixel_without_brackets(tmp_path):
    one = {"contour": [7, 9], "centroid": [7.0, 9.0], "type": 1}
    found = list(read_hovernet(write(tmp_path / "x.json", {"mag": 40, "nuc": {"1": one}})))
    assert found[0].roi.geometry.bounds == (7, 9, 8, 10)


def test_hovernet_without_types_or_nuclei(tmp_path, labels):
    untyped = {
        k: {n: v for n, v in nucleus.items() if not n.startswith("type")}
        for k, nucleus in inst_info(labels).items()
    }
    found = list(read_hovernet(write(tmp_path / "a.json", {"mag": 40, "nuc": untyped})))
    assert [(item.class_name, item.measurements) for item in found] == [(None, {})] * 3
    assert list(read_hovernet(write(tmp_path / "b.json", {"mag": 40, "nuc": {}}))) == []


def test_python_writes_nan_for_a_probability_of_no_pixels(tmp_path, labels):
    nuclei = inst_info(labels)
    nuclei["2"]["type_prob"] = float("nan")
    found = list(read_hovernet(write(tmp_path / "x.json", {"mag": 40, "nuc": nuclei})))
    assert np.isnan(found[1].measurements["Type probability"])


@pytest.mark.parametrize(
    ("document", "power"),
    [({"mag": 40, "nuc": {}}, 40), ({"mag": None, "nuc": {}}, None), ({"1": {}}, None)],
)
def test_magnification(tmp_path, document, power):
    assert magnification(write(tmp_path / "x.json", document)) == power


# What is wrong is said in one sentence


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ({"type": 1}, ["cell 1", "neither a contour nor a centroid"]),
        ({"contour": [[1, 2, 3]], "type": 1}, ["cell 1", "contour"]),
        ({"contour": [[1, 2], [3]], "type": 1}, ["cell 1", "contour"]),
        ({"contour": "abc", "type": 1}, ["cell 1", "contour"]),
        ({"contour": [[1, None]], "type": 1}, ["cell 1", "contour"]),
        ({"contour": [[1, 1e999]], "type": 1}, ["cell 1"]),
        ({"contour": [[1, 2]], "type": "x"}, ["cell 1", "type is 'x'"]),
        ({"contour": [[1, 2]], "type": 1, "type_prob": "high"}, ["cell 1", "type_prob"]),
        ([1], ["cell 1", "no object"]),
    ],
)
def test_a_broken_cell_is_named(tmp_path, cell, words):
    good = {"contour": [[0, 0], [0, 5], [5, 5]], "type": 1}
    path = write(tmp_path / "cells.json", {"type_map": TYPE_MAP, "cells": [good, cell]})
    with pytest.raises(ConversionError) as caught:
        list(read_cellvit(path))
    for word in ["cells.json", *words]:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "ends too early"),
        (b"[1, 2]", "does not begin with {"),
        (b'{"cells": [{"contour": [[1, 2], ', "ends too early"),
        (b'{"cells": [1 2]}', "','"),
        (b'{"cells" [1]}', "':'"),
        (b"{cells: []}", "no JSON"),
        (b'{"other": 1}', 'no list of "cells"'),
        (b'{"type_map": [], "cells": [{"contour": [[1, 2]]}]', "ends too early"),
        (b'{"type_map": 5, "cells": []}', "type_map"),
        (b'{"type_map": {"a": "b"}, "cells": []}', "'a'"),
        (b"\x1f\x8b\x08broken", "cannot be read"),
    ],
)
def test_a_broken_file(tmp_path, content, words):
    path = tmp_path / "cells.json"
    path.write_bytes(content)
    with pytest.raises(ConversionError, match=r"cells\.json") as caught:
        list(read_cellvit(path))
    assert words in str(caught.value)


def test_a_file_of_something_else_is_no_hovernet(tmp_path):
    with pytest.raises(ConversionError, match="no nuclei"):
        list(read_hovernet(write(tmp_path / "x.json", {"type": "FeatureCollection"})))


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "{",
        '{"1": 5.5}',
        '{"1": ["a"]}',
        '{"1": ["a", [1, 2, 300]]}',
        '{"1": " "}',
        '{"1": ":"}',
    ],
)
def test_types_that_are_none(tmp_path, content):
    path = tmp_path / "types.json"
    path.write_text(content)
    with pytest.raises(ConversionError, match=r"types.json"):
        read_types(path)
