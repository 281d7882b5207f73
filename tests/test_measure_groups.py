"""Groups of measurements: one table, to which installed packages add their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import shapely

from tests.support.plugins import install_package
from wsi_engine.config import make_settings
from wsi_engine.errors import MeasurementError, SettingsError
from wsi_engine.nuclei.measure import groups
from wsi_engine.nuclei.measure.columns import GROUP_NAMES, Column
from wsi_engine.nuclei.measure.group import OutlineGroup, PixelGroup, in_order
from wsi_engine.nuclei.measure.groups import GROUPS, columns_of, find_groups, measurer_of
from wsi_engine.nuclei.measure.measurer import Measurer
from wsi_engine.plugins import plugins
from wsi_engine.sample import SampleTruth
from wsi_engine.slide.frames import ModelBox, ModelGrid, Mpp
from wsi_engine.slide.stain_vectors import H_AND_E

REDNESS = """
import numpy as np

from wsi_engine.nuclei.measure.columns import Column
from wsi_engine.nuclei.measure.group import PixelGroup

COLUMN = Column("Redness", "", "mean share of red in the pixels", "a test", essential=True)


def columns(stains):
    return [COLUMN]


def measure(view):
    rgb = view.field.rgb.reshape(-1, 3).astype(float)
    share = rgb[:, 0] / np.maximum(rgb.sum(axis=1), 1)
    sets = view.pixels
    own = [share[sets.index[a:b]] for a, b in zip(sets.offsets, sets.offsets[1:])]
    return {COLUMN.name: np.array([v.mean() if len(v) else np.nan for v in own], np.float32)}


GROUP = PixelGroup("redness", columns, measure)
"""

RUN = """
import sys

import wsi_engine

