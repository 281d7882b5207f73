"""Files taken apart into features: containers, lenient JSON, damage."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsi_engine.errors import GeoJSONError
from wsi_engine.qupath import containers, json_stream
from wsi_engine.qupath.containers import open_parts
from wsi_engine.qupath.json_stream import FeatureStream
from wsi_engine.qupath.lenient_json import MAX_DEPTH, JSONError, parse_json


class Dripping:
    """A stream that gives a few bytes at a time, as a slow disk may."""

    def __init__(self, raw, size):
        self._stream = io.BytesIO(raw)
        self._size = size

    def read(self, size):
        return self._stream.read(min(size, self._size))


def split(raw, size=1 << 20):
    stream = FeatureStream(Dripping(raw, size), "x.geojson")
    elements = list(stream)
    assert [element.index for element in elements] == list(range(len(elements)))
    return [element.raw for element in elements], stream.problems


# What is a feature, and where it ends

A, B = b'{"a":1}', b'{"b":[2,{"c":"]}"}]}'
DOCUMENTS = {
    "array": (b"[%s,%s]" % (A, B), [A, B]),
    "blanks": (b"\n [ %s\t,\r\n%s ] " % (A, B), [A, B]),
    "collection": (b'{"type":"FeatureCollection","features":[%s,%s]}' % (A, B), [A, B]),
    "features first": (b'{"features":[%s],"type":"FeatureCollection"}' % A, [A]),
    "among other members": (
        b'{"crs":{"x":["]}",{}]},"type":"FeatureCollection","features":[%s],"bbox":[1,2]}' % A,
        [A],
    ),
    "features of another": (
        b'{"type":"FeatureCollection","x":{"features":[%s]},"features":[%s]}' % (B, A),
        [A],
    ),
    "byte order mark": (b"\xef\xbb\xbf[%s]" % A, [A]),
    "escaped quotes": (rb'[{"a":"\"]\\"},{"b":"\\\\"}]', [rb'{"a":"\"]\\"}', rb'{"b":"\\\\"}']),
    "single quotes": (b"[{'a':'\"]'}, {'b':\"'\"}]", [b"{'a':'\"]'}", b"{'b':\"'\"}"]),
    "quote in a word": (b"[{a:don't},{b:2}]", [b"{a:don't}", b"{b:2}"]),
    "comments": (
        b"# ]\n/* [ */ [ %s // ] \n , /* , */ {a:1 /* } */} # ]\n] // end" % A,
        [A, b"{a:1 /* } */}"],
    ),
    "semicolons and arrows": (b"{type='FeatureCollection'; features => [%s; %s]}" % (A, B), [A, B]),
    "trailing comma": (b"[%s,]" % A, [A, b""]),
    "two commas": (b"[%s,,%s]" % (A, B), [A, b"", B]),
    "no objects": (b'[null, 1, "]", true]', [b"null", b"1", b'"]"', b"true"]),
    "empty array": (b"[]", []),
    "empty collection": (b'{"type":"FeatureCollection","features":[]}', []),
}


@pytest.mark.parametrize(("raw", "features"), DOCUMENTS.values(), ids=DOCUMENTS)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1 << 20])
def test_features_are_found_however_the_bytes_arrive(raw, features, size):
    assert split(raw, size) == (features, [])


@pytest.mark.parametrize(
    "raw",
    [
        b'{"type":"Feature","id":null,"geometry":{},"properties":{"a":[1]}}',
        b'{"coordinates":[1,2],"type":"Point"}',
        b"{type:Polygon, coordinates:[[[0,0],[1,1],[1,0],[0,0]]]}",
    ],
)
@pytest.mark.parametrize("size", [1, 5, 1 << 20])
def test_a_single_feature_or_geometry_is_itself(raw, size):
    (feature,), problems = split(raw, size)
    assert parse_json(feature) == parse_json(raw)
    assert problems == []


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    ).flatmap(lambda value: st.tuples(st.just(value), st.integers(1, 40)))
)
def test_any_json_value_is_found_whole(case):
    value, size = case
    raw = json.dumps(value, ensure_ascii=False).encode()
    features, _ = split(b"[%s , %s]" % (raw, raw), size)
    assert features == [raw, raw]


ODD = {
    "empty": (b"", "it is empty"),
    "blank": (b" \n// no more", "it is empty"),
    "null": (b"null", "it holds no features but null"),
    "no features": (b'{"type":"FeatureCollection"}', "without features"),
    "null features": (b'{"type":"FeatureCollection","features":null}', "without features"),
    "no type": (b'{"features":[1]}', "its type is None: QuPath reads only"),
    "another type": (b'{"features":[1],"type":"Topology"}', "its type is 'Topology'"),
    "foreign": (b'{"a":[1]}', "it holds no features: its type is None"),
    "hierarchy": (b'{"root":{},"tmaGrid":{}}', "a whole hierarchy, which QuPath itself does not"),
    "lines": (b'{"type":"Point"}\n{"type":"Point"}', "more than one JSON document"),
    "no comma": (b"[1 2]", "no comma stands between"),
}


@pytest.mark.parametrize(("raw", "problem"), ODD.values(), ids=ODD)
@pytest.mark.parametrize("size", [1, 1 << 20])
def test_what_is_odd_about_a_file_is_said_once(raw, problem, size):
    _, problems = split(raw, size)
    assert len(problems) == 1
    assert problem in problems[0]


BROKEN = {
    "text": (b"hello", "begins with neither"),
    "number": (b"5", "begins with neither"),
    "string open": (b'"abc', "truncated"),
    "comment open": (b"/* abc", "truncated"),
    "utf-16": ("[]".encode("utf-16"), "UTF-16"),
    "closed by brace": (b"[1}", "ends with }"),
    "more after the end": (b"[1] 5", "something follows"),
    "no value": (b'{"a":}', "a value is missing"),
    "no colon": (b'{"a" 1}', "a name has no value"),
    "no comma": (b'{"a":1 "b":2}', "a comma is missing"),
    "no name": (b"{[1]:2}", "a name is none"),
    "features no list": (b'{"type":"FeatureCollection","features":{}}', "are not a list"),
}


@pytest.mark.parametrize(("raw", "message"), BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("size", [1, 1 << 20])
def test_what_is_no_json_is_an_error_that_names_the_file(raw, message, size):
    with pytest.raises(GeoJSONError, match=r"^x\.geojson") as caught:
        split(raw, size)
    assert message in str(caught.value)


def test_a_truncated_file_is_an_error_that_names_the_feature():
    whole = b'{"type":"FeatureCollection","features":[%s,%s]}' % (A, B)
    for end in range(1, len(whole)):
        found = []
        with pytest.raises(GeoJSONError, match=r"x\.geojson ends within feature \d") as caught:
            found.extend(FeatureStream(io.BytesIO(whole[:end]), "x.geojson"))
        assert f"feature {len(found)}:" in str(caught.value)


def test_memory_holds_no_more_than_a_feature(monkeypatch):
    """Foreign members may be of any size, once it is known that they are foreign."""
    monkeypatch.setattr(json_stream, "MAX_FEATURE_BYTES", 5000)
    monkeypatch.setattr(json_stream, "BLOCK_BYTES", 64)
    foreign = b"[%s 0]" % (b"1," * 20_000)
    collection = b'{"type":"FeatureCollection","big":%s,"features":[%s],"big":%s}'
    assert split(collection % (foreign, A, foreign), 64) == ([A], [])
    assert split(b"[%s 1]" % (b"1," * 20_000), 64)[0] == [b"1"] * 20_001
    with pytest.raises(GeoJSONError, match="holds a single feature larger than"):
        split(b"[%s]" % foreign, 64)
    with pytest.raises(GeoJSONError, match="holds a single feature larger than"):
        split(b'{"type":"Feature","big":%s}' % foreign, 64)


# Values

LENIENT = {
    "{'a': 1}": {"a": 1},
    "{a: b, $c_d: -2.5e3}": {"a": "b", "$c_d": -2500.0},
    "{a = 1; b => 2}": {"a": 1, "b": 2},
    "[1, /* two */ 2 // three\n, 3 # four\n]": [1, 2, 3],
    "[1,,2,]": [1, None, 2, None],
    "[]": [],
    "[TRUE, False, Null]": [True, False, None],
    "[01, .5, +1, 0x10]": ["01", ".5", "+1", "0x10"],
    '["a\tb\nc"]': ["a\tb\nc"],
    r"['it\'s', '\u00b5\n', '\ud83d\ude00', '\ud83d']": ["it's", "µ\n", "😀", "\ufffd"],
    "[123456789012345678901234567890, 1e999]": [1.2345678901234568e29, float("inf")],
    "{a:1, 'a':2, b:0, \"a\":3}": {"a": 3, "b": 0},
    "[Infinity, -Infinity]": [float("inf"), float("-inf")],
}


@pytest.mark.parametrize(("text", "value"), LENIENT.items())
def test_values_are_those_that_gson_reads(text, value):
    assert parse_json(text.encode()) == value


def test_a_bare_nan_is_a_number():
    (value,) = parse_json(b"[NaN]")
    assert value != value


def test_the_last_of_members_with_one_name_counts_in_both_parsers():
    assert parse_json(b'{"a":1,"a":2}') == parse_json(b"{a:1,a:2}") == {"a": 2}


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**53), 2**53)
        | st.floats(allow_nan=False)
        | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_the_lenient_parser_agrees_with_json(value):
    # The comment keeps orjson out.
    assert parse_json(b"/**/" + json.dumps(value).encode()) == value
    assert parse_json(json.dumps(value, ensure_ascii=False).encode() + b"#") == value


REFUSED = {
    "": "ends too early",
    ",": "does not belong there",
    "[": "ends too early",
    "{a}": "does not belong there",
    "{a:1,}": "does not belong there",
    "[1 2]": "does not belong there",
    "[1}": "does not belong there",
    "]": "does not belong there",
    "1 2": "something follows its end",
    r"['\x']": "is no escape",
    "[/]": "begins nothing",
    "['open]": "begins nothing",
}


@pytest.mark.parametrize(("text", "message"), REFUSED.items())
def test_what_is_no_value_is_refused(text, message):
    with pytest.raises(JSONError, match=message):
        parse_json(text.encode())


@pytest.mark.parametrize("bracket", ["[", '{"a":', "[{a:"])
def test_deep_nesting_is_refused_without_a_crash(bracket):
    with pytest.raises(JSONError, match=f"deeper than {MAX_DEPTH}"):
        parse_json(bracket.encode() * 100_000)


def test_bytes_that_are_no_utf8_are_refused():
    with pytest.raises(JSONError, match="byte 2 is not UTF-8"):
        parse_json(b'["\xff"]')


@settings(max_examples=300)
@given(st.binary(max_size=40) | st.text("[]{}:,;\"'\\/*#aN1 \n", max_size=40).map(str.encode))
def test_any_bytes_are_parsed_or_refused(raw):
    with suppress(JSONError):
        parse_json(raw)
    with suppress(GeoJSONError):
        split(raw, 3)


# Containers


def read_parts(path):
    return {part.name: list(FeatureStream(part.stream, part.name)) for part in open_parts(path)}


ONE = b"[%s]" % A


def zipped(path, entries, **kwargs):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, **kwargs) as archive:
        for name, raw in entries.items():
            archive.writestr(name, raw)
    return path


@pytest.mark.parametrize("name", ["x.geojson", "x.json", "x.geojson.gz", "x.zip", "x", "x.txt"])
def test_what_a_file_is_shows_in_its_bytes_and_not_its_name(tmp_path, name):
    path = tmp_path / name
    for raw in (ONE, gzip.compress(ONE), gzip.compress(b"[") + gzip.compress(A + b"]")):
        path.write_bytes(raw)
        assert [e.raw for e in read_parts(path)[name]] == [A]
    zipped(path, {"y.geojson": ONE})
    assert list(read_parts(path)) == [f"{name}/y.geojson"]


def test_entries_are_taken_by_their_own_extensions(tmp_path):
    names = {
        "a.geojson": True,
        "deep/B.JSON": True,
        "c.qpdata": True,
        "d.txt": False,
        "e": False,
        "f.zip": False,
        "__MACOSX/._a.geojson": False,
    }
    path = zipped(
        tmp_path / "x.zip", dict.fromkeys(names, ONE) | {"g.geojson.gz": gzip.compress(ONE)}
    )
    taken = [name for name, wanted in names.items() if wanted]
    assert list(read_parts(path)) == [f"x.zip/{name}" for name in [*taken, "g.geojson.gz"]]


def test_names_in_an_archive_lead_nowhere(tmp_path):
    inner = tmp_path / "deep" / "er"
    inner.mkdir(parents=True)
    names = ["../../evil.geojson", "/tmp/evil.geojson", "C:\\evil.geojson", "a/../../e.geojson"]
    path = zipped(inner / "x.zip", dict.fromkeys(names, ONE))
    before = sorted(tmp_path.rglob("*"))
    assert len(read_parts(path)) == len(names)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("kind", ["gz", "zip", "zip of gz"])
def test_a_bomb_is_refused_early(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(containers, "BOMB_BYTES", 1 << 22)
    path = tmp_path / "x"
    raw = gzip.compress(b"[" + b" " * (32 << 20) + b"]")
    if kind == "gz":
        path.write_bytes(raw)
    elif kind == "zip of gz":
        zipped(path, {"a.geojson.gz": raw})
    else:
        zipped(path, {"a.geojson": b"[" + b" " * (32 << 20) + b"]"})
    with pytest.raises(GeoJSONError, match="unpacks to more than 100 times its size"):
        read_parts(path)


DAMAGED = {
    "gzip cut": gzip.compress(b"[" + A * 500 + b"]")[:-12],
    "gzip header alone": b"\x1f\x8b\x08\x00 not gzip",
    "gzip and more": gzip.compress(ONE) + b"more",
    "zip header alone": b"PK\x03\x04 not zip",
}


@pytest.mark.parametrize("raw", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_container_is_an_error_that_names_it(tmp_path, raw):
    path = tmp_path / "regions.geojson"
    path.write_bytes(raw)
    with pytest.raises(GeoJSONError, match=r"regions\.geojson cannot be read"):
        read_parts(path)


def test_an_absent_file_or_a_folder_is_an_error_that_names_it(tmp_path):
    with pytest.raises(GeoJSONError, match=r"gone\.geojson: no such file"):
        read_parts(tmp_path / "gone.geojson")
    with pytest.raises(GeoJSONError, match="cannot be read"):
        read_parts(tmp_path)
