"""Numbers of regions: by hand, whatever the order of the nuclei, and where there is nothing."""

from __future__ import annotations

import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely

from tests.support.exports import shared_export
from tests.support.results import SIDE_PX, write_annotations_by_hand, write_result
from wsi_engine.errors import GeoJSONError, RegionError, ResultError
from wsi_engine.nuclei.measure.columns import Column
from wsi_engine.qupath.reader import read_objects
from wsi_engine.regions.measure import measure_regions
from wsi_engine.regions.summary import RIPLEY_RADII_UM
from wsi_engine.regions.tables import region_table
from wsi_engine.results.finished import SlideResult
from wsi_engine.results.region import Region

HALF = SIDE_PX / 2
LEFT = shapely.box(0, 0, HALF, SIDE_PX)
QUARTER = shapely.box(0, 0, HALF, HALF)


def rows(folder, annotations=None):
    """Figures by region name."""
    report = measure_regions(folder, annotations)
    return {row["region"]: row for row in report.table.to_pylist()}


def scattered(count, seed=0, side=SIDE_PX):
    return np.round(np.random.default_rng(seed).uniform(0, side, (count, 2)), 2)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "slide"


# --- counts and areas ------------------------------------------------------------------------


def test_a_nucleus_counts_in_every_region_that_holds_it(folder, tmp_path):
    anchors = [(10, 10), (10, 3000), (3000, 10), (3000, 3000), (HALF, 1000)]
    drawn = write_annotations_by_hand(tmp_path / "a.geojson", LEFT, QUARTER, names=["left", "top"])
    found = rows(write_result(folder, anchors), drawn)
    assert list(found) == ["slide", "Tissue 1", "left", "top"]
    assert [row["Nuclei"] for row in found.values()] == [5, 5, 3, 2]
    assert [row["Area mm^2"] for row in found.values()] == pytest.approx([1, 1, 0.5, 0.25])
    assert [row["Nuclei per mm^2"] for row in found.values()] == pytest.approx([5, 5, 6, 8])
    assert [row["kind"] for row in found.values()] == ["slide", "tissue", *["annotation"] * 2]


def test_density_is_per_area_that_was_searched(folder, tmp_path):
    """Half of the annotation is glass, half of the tissue outside of the region of interest."""
    roi = shapely.box(0, 0, SIDE_PX, HALF)
    drawn = write_annotations_by_hand(
        tmp_path / "a.geojson", shapely.box(0, 0, SIDE_PX, HALF / 2), names=["strip"]
    )
    write_result(folder, [(10, 10), (10, 20), (30, 1500)], tissue=[LEFT], roi=roi)
    found = rows(folder, drawn)
    assert found["slide"]["Area mm^2"] == pytest.approx(0.25)
    assert found["Tissue 1"]["Area mm^2"] == pytest.approx(0.5)
    assert found["Tissue 1"]["Searched area mm^2"] == pytest.approx(0.25)
    assert found["strip"]["Area mm^2"] == pytest.approx(0.25)
    assert found["strip"]["Searched area mm^2"] == pytest.approx(0.125)
    assert found["strip"]["Nuclei per mm^2"] == pytest.approx(2 / 0.125)


def test_annotations_follow_the_regions_that_bounded_the_run(folder, tmp_path):
    """Another annotation beside them does not replace them; the same one counts once."""
    write_result(folder, [(10, 10), (10, 20)], roi=LEFT)
    (bounding,) = [row for row in rows(folder).values() if row["kind"] == "annotation"]
    drawn = write_annotations_by_hand(tmp_path / "other.geojson", QUARTER, names=["top"])
    table = measure_regions(folder, drawn).table.to_pylist()
    assert next(row["id"] for row in table if row["kind"] == "annotation") == bounding["id"]
    assert [row["region"] for row in table][-1] == "top"
    again = measure_regions(folder, folder / "roi.geojson").table.to_pylist()
    assert [row["id"] for row in again].count(bounding["id"]) == 1


