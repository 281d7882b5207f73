"""JSON is walked through member by member, whatever the blocks in which it is read."""

from __future__ import annotations

import json
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsi_engine.convert import json_members as module
from wsi_engine.convert.json_members import json_members
from wsi_engine.errors import ConversionError

TEXT = st.text(max_size=8)
SCALARS = st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats(allow_nan=False)
VALUES = st.recursive(
    SCALARS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, max_examples=80)
@given(
    st.dictionaries(st.sampled_from(["a", "b", "cells", 'q"\\', "ü"]), VALUES),
    st.integers(1, 7),
    st.booleans(),
)
def test_members_are_what_json_says_for_any_size_of_blocks(
    tmp_path_factory, document, block, pretty
):
    path = tmp_path_factory.mktemp("json") / "x.json"
    path.write_text(json.dumps(document, indent=2 if pretty else None), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK_BYTES", block)
        found = list(json_members(path, frozenset({"cells"})))
    again = {}
    for name, key, value in found:
        if key is None:
            again[name] = value
        elif isinstance(document[name], list):
            again[name] = [*(again[name] or []), value]
        else:
            again[name] = {**(again[name] or {}), key: value}
    if again.get("cells", 0) is None and document["cells"] in ([], {}):
        again["cells"] = document["cells"]
    assert again == document


def test_memory_does_not_grow_with_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BLOCK_BYTES", 1 << 16)
    path = tmp_path / "cells.json"
    cell = json.dumps({"contour": [[k, k + 1] for k in range(40)], "type": 1})
    with path.open("w") as file:
        file.write('{"cells": [' + ",".join([cell] * 20_000) + "]}")
    tracemalloc.start()
    count = sum(1 for member in json_members(path, frozenset({"cells"})) if member.key is not None)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 20_000
    assert path.stat().st_size > 6e6
    assert peak < 1e6


def test_a_value_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_VALUE_BYTES", 1000)
    monkeypatch.setattr(module, "BLOCK_BYTES", 100)
    path = tmp_path / "x.json"
    for begin in ('"', "[", "{", "1"):
        path.write_text('{"a": ' + begin + "1" * 5000 + "}")
        with pytest.raises(ConversionError, match=r"x\.json is no JSON object"):
            list(json_members(path))


def test_deep_nesting_does_not_exhaust_the_stack(tmp_path):
    path = tmp_path / "x.json"
    path.write_text('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}")
    with pytest.raises(ConversionError, match=r"x\.json"):
        list(json_members(path))
