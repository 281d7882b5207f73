"""Input made to break a reader gives problems or one clear error, in bounded time and memory."""

from __future__ import annotations

import copy
import gzip
import json
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.exports import shared_export
from wsi_engine.errors import GeoJSONError
from wsi_engine.qupath import json_stream
from wsi_engine.qupath.reader import iter_objects, read_objects
from wsi_engine.qupath.writer import write_objects

SQUARE = {"type": "Polygon", "coordinates": [[[0, 0], [4, 0], [4, 4], [0, 4], [0, 0]]]}
FULL = {
    "type": "Feature",
    "id": "0c3f9781-c0f8-4a53-992d-76b8152f669e",
    "geometry": SQUARE | {"plane": {"c": -1, "z": 1, "t": 2}, "isEllipse": False},
    "nucleusGeometry": {
        "type": "MultiPolygon",
        "coordinates": [[[[1, 1], [2, 1], [2, 2], [1, 1]]], [[[3, 3], [3, 2], [2, 3], [3, 3]]]],
    },
    "properties": {
        "objectType": "cell",
        "name": "A",
        "color": [1, 2, 3],
        "classification": {"names": ["Tumor", "Positive"], "color": [4, 5, 6, 7]},
        "isLocked": True,
        "measurements": {"a": 1.5, "b": "NaN"},
        "metadata": {"k": "v"},
        "childObjects": [
            {
                "type": "Feature",
                "geometry": {"type": "LineString", "coordinates": [[0, 0], [1, 1]]},
                "properties": {"object_type": "tma_core", "isMissing": False},
            }
        ],
    },
}
OLD = {
    "type": "Feature",
    "id": "PathDetectionObject",
    "geometry": {"type": "MultiPoint", "coordinates": [[1, 2], [3, 4]]},
    "properties": {
        "classification": {
            "parentClass": {"name": "Tumor", "colorRGB": -1},
            "name": "Positive",
            "colorRGB": -2,
        },
        "measurements": [{"name": "a", "value": 1}],
    },
}
GOOD = {"type": "Feature", "geometry": SQUARE, "properties": {"name": "good"}}


def paths_in(value, path=()):
    yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from paths_in(inner, (*path, key))
    elif isinstance(value, list):
        for key, inner in enumerate(value):
            yield from paths_in(inner, (*path, key))


def mutated(value, path, new):
    if not path:
        return new
    value = copy.deepcopy(value)
    place = value
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = new
    return value


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**400, 1e308, -1e308, float("nan"), float("inf"), 2**63, -0.0])
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["", "Feature", "Polygon", "cell", "tmaCore", "NaN", "1e5", "\ud800", ":"])
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_value_in_any_place_gives_objects_or_problems(tmp_path, data):
    feature = data.draw(st.sampled_from([FULL, OLD]))
    for _ in range(data.draw(st.integers(1, 3))):
        feature = mutated(
            feature, data.draw(st.sampled_from(list(paths_in(feature)))), data.draw(JSON)
        )
    path = tmp_path / "x.geojson"
    path.write_text(json.dumps([GOOD, feature, GOOD]), encoding="utf-8")
    objects = read_objects(path)
    skipped = {problem.index for problem in objects.problems if problem.skipped}
    assert skipped <= {1}
    inner = len(feature["features"]) if _is_collection(feature) else 1
    assert len(objects) == 2 + inner - len([p for p in objects.problems if p.skipped])
    assert objects[0].name == objects[-1].name == "good"
    # What was read can be written, and then says the same to QuPath without a problem.
    write_objects(tmp_path / "y.geojson", objects, non_finite="string")
    again = read_objects(tmp_path / "y.geojson")
    assert len(again) >= len(objects)
    assert not any(problem.skipped for problem in again.problems)


def _is_collection(value):
    return (
        isinstance(value, dict)
        and value.get("type") == "FeatureCollection"
        and isinstance(value.get("features"), list)
    )


def test_a_file_cut_anywhere_is_an_error_that_names_it(tmp_path):
    whole = shared_export("02_single_feature_object.geojson").read_bytes()
    for raw in (whole.rstrip(), json.dumps([FULL, OLD]).encode()):
        for end in range(1, len(raw)):
            path = tmp_path / "x.geojson"
            path.write_bytes(raw[:end])
            with pytest.raises(GeoJSONError, match=r"x\.geojson ends within feature [012]"):
                read_objects(path)