def test_a_name_that_a_spreadsheet_would_compute_is_text(folder, tmp_path):
    drawn = write_annotations_by_hand(tmp_path / "a.geojson", LEFT, names=["=1+1"])
    rows(write_result(folder, [(10, 10)]), drawn)
    assert ""","'=1+1","annotation",""" in (folder / "regions.csv").read_text(encoding="utf-8-sig")


def test_a_run_without_tissue_searched_all_of_the_slide(folder):
    found = rows(write_result(folder, [(1, 1)], tissue=None))
    assert list(found) == ["slide"]
    assert found["slide"]["Nuclei per mm^2"] == pytest.approx(1)


def test_nuclei_outside_of_the_slide_count_nowhere(folder, tmp_path):
    """As another program may have put them; the border is of the slide."""
    far = shapely.box(-900, -900, SIDE_PX + 900, SIDE_PX + 900)
    drawn = write_annotations_by_hand(tmp_path / "a.geojson", far, names=["all around"])
    anchors = [(0, 0), (SIDE_PX, SIDE_PX), (-1, 9), (9, SIDE_PX + 1), (9000, 9), (9, -9000)]
    found = rows(write_result(folder, anchors, measurements={"M": [1, 3, 9, 9, 9, 9]}), drawn)
    assert {name: row["Nuclei"] for name, row in found.items()} == dict.fromkeys(found, 2)
    assert {row["M: Mean"] for row in found.values()} == {2}
    assert found["slide"]["Nuclei per mm^2"] == pytest.approx(2)


def test_pixels_that_are_not_square(folder):
    write_result(folder, [(1, 1)])
    record = json.loads((folder / "run.json").read_text())
    record["slide"]["mpp"] = {"x": 0.5, "y": 0.25}
    (folder / "run.json").write_text(json.dumps(record))
    assert rows(folder)["slide"]["Area mm^2"] == pytest.approx(2)


# --- classes ---------------------------------------------------------------------------------


def test_classes_are_counted_and_shared_out(folder):
    labels = [0, 0, 0, 1, -1]
    write_result(folder, scattered(5), classes=("Tumor", "Stroma", "Other"), labels=labels)
    row = rows(folder)["slide"]
    counts = [row[f"Nuclei: {name}"] for name in ("Tumor", "Stroma", "Other", "unclassified")]
    shares = [row[f"Nuclei: {name} %"] for name in ("Tumor", "Stroma", "Other", "unclassified")]
    assert counts == [3, 1, 0, 1]
    assert shares == [60, 20, 0, 20]


@pytest.mark.parametrize(
    ("classes", "shown"),
    [
        (
            ("unclassified", "Tumor"),
            {
                "Nuclei: unclassified": 3,
                "Nuclei: unclassified (2)": 1,
                "Nuclei: unclassified %": 60,
                "Nuclei: unclassified % (2)": 20,
            },
        ),
        (
            ("Tumor", "Tumor %"),
            {"Nuclei: Tumor %": 60, "Nuclei: Tumor % (2)": 1, "Nuclei: Tumor % %": 20},
        ),
        (
            ("Tumor", "Tumor %", "Tumor % (2)"),
            {"Nuclei: Tumor % (2)": 1, "Nuclei: Tumor % (2) (2)": 0},
        ),
    ],
)
def test_names_of_classes_that_are_names_of_columns(folder, classes, shown):
    write_result(folder, scattered(5), classes=classes, labels=[0, 0, 0, 1, -1])
    row = rows(folder)["slide"]
    assert {name: row[name] for name in shown} == shown
    every = sum(value for name, value in row.items() if name.startswith("Nuclei: "))
    assert every == 5 + 100, "counts and shares"


def test_pairs_of_classes_whose_names_read_alike(folder):
    classes = ("A", "B & C", "A & B", "C")
    write_result(folder, scattered(80), classes=classes, labels=np.arange(80) % 4)
    row = rows(folder)["slide"]
    names = [name for name in row if name.startswith("Neighbors:") and ": Pairs" in name]
    assert len(names) == 10
    assert {"Neighbors: A & B & C: Pairs", "Neighbors: A & B & C: Pairs (2)"} <= set(names)