groups = ("shape", "redness", "context")
wsi_engine.run(sys.argv[1], sys.argv[2], model="watershed", measure=groups, report=False)
"""


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """A process that has not looked for packages yet."""
    plugins.cache_clear()
    yield monkeypatch
    plugins.cache_clear()


def test_the_names_that_help_shows_are_those_of_the_groups():
    assert (*GROUPS,) == GROUP_NAMES


def test_an_installed_package_adds_a_group(sample: SampleTruth, tmp_path: Path):
    path = install_package(
        tmp_path, "redness", REDNESS, {groups.ENTRY_POINTS: {"redness": "redness:GROUP"}}
    )
    ran = subprocess.run(
        [sys.executable, "-c", RUN, str(sample.slide_path), str(tmp_path / "out")],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(path), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    (table,) = tmp_path.glob("out/*/nuclei.parquet")
    values = pq.read_table(table)
    names = values.column_names
    assert names.index("Elongation") < names.index("Redness") < names.index("Voronoi: Area µm^2")
    # Nuclei in H&E are blue rather than red.
    assert 0.1 < np.nanmedian(values["Redness"].to_numpy()) < 0.4
    entries = json.loads(table.with_name("columns.json").read_text(encoding="utf-8"))
    (entry,) = [entry for entry in entries if entry["name"] == "Redness"]
    assert entry["formula"] == "mean share of red in the pixels"
    assert entry["in_geojson"]


BROKEN = {
    # source of the package; words of the error
    "cannot be imported": ("1 / 0", "ZeroDivisionError: division by zero"),
    "is no group": ("GROUP = 7", "it is a int, not a MeasurementGroup"),
    "has another name": (REDNESS, "it calls itself 'redness'"),
}


@pytest.mark.parametrize(("source", "words"), BROKEN.values(), ids=BROKEN)
def test_a_package_that_cannot_be_used_is_named(
    fresh: pytest.MonkeyPatch, tmp_path: Path, source: str, words: str
):
    path = install_package(tmp_path, "odd", source, {groups.ENTRY_POINTS: {"smell": "odd:GROUP"}})
    fresh.syspath_prepend(path)
    fresh.delitem(sys.modules, "odd", raising=False)
    with pytest.raises(MeasurementError, match=f"'smell' of the package odd 1.0.*{words}"):
        make_settings(measure=["smell"])


def test_no_package_takes_the_name_of_one_of_the_engine_s_groups(
    fresh: pytest.MonkeyPatch, tmp_path: Path
):
    source = REDNESS.replace('"redness"', '"texture"')
    path = install_package(tmp_path, "odd", source, {groups.ENTRY_POINTS: {"texture": "odd:GROUP"}})
    fresh.syspath_prepend(path)
    fresh.delitem(sys.modules, "odd", raising=False)
    assert find_groups(["texture"]) == (groups.GROUPS["texture"],)


def test_an_unknown_group_is_answered_with_those_there_are():
    with pytest.raises(SettingsError, match="no group 'smell'; there are shape, colour, rgb"):
        find_groups(["shape", "smell"])


def column(name: str) -> Column:
    return Column(name, "", "a formula", "a test")


WINDOW = ModelBox(0, 0, 8, 8)
GRID = ModelGrid(0.5, Mpp(0.5, 0.5), 0, 0, 8, 8)
SQUARES = np.array([shapely.box(0, 0, 3, 3), shapely.box(4, 4, 7, 7)], object)


def measure(*chosen: OutlineGroup | PixelGroup) -> np.ndarray:
    rgb = np.zeros((8, 8, 3), np.uint8)
    return Measurer(chosen, H_AND_E).measure(SQUARES, np.ones(2, bool), rgb, WINDOW, GRID)


def test_values_meet_their_columns_by_name():
    two = OutlineGroup(
        "two", lambda stains: [column("a"), column("b")], lambda view: {"b": [3, 4], "a": [1, 2]}
    )
    assert measure(two).tolist() == [[1, 3], [2, 4]]


PROMISES = {
    # what is measured where a column "a" was promised; words of the error
    "another column": ({"b": [1, 2]}, "'odd' describes the column 'a' and does not measure it"),
    "one more": ({"a": [1, 2], "b": [1, 2]}, "'odd' measures the column 'b' and does not describe"),
    "too few values": ({"a": [1]}, r"'odd' gives 'a' in the shape \(1,\) for 2 nuclei"),
    "a table": ({"a": [[1], [2]]}, r"'odd' gives 'a' in the shape \(2, 1\) for 2 nuclei"),
}


@pytest.mark.parametrize(("measured", "words"), PROMISES.values(), ids=PROMISES)
def test_a_group_that_breaks_its_promise_is_named(measured, words):
    with pytest.raises(MeasurementError, match=words):
        measure(OutlineGroup("odd", lambda stains: [column("a")], lambda view: measured))


def test_pixels_are_looked_for_once_and_only_where_they_are_asked_for(
    monkeypatch: pytest.MonkeyPatch,
):
    calls = []
    for name in ("cover", "rings", "stain_amounts"):
        original = getattr(sys.modules["wsi_engine.nuclei.measure.view"], name)

        def counted(*args, name=name, original=original):
            calls.append(name)
            return original(*args)

        monkeypatch.setattr(f"wsi_engine.nuclei.measure.view.{name}", counted)
    measure(*measurer_of(("shape",), H_AND_E).groups)
    assert calls == []
    measure(*measurer_of(("shape", "colour", "rgb", "texture", "ring"), H_AND_E).groups)
    assert sorted(calls) == ["cover", "rings", "stain_amounts", "stain_amounts"]


def test_a_column_is_in_one_group_only(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(GROUPS, "again", OutlineGroup("again", GROUPS["shape"].columns, dict))
    with pytest.raises(MeasurementError, match="'shape' and 'again' both have a column 'Area µm"):
        columns_of(("shape", "again"), H_AND_E)


def test_the_order_of_columns_is_that_of_their_descriptions():
    measured = {"b": np.array([2.0]), "a": np.array([1.0])}
    assert in_order(measured, [column("a"), column("b")], 1, "two").tolist() == [[1, 2]]
