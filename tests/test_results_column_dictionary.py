"""The dictionary of columns: complete, and the same in files and documentation."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pytest

import wsi_engine
from wsi_engine.nuclei.measure.groups import GROUPS, columns_of
from wsi_engine.results.column_dictionary import markdown
from wsi_engine.sample import SampleTruth
from wsi_engine.slide.stain_vectors import H_AND_E, H_DAB

PAGE = Path(__file__).resolve().parents[1] / "docs" / "measurements.md"
ESSENTIAL = [
    "Area µm^2",
    "Length µm",
    "Circularity",
    "Solidity",
    "Max diameter µm",
    "Min diameter µm",
    "Hematoxylin: Mean",
    "Eosin: Mean",
    "Cytoplasm: Hematoxylin: Mean",
    "Cytoplasm: Eosin: Mean",
    "Nucleus/Cell area ratio",
    "Density 50 µm per mm^2",
    "Nearest neighbor distance µm",
]


def test_the_page_of_the_documentation_is_up_to_date():
    assert PAGE.read_text(encoding="utf-8") == markdown()


@pytest.mark.parametrize("stains", [H_AND_E, H_DAB], ids=lambda stains: stains.name)
def test_names_are_unique_and_every_column_says_what_it_is(stains):
    columns = columns_of(tuple(GROUPS), stains)
    assert len({column.name for column in columns}) == len(columns)
    assert all(column.formula and column.source for column in columns)


def run(sample: SampleTruth, folder: Path, **settings: object):
    """Names in the dictionary, in the table, and in QuPath's file."""
    result = wsi_engine.run(sample.slide_path, folder, model="watershed", **settings)
    assert result.folder is not None
    entries = json.loads((result.folder / "columns.json").read_text(encoding="utf-8"))
    packed = (result.folder / "nuclei.geojson.gz").read_bytes()
    features = json.loads(gzip.decompress(packed))["features"]
    names = {name for feature in features for name in feature["properties"]["measurements"]}
    return entries, result.nuclei.arrow.column_names, names


def test_every_column_of_the_table_is_described_and_qupath_gets_the_essential(
    sample: SampleTruth, tmp_path: Path
):
    entries, table, qupath = run(sample, tmp_path, measure=tuple(GROUPS))
    assert [entry["name"] for entry in entries] == table
    assert qupath == {"Detection score", *ESSENTIAL}
    assert [entry["name"] for entry in entries if entry["in_geojson"]] == ESSENTIAL


def test_tables_of_several_slides_can_be_joined(sample: SampleTruth, tmp_path: Path):
    tables = []
    for name in ("one.tif", "two.tif"):
        (tmp_path / name).symlink_to(sample.slide_path)
        result = wsi_engine.run(tmp_path / name, tmp_path / "out", model="watershed", measure=())
        tables.append(result.nuclei.arrow)
    joined = pa.concat_tables(tables).group_by("slide").aggregate([("id", "count")])
    # Threads of pyarrow give the groups in any order.
    counts = dict(zip(*joined.to_pydict().values(), strict=True))
    assert counts == {"one": len(tables[0]), "two": len(tables[1])}


def test_groups_and_what_qupath_gets_are_settings(sample: SampleTruth, tmp_path: Path):
    entries, table, qupath = run(
        sample, tmp_path / "all", measure=("texture",), geojson_measurements="all", stains="H-DAB"
    )
    assert [entry["name"] for entry in entries] == table
    assert len(table) == 12 + 17
    assert qupath == {"Detection score", *table[12:]}
    _, table, qupath = run(sample, tmp_path / "none", measure=(), geojson_measurements="none")
    assert len(table) == 12
    assert qupath == {"Detection score"}