def test_a_table_has_every_name_once():
    figures = {Column("Nuclei: A", "", "one", ""): 1.0, Column("Nuclei: A", "", "two", ""): 2.0}
    with pytest.raises(ValueError, match="two columns are called 'Nuclei: A'"):
        region_table("s", [Region("slide", "s", LEFT)], [figures], {})


def test_without_classes_there_are_no_columns_of_classes(folder):
    row = rows(write_result(folder, scattered(5)))["slide"]
    assert not [name for name in row if name.startswith(("Nuclei:", "Neighbors:"))]


def test_classes_that_keep_apart_are_enriched_among_themselves(folder, tmp_path):
    anchors = scattered(600)
    labels = (anchors[:, 0] > HALF).astype(int)
    drawn = write_annotations_by_hand(tmp_path / "a.geojson", LEFT, names=["left"])
    write_result(folder, anchors, classes=("A", "B"), labels=labels)
    found = rows(folder, drawn)
    assert found["slide"]["Neighbors: A & A: z"] > 10
    assert found["slide"]["Neighbors: A & B: z"] < -10
    assert found["slide"]["Neighbors: A & B: p"] == pytest.approx(2 / 1000)
    # In the left half all are of one class: there is nothing to permute.
    assert found["left"]["Neighbors: A & A: Pairs"] > 500
    assert found["left"]["Neighbors: A & A: z"] is None
    assert found["left"]["Neighbors: A & B: p"] is None


# --- measurements ----------------------------------------------------------------------------


def test_distributions_leave_missing_values_out_and_say_so(folder):
    values = [5, np.nan, 1, 2, np.inf, 4, 3]
    given = {"M": values, "M: Std": np.zeros(7), "M: Std.Dev.": values[::-1]}
    row = rows(write_result(folder, scattered(7), measurements=given))["slide"]
    assert (row["M: Std: Mean"], row["M: Std.Dev.: Mean"]) == (0, 3)  # dots are no nesting
    known = np.array([1, 2, 3, 4, 5])
    assert row["M: N"] == 5
    assert row["M: Mean"] == 3
    assert row["M: Std.Dev."] == pytest.approx(known.std(ddof=1))
    for name, percent in [("P5", 5), ("P25", 25), ("Median", 50), ("P75", 75), ("P95", 95)]:
        assert row[f"M: {name}"] == pytest.approx(np.percentile(known, percent))


@pytest.mark.parametrize(
    ("angles", "mean", "length"),
    [
        ([1, 2, 178, 179], 0, np.cos(np.radians([2, 4])).mean()),
        ([30, 50], 40, math.cos(math.radians(20))),
        ([0, 60, 120], None, 0),
        ([135, np.nan], 135, 1),
        ([np.nan], None, None),
    ],
)
def test_orientation_has_the_mean_of_axes_and_no_percentiles(folder, angles, mean, length):
    given = {"Orientation °": angles}
    row = rows(write_result(folder, scattered(len(angles)), measurements=given))["slide"]
    assert row["Orientation °: N"] == np.isfinite(angles).sum()
    found = row["Orientation °: Mean"]
    if mean is not None:
        assert (found - mean + 90) % 180 - 90 == pytest.approx(0, abs=1e-4)
        assert 0 <= found <= 180
    resultant = row["Orientation °: Resultant length"]
    assert (None if resultant is None else pytest.approx(resultant, abs=1e-6)) == length
    assert not {f"Orientation °: {name}" for name in ("Std.Dev.", "P5", "Median")} & row.keys()