def test_a_gzip_cut_anywhere_is_an_error_that_names_it(tmp_path):
    raw = gzip.compress(json.dumps([FULL, OLD]).encode())
    path = tmp_path / "x.geojson.gz"
    for end in range(3, len(raw), 7):
        path.write_bytes(raw[:end])
        with pytest.raises(GeoJSONError, match=r"x\.geojson\.gz"):
            read_objects(path)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_bytes_overwritten_anywhere_never_crash(tmp_path, data):
    raw = bytearray(json.dumps([GOOD, FULL, OLD, GOOD]).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(
            st.integers(0, 255) | st.sampled_from(list(b"[]{},:\"'/*#\\"))
        )
    path = tmp_path / "x.geojson"
    path.write_bytes(bytes(raw))
    try:
        objects = read_objects(path)
    except GeoJSONError as error:
        message = str(error)
    else:
        message = f"{path.name}: {len(objects)} objects"
    assert message.startswith("x.geojson")


@pytest.mark.parametrize("opening", ["[", '{"a":', '{"type":"Feature","geometry":{"coordinates":['])
@pytest.mark.parametrize("closed", [True, False])
def test_nesting_of_100_kilobytes_is_a_problem_or_an_error(tmp_path, opening, closed):
    deep = opening * (100_000 // len(opening))
    if closed:
        pairs = {"[": "]", "{": "}"}
        deep += "1" + "".join(pairs[c] for c in reversed(deep) if c in pairs)
    path = tmp_path / "x.geojson"
    path.write_text(
        f"[{json.dumps(GOOD)},{deep}" + f",{json.dumps(GOOD)}]" * closed, encoding="utf-8"
    )
    if closed:
        objects = read_objects(path)
        assert len(objects) == 2
        (problem,) = objects.problems
        assert (problem.index, problem.skipped) == (1, True)
        assert "nested deeper than 1000" in problem.reason
    else:
        with pytest.raises(GeoJSONError, match="ends within feature 1: it is truncated"):
            read_objects(path)


def ring(count):
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    points = np.round(50_000 + 40_000 * np.column_stack([np.cos(angle), np.sin(angle)]), 2).tolist()
    return [*points, points[0]]


def test_a_polygon_of_a_million_vertices_is_read(tmp_path):
    path = tmp_path / "x.geojson"
    outline = {"type": "Polygon", "coordinates": [ring(1_000_000)]}
    path.write_text(json.dumps({"type": "Feature", "geometry": outline}), encoding="utf-8")
    started = time.process_time()
    (item,) = read_objects(path)
    assert time.process_time() - started < 60
    assert item.geometry.area == pytest.approx(np.pi * 40_000**2, rel=1e-3)


def test_an_outline_that_crosses_itself_everywhere_is_left_out(tmp_path):
    """To repair it would take hours: 100,000 edges cross each other some billion times."""
    points = np.random.default_rng(0).uniform(0, 1000, (100_000, 2)).round(2).tolist()
    tangle = {"type": "Polygon", "coordinates": [[*points, points[0]]]}
    path = tmp_path / "x.geojson"
    path.write_text(json.dumps([GOOD, {"type": "Feature", "geometry": tangle}]), encoding="utf-8")
    started = time.process_time()
    objects = read_objects(path)
    assert time.process_time() - started < 60
    assert [item.name for item in objects] == ["good"]
    assert "crosses itself too often" in objects.problems[0].reason


def test_a_long_outline_that_crosses_itself_once_is_repaired(tmp_path):
    points = ring(20_000)
    points[5000], points[5001] = points[5001], points[5000]
    path = tmp_path / "x.geojson"
    knot = {"type": "Polygon", "coordinates": [points]}
    path.write_text(json.dumps([{"type": "Feature", "geometry": knot}]), encoding="utf-8")
    objects = read_objects(path)
    assert len(objects) == 1
    assert "it is repaired" in objects.problems[0].reason


def test_bytes_that_are_no_utf8_spoil_their_feature_alone(tmp_path):
    path = tmp_path / "x.geojson"
    good = json.dumps(GOOD).encode()
    path.write_bytes(
        b"[" + good + b"," + good.replace(b'"good"', b'"g\xff\xfed"') + b"," + good + b"]"
    )
    objects = read_objects(path)
    assert len(objects) == 2
    (problem,) = objects.problems
    assert problem.index == 1
    assert "is not UTF-8" in problem.reason


def test_memory_does_not_depend_on_the_number_of_features(tmp_path, monkeypatch):
    monkeypatch.setattr(json_stream, "BLOCK_BYTES", 1 << 14)
    feature = json.dumps(FULL).encode()

    def peak(count):
        path = tmp_path / f"{count}.geojson"
        path.write_bytes(b"[" + b",".join([feature] * count) + b"]")
        tracemalloc.start()
        assert sum(1 for _ in iter_objects(path)) == count
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(10)
    assert peak(1000) < 1.3 * peak(200)