def test_every_measurement_of_every_region_is_that_of_its_nuclei(folder, tmp_path):
    anchors = scattered(400, seed=1)
    values = np.random.default_rng(2).gamma(2, 20, 400).astype(np.float32)
    drawn = write_annotations_by_hand(tmp_path / "a.geojson", QUARTER, names=["top"])
    write_result(folder, anchors, measurements={"Area µm^2": values})
    row = rows(folder, drawn)["top"]
    inside = values[(anchors <= HALF).all(axis=1)].astype(float)
    assert row["Area µm^2: N"] == len(inside) == row["Nuclei"]
    assert row["Area µm^2: Mean"] == pytest.approx(inside.mean(), rel=1e-12)
    assert row["Area µm^2: P95"] == pytest.approx(np.percentile(inside, 95), rel=1e-12)
    assert row["Area µm^2: CV"] == pytest.approx(inside.std(ddof=1) / inside.mean(), rel=1e-12)


@pytest.mark.parametrize(
    ("circularity", "bits"),
    [
        ([0.81] * 8, 0),
        ([0.81, 0.91] * 4, 1 + 1 / (16 * math.log(2))),
        ([0.01, 0.21, 0.41, 0.61] * 2, 2 + 3 / (16 * math.log(2))),
        ([0.5], 0),
    ],
)
def test_entropy_of_shape_counts_the_kinds_of_shape(folder, circularity, bits):
    write_result(folder, scattered(len(circularity)), measurements={"Circularity": circularity})
    assert rows(folder)["slide"]["Circularity: Entropy bits"] == pytest.approx(bits)


def test_entropy_of_area_does_not_depend_on_the_unit(folder, tmp_path):
    areas = np.random.default_rng(3).gamma(2, 20, 300)
    write_result(folder, scattered(300), measurements={"Area µm^2": areas})
    write_result(tmp_path / "b", scattered(300), measurements={"Area µm^2": 16 * areas})
    bits = [rows(f)[f.name]["Area µm^2: Entropy bits"] for f in (folder, tmp_path / "b")]
    assert bits[0] == pytest.approx(bits[1])
    assert 2 < bits[0] < 5


def test_no_number_depends_on_the_order_of_the_nuclei(folder, tmp_path):
    """Another size of tiles gives the same nuclei in another order."""
    rng = np.random.default_rng(4)
    anchors, labels = scattered(500, seed=5), rng.integers(-1, 3, 500)
    values = rng.lognormal(3, 1, 500).astype(np.float32)
    order = rng.permutation(500)
    given = {"classes": ("A", "B", "C"), "labels": labels, "measurements": {"Area µm^2": values}}
    turned = {
        "classes": ("A", "B", "C"),
        "labels": labels[order],
        "measurements": {"Area µm^2": values[order]},
    }
    drawn = write_annotations_by_hand(tmp_path / "a.geojson", QUARTER, names=["top"])
    one = rows(write_result(folder, anchors, **given), drawn)
    other = rows(write_result(tmp_path / "other" / "slide", anchors[order], **turned), drawn)
    for name in ("slide", "top"):
        own = {"id"}
        assert {k: v for k, v in one[name].items() if k not in own} == (
            {k: v for k, v in other[name].items() if k not in own}
        )


# --- arrangement -----------------------------------------------------------------------------


def test_nuclei_at_random_are_so_in_the_tissue_though_not_on_the_slide(folder):
    """The window of the statistics is the tissue: glass is no gap between nuclei."""
    anchors = scattered(1500, seed=6, side=HALF)
    row = rows(write_result(folder, anchors, tissue=[QUARTER]))["slide"]
    assert row["Clark-Evans: R"] == pytest.approx(1, abs=0.05)
    assert abs(row["Clark-Evans: z"]) < 3
    for radius in RIPLEY_RADII_UM:
        assert row[f"Ripley: L-r {radius:g} µm"] == pytest.approx(0, abs=0.06 * radius)


def test_a_class_is_clustered_by_itself_among_nuclei_that_are_not(folder):
    """Class A is all of a quarter of the nuclei, the one in the middle; B is the rest."""
    anchors = scattered(4000, seed=3)
    labels = np.where((np.abs(anchors - HALF) < HALF / 2).all(axis=1), 0, 1)
    row = rows(write_result(folder, anchors, classes=("A", "B"), labels=labels))["slide"]
    assert row["Ripley: L-r 50 µm"] == pytest.approx(0, abs=3)
    assert row["Ripley: A: L-r 50 µm"] > 30  # K is nearly four times that of chance
    alone = write_result(folder.with_name("alone"), anchors[labels == 0])
    assert row["Ripley: A: L-r 50 µm"] == rows(alone)["alone"]["Ripley: L-r 50 µm"]


# --- where there is nothing ------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_nuclei_have_defined_numbers(folder, count):
    anchors, values = scattered(count), np.full(count, 7)
    write_result(
        folder,
        anchors,
        classes=("A", "B"),
        labels=np.zeros(count),
        measurements={"Area µm^2": values, "Circularity": values / 10},
    )
    row = rows(folder)["slide"]
    assert (row["Nuclei"], row["Nuclei per mm^2"], row["Nuclei: A"]) == (count, count, count)
    assert row["Nuclei: A %"] == (100 if count else None)
    assert row["Area µm^2: N"] == count
    assert row["Area µm^2: Mean"] == row["Area µm^2: P5"] == (7 if count else None)
    assert row["Area µm^2: Std.Dev."] == (0 if count == 2 else None)
    assert row["Clark-Evans: R"] is None
    assert row["Neighbors: A & B: z"] is None


def test_a_region_without_nuclei_has_none_and_no_means(folder, tmp_path):
    drawn = write_annotations_by_hand(
        tmp_path / "a.geojson", shapely.box(3000, 3000, 3100, 3100), names=["empty"]
    )
    row = rows(write_result(folder, [(1, 1)], measurements={"M": [1]}), drawn)["empty"]
    assert (row["Nuclei"], row["Nuclei per mm^2"], row["M: N"]) == (0, 0, 0)
    assert row["M: Mean"] is None


@pytest.mark.parametrize(
    "place", [shapely.box(9000, 9000, 9400, 9400), shapely.box(3000, 100, 3400, 500)],
    ids=["outside of the slide", "on glass"],
)  # fmt: skip
def test_where_nuclei_were_not_looked_for_all_but_the_area_is_missing(
    folder, tmp_path, caplog, place
):
    drawn = write_annotations_by_hand(tmp_path / "a.geojson", place, names=["far"])
    write_result(folder, [(1, 1)], tissue=[LEFT], measurements={"M": [1]}, classes=("A",))
    row = rows(folder, drawn)["far"]
    assert row["Area mm^2"] == pytest.approx(0.01)
    assert row["Searched area mm^2"] == 0
    identity = {"slide", "region", "kind", "class", "id", "Area mm^2", "Searched area mm^2"}
    assert [v for k, v in row.items() if k not in identity and v is not None] == []
    assert "'far'" in caplog.text


def test_two_regions_of_one_name_stay_two(folder, tmp_path):
    drawn = write_annotations_by_hand(
        tmp_path / "a.geojson", QUARTER, LEFT, names=["Tumour", "Tumour"]
    )
    table = measure_regions(write_result(folder, [(1, 3000)]), drawn).table
    named = [row for row in table.to_pylist() if row["region"] == "Tumour"]
    assert [row["Nuclei"] for row in named] == [0, 1]
    assert len({row["id"] for row in named}) == 2


def test_nested_annotations_as_qupath_exports_them_count_each_for_itself(folder):
    anchors = scattered(5000)
    drawn = shared_export("12_hierarchy_flat_all_objects.geojson")
    found = rows(write_result(folder, anchors), drawn)
    shapes = {item.name: item.geometry for item in read_objects(drawn)}
    names = ["region", "tumour in region", "necrosis in tumour"]
    assert [*found][2:] == names
    for name in names:
        inside = shapely.intersects_xy(shapes[name], *anchors.T)
        assert found[name]["Nuclei"] == inside.sum() > 0
    outer, middle, inner = (found[name]["Nuclei"] for name in names)
    assert outer > middle > inner
    assert [found[name]["class"] for name in names] == ["Region*", "Tumor", "Necrosis"]


def test_without_a_file_the_annotations_that_bounded_the_run_count(folder):
    write_result(folder, scattered(50), roi_class=["T"], exclude_class=["No"])
    write_annotations_by_hand(folder / "roi.geojson", LEFT, QUARTER, classes=["T", "No"])
    found = rows(folder)
    assert [name for name in found if found[name]["kind"] == "annotation"] == ["T 1"]
    assert found["T 1"]["Searched area mm^2"] == found["slide"]["Searched area mm^2"] == 0.25


def test_tissue_that_comes_back_from_qupath_does_not_count_twice(folder, tmp_path):
    write_result(folder, [(1, 1)])
    tissue = json.loads((folder / "tissue.geojson").read_text())
    drawn = write_annotations_by_hand(tmp_path / "a.geojson", QUARTER, names=["top"])
    both = json.loads(drawn.read_text())
    both["features"] += tissue["features"]
    drawn.write_text(json.dumps(both))
    table = measure_regions(folder, drawn).table
    assert table["region"].to_pylist() == ["slide", "top", "Tissue 1"]
    assert table["kind"].to_pylist() == ["slide", "annotation", "tissue"]


def test_annotations_without_name_are_called_by_class_or_number(folder, tmp_path):
    drawn = write_annotations_by_hand(
        tmp_path / "a.geojson", QUARTER, LEFT, classes=["Tumor", None]
    )
    assert [*rows(write_result(folder, [(1, 1)]), drawn)][2:] == ["Tumor 1", "Annotation 2"]


def test_points_and_lines_are_passed_over(folder, tmp_path, caplog):
    features = json.loads(
        write_annotations_by_hand(tmp_path / "a.geojson", QUARTER, names=["area"]).read_text()
    )
    point = {"type": "Feature", "geometry": {"type": "Point", "coordinates": [1, 1]}}
    features["features"].append(point)
    (tmp_path / "a.geojson").write_text(json.dumps(features))
    assert [*rows(write_result(folder, [(1, 1)]), tmp_path / "a.geojson")][2:] == ["area"]
    assert "1 annotations are points or lines" in caplog.text


def spoil(folder, name, content):
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_text(content)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("run.json", None, "no run.json"),
        ("run.json", "{", "run.json cannot be read"),
        ("run.json", "{}", "not the record of a run"),
        ("nuclei.parquet", None, "nuclei.parquet is missing"),
        ("nuclei.parquet", "text", "nuclei.parquet cannot be read"),
    ],
)
def test_what_is_no_finished_result_is_told(folder, name, content, words):
    spoil(write_result(folder, [(1, 1)]), name, content)
    with pytest.raises(ResultError, match=words):
        measure_regions(folder)


def test_no_such_folder(tmp_path):
    with pytest.raises(ResultError, match="no such folder"):
        measure_regions(tmp_path / "absent")


@pytest.mark.parametrize(
    ("content", "error"),
    [(None, GeoJSONError), ("text", GeoJSONError), ('{"type": "FeatureCollection"}', RegionError)],
)
def test_annotations_that_cannot_be_used(folder, tmp_path, content, error):
    path = tmp_path / "a.geojson"
    if content is not None:
        path.write_text(content)
    with pytest.raises(error, match=r"a\.geojson"):
        measure_regions(write_result(folder, [(1, 1)]), path)
    assert not (folder / "regions.csv").exists()


# --- files -----------------------------------------------------------------------------------


@pytest.fixture
def written(folder, tmp_path):
    anchors = scattered(200, seed=8)
    drawn = write_annotations_by_hand(
        tmp_path / "a.geojson",
        *[LEFT, QUARTER, shapely.box(9000, 9000, 9400, 9400)],
        names=["Left; half", 'The "top"', "Far"],
        classes=["Tumor", "My class: Positive", None],
    )
    areas = np.linspace(10, 90, 200)
    write_result(folder, anchors, classes=("A", "B"), labels=np.arange(200) % 2,
                 measurements={"Area µm^2": areas})  # fmt: skip
    columns = [{"name": "Area µm^2", "unit": "µm^2", "formula": "", "source": ""}]
    (folder / "columns.json").write_text(json.dumps(columns))
    return measure_regions(folder, drawn)


def test_parquet_and_csv_hold_the_same(written, folder):
    table = pq.read_table(folder / "regions.parquet")
    assert table.equals(written.table)
    assert (folder / "regions.csv").read_bytes().startswith("\ufeff".encode()), "for Excel"
    read = pa.csv.read_csv(folder / "regions.csv")
    assert read.column_names == table.column_names
    assert read["region"].to_pylist() == ["slide", "Tissue 1", "Left; half", 'The "top"', "Far"]
    for name in table.column_names[5:]:
        assert read[name].to_pylist() == table[name].to_pylist(), name
    assert {str(t) for t in table.schema.types} == {"string", "double"}


def test_the_dictionary_describes_every_column_in_order(written, folder):
    entries = json.loads((folder / "regions_columns.json").read_text(encoding="utf-8"))
    assert [entry["name"] for entry in entries] == written.table.column_names
    assert all(entry["formula"] and entry["source"] for entry in entries)
    units = {entry["name"]: entry["unit"] for entry in entries}
    assert units["Area µm^2: P95"] == "µm^2"
    assert units["Area µm^2: N"] == ""
    assert units["Nuclei per mm^2"] == "1/mm^2"


def test_qupath_gets_the_numbers_on_the_annotations(written, folder, tmp_path):
    features = json.loads((folder / "regions.geojson").read_text())["features"]
    drawn = json.loads((tmp_path / "a.geojson").read_text())["features"]
    tissue = json.loads((folder / "tissue.geojson").read_text())["features"]
    assert [f["id"] for f in features] == [f["id"] for f in tissue + drawn]
    assert len(read_objects(folder / "regions.geojson")) == 4
    rows_written = written.table.to_pylist()[1:]
    for feature, before, row in zip(features, tissue + drawn, rows_written, strict=True):
        assert feature["geometry"] == before["geometry"]
        for key in ("name", "classification", "isLocked", "objectType"):
            assert feature["properties"].get(key) == before["properties"].get(key)
        numbers = {k: v for k, v in row.items() if isinstance(v, float)}
        assert feature["properties"]["measurements"] == pytest.approx(numbers)


def test_a_second_call_replaces_the_first(written, folder):
    measure_regions(folder)
    assert len(pq.read_table(folder / "regions.parquet")) == 2
    assert len(read_objects(folder / "regions.geojson")) == 1
    assert not [path for path in folder.iterdir() if "partial" in path.name]


def test_an_annotation_that_was_moved_keeps_no_number_of_its_old_place(folder, tmp_path):
    drawn = write_annotations_by_hand(tmp_path / "a.geojson", QUARTER, names=["core"])
    write_result(folder, [(9, 9), (99, 9)], tissue=[QUARTER], measurements={"M": [1, 2]})
    measure_regions(folder, drawn)
    exported = json.loads((folder / "regions.geojson").read_text())
    [core] = [f for f in exported["features"] if f["properties"]["name"] == "core"]
    assert core["properties"]["measurements"]["M: Mean"] == 1.5
    core["properties"]["measurements"]["my own"] = 7
    core["geometry"] = shapely.geometry.mapping(shapely.box(3000, 3000, 3500, 3500))
    (tmp_path / "moved.geojson").write_text(json.dumps(exported | {"features": [core]}))
    measure_regions(folder, tmp_path / "moved.geojson")
    [core] = [item for item in read_objects(folder / "regions.geojson") if item.name == "core"]
    assert core.measurements == {"my own": 7, "Area mm^2": 0.015625, "Searched area mm^2": 0}


def test_the_columns_of_a_real_table_are_found(folder):
    """Anchors, geometry and probabilities are no measurements."""
    measured = {"Area µm^2": [1, 2, 3], "Hematoxylin: Std.Dev.": [1, 2, 3]}
    write_result(folder, scattered(3), classes=("A",), labels=[0] * 3, measurements=measured)
    assert SlideResult(folder).measurements == ("score", *measured)
