"""What a view holds is what the result holds, whatever the form in which it goes to the page."""

from __future__ import annotations

import io
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
from PIL import Image

from tests.support.results import write_result
from tests.support.runs import write_small_slide
from tests.support.views import outlines_in, points_in, view_of
from wsi_engine.errors import ResultError
from wsi_engine.slide.frames import LevelBox
from wsi_engine.slide.opening import open_slide
from wsi_engine.slide.quality.flag import Flag
from wsi_engine.view import content as content_module
from wsi_engine.view import slide_tiles as slide_tiles_module
from wsi_engine.view.content import ViewContent
from wsi_engine.view.drawing_order import drawing_order, z_number
from wsi_engine.view.kept import Kept
from wsi_engine.view.outline_tiles import STEPS_IN_PX, rings_of, tile_side_px
from wsi_engine.view.slide_tiles import TILE_PX, SlideTiles
from wsi_engine.view.values import ROWS_IN_CHUNK

SIDE = 1000.0


@pytest.fixture(scope="module")
def view(finished_run: Path):
    with view_of(finished_run) as content:
        yield content


@pytest.fixture(scope="module")
def table(finished_run: Path) -> pa.Table:
    return pq.read_table(finished_run / "nuclei.parquet")


@pytest.fixture
def points() -> np.ndarray:
    """Crowded in one corner, thin elsewhere."""
    rng = np.random.default_rng(5)
    crowd, others = rng.uniform(0, 100, (3000, 2)), rng.uniform(0, SIDE, (2000, 2))
    return np.concatenate([crowd, others])


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory):
    path = write_small_slide(tmp_path_factory.mktemp("slide") / "slide.tif")
    with open_slide(path) as slide:
        yield slide


class TestDrawingOrder:
    def test_every_nucleus_has_one_place(self, points):
        order = drawing_order(points, SIDE, first_level=100)
        assert sorted(order.rows) == list(range(len(points)))

    def test_levels_are_four_times_as_large_as_the_one_before(self, points):
        order = drawing_order(points, SIDE, first_level=100)
        ends = [int(starts[-1]) for starts in order.starts]
        assert ends == [100, 100 + 400, 100 + 400 + 1600, 5000]
        assert [len(starts) - 1 for starts in order.starts] == [1, 4, 16, 64]
        assert [int(starts[0]) for starts in order.starts] == [0, *ends[:-1]]

    def test_a_range_holds_what_lies_in_its_cell(self, points):
        order = drawing_order(points, SIDE, first_level=100)
        for level, starts in enumerate(order.starts):
            across = 2**level
            for column, row in np.ndindex(across, across):
                cell = int(z_number(np.uint64([column]), np.uint64([row]))[0])
                rows = order.rows[starts[cell] : starts[cell + 1]]
                found = points[rows] // (SIDE / across)
                assert (found == [column, row]).all()

    @pytest.mark.parametrize("first", [100, 500])
    def test_the_first_are_a_sample_of_the_slide(self, points, first):
        """Three fifths lie in the crowd: so do as many of the first, by five deviations."""
        order = drawing_order(points, SIDE, first_level=100)
        crowded = (order.rows[:first] < 3000).mean()
        assert crowded == pytest.approx(0.6, abs=5 * np.sqrt(0.24 / first))

    def test_it_is_always_the_same(self, points):
        first, again = (drawing_order(points, SIDE) for _ in range(2))
        assert np.array_equal(first.rows, again.rows)

    @pytest.mark.parametrize("x", [-50.0, SIDE, 5 * SIDE, np.nan])
    def test_what_lies_outside_counts_to_the_nearest_cell(self, x):
        order = drawing_order(np.array([[x, 10.0]] * 9), SIDE, first_level=1)
        assert [int(starts[-1]) for starts in order.starts] == [1, 5, 9]

    def test_none(self):
        order = drawing_order(np.empty((0, 2)), SIDE)
        assert len(order.rows) == 0
        assert [starts.tolist() for starts in order.starts] == [[0, 0]]


class TestNuclei:
    def test_points_are_the_anchors_of_their_rows(self, view: ViewContent, table):
        anchors, rows = points_in(view.get("data/points/0.bin"))
        assert sorted(rows) == list(range(len(table)))
        expected = np.column_stack([table["x"], table["y"]])[rows]
        assert np.array_equal(anchors, expected.astype(np.float32))

    def test_columns_are_those_of_the_table(self, view: ViewContent, table):
        _, rows = points_in(view.get("data/points/0.bin"))
        assert set(view.columns) >= {"score", "Area µm^2", "Hematoxylin: Mean"}
        for k, name in enumerate(view.columns):
            values = np.frombuffer(view.get(f"data/columns/{k}/0.bin"), "<f4")
            assert np.array_equal(values, table[name].to_numpy()[rows], equal_nan=True), name

    def test_blocks_follow_each_other(self, view: ViewContent, monkeypatch):
        whole, _ = points_in(view.get("data/points/0.bin"))
        monkeypatch.setattr(content_module, "NUCLEI_IN_BLOCK", 50)
        assert view.blocks == -(-len(whole) // 50)
        parts = [points_in(view.get(f"data/points/{k}.bin"))[0] for k in range(view.blocks)]
        assert np.array_equal(np.concatenate(parts), whole)

    def test_classes_and_colours(self, tmp_path: Path):
        anchors = np.random.default_rng(0).uniform(0, 4000, (300, 2))
        labels = np.arange(300) % 3 - 1
        folder = write_result(tmp_path / "s", anchors, classes=("Tumor", "Mine"), labels=labels)
        with view_of(folder) as view:
            _, rows = points_in(view.get("data/points/0.bin"))
            found = np.frombuffer(view.get("data/classes/0.bin"), "<i2")
            told = json.loads(view.get("data/view.json"))
        assert np.array_equal(found, labels[rows])
        assert [entry["name"] for entry in told["classes"]] == ["Tumor", "Mine"]
        assert told["classes"][0]["colour"] == [200, 0, 0], "QuPath's own"
        assert [c["name"] for c in told["columns"]][:3] == [
            "score", "probability: Tumor", "probability: Mine",
        ]  # fmt: skip

    def test_outlines_are_those_of_the_table(self, view: ViewContent, table):
        _, rows = points_in(view.get("data/points/0.bin"))
        polygons = shapely.from_wkb(table["geometry"].to_numpy())
        seen = []
        for column, row in view.outlines.tiles():
            corner = np.array([column, row]) * view.outlines.side_px
            tile = outlines_in(view.get(f"data/outlines/{column}_{row}.bin"), corner)
            counts = np.frombuffer(view.get("data/outlines/counts.bin"), "<u4")
            assert len(tile) == counts[row * view.outlines.columns + column]
            for place, ring in tile.items():
                true = shapely.get_coordinates(polygons[rows[place]].exterior)[:-1]
                assert np.abs(ring - true).max() <= 0.5 / STEPS_IN_PX + 1e-3
                x, y = table["x"][int(rows[place])].as_py(), table["y"][int(rows[place])].as_py()
                assert (np.array([x, y]) // view.outlines.side_px == [column, row]).all()
            seen += tile
        assert sorted(seen) == list(range(len(table)))

    def test_values_are_all_that_the_table_says(self, view: ViewContent, table):
        texts = view.values.texts
        assert set(texts) >= {"id", "class", "roi", "source"}
        for chunk in range(view.values.chunks):
            found = orjson.loads(view.get(f"data/values/{chunk}.json"))
            part = table.slice(chunk * ROWS_IN_CHUNK, ROWS_IN_CHUNK)
            assert found["texts"] == {name: part[name].to_pylist() for name in texts}
            numbers = np.array(found["numbers"], np.float32)
            expected = np.column_stack([part[name].to_numpy() for name in view.columns])
            assert np.array_equal(numbers, expected, equal_nan=True)

    def test_values_go_on_over_the_ends_of_row_groups(self, view: ViewContent, table, tmp_path):
        """Row groups end at other rows than chunks."""
        folder = write_result(tmp_path / "s", np.random.default_rng(1).uniform(0, 4000, (700, 2)))
        path = folder / "nuclei.parquet"
        whole = pq.read_table(path)
        pq.write_table(whole, path, row_group_size=100)
        with view_of(folder) as view:
            chunks = [orjson.loads(view.get(f"data/values/{k}.json")) for k in range(6)]
            ids = [name for chunk in chunks for name in chunk["texts"]["id"]]
            outlined = sum(
                np.frombuffer(view.outlines.encoded(*tile), "<u4", 1)[0]
                for tile in view.outlines.tiles()
            )
        assert ids == whole["id"].to_pylist()
        assert outlined == 700

    def test_a_result_without_nuclei(self, tmp_path: Path):
        with view_of(write_result(tmp_path / "s", [])) as view:
            files = {name: view.get(name) for name in view.names()}
        assert None not in files.values()
        assert not [name for name in files if name.startswith(("data/points", "data/values"))]
        assert json.loads(files["data/view.json"])["nuclei"]["count"] == 0

    def test_outlines_that_are_none_are_an_error(self):
        with pytest.raises(ResultError, match="outlines of nuclei cannot be read"):
            rings_of(pa.table({"geometry": pa.array([b"no geometry"])}))

    @pytest.mark.parametrize(
        ("mpp", "side"), [(0.25, 1024), (0.5, 512), (1.0, 256), (8.0, 256), (0.05, 1024)]
    )
    def test_tiles_of_outlines_are_some_256_um(self, mpp, side):
        assert tile_side_px(mpp) == side


class TestSlide:
    def test_the_coarsest_tile_is_the_whole_slide(self, slide):
        tiles = SlideTiles(slide)
        assert tiles.halvings == 3
        assert [tiles.size(h) for h in range(3)] == [(1536, 1536), (768, 768), (384, 384)]
        assert [tiles.grid(h) for h in range(3)] == [(3, 3), (2, 2), (1, 1)]

    def test_tiles_are_the_pixels_of_the_slide(self, slide):
        tile = pixels_of(SlideTiles(slide).jpeg(0, 1, 2))
        true = slide.read(0, LevelBox(TILE_PX, 2 * TILE_PX, TILE_PX, TILE_PX))
        assert np.abs(tile.astype(float) - true).mean() < 4, "but for what JPEG does"

    def test_coarser_tiles_are_means_and_end_where_the_slide_ends(self, slide):
        tile = pixels_of(SlideTiles(slide).jpeg(1, 1, 1))
        assert tile.shape == (256, 256, 3)
        true = slide.read(0, LevelBox(1024, 1024, 512, 512))
        mean = true.reshape(256, 2, 256, 2, 3).mean(axis=(1, 3))
        assert np.abs(tile - mean).mean() < 4

    def test_what_is_too_large_to_be_read_at_once_is_the_same(self, slide, monkeypatch):
        whole = SlideTiles(slide).jpeg(2, 0, 0)
        monkeypatch.setattr(slide_tiles_module, "MOST_PIXELS_READ", 100**2)
        assert SlideTiles(slide).jpeg(2, 0, 0) == whole

    def test_an_export_stays_within_so_many_tiles(self, slide):
        tiles = SlideTiles(slide)
        assert [tiles.finest_within(most) for most in (0, 1, 4, 5, 13, 14, 99)] == [
            2, 2, 2, 1, 1, 0, 0,
        ]  # fmt: skip
        assert list(tiles.tiles(2)) == [(2, 0, 0)]
        assert len(list(tiles.tiles(0))) == 14


class TestKept:
    def test_a_thing_is_made_once_however_many_ask(self):
        made = []

        def make(key: int) -> int:
            time.sleep(0.02)
            made.append(key)
            return 10 * key

        kept = Kept(make, room=2)
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(kept.__getitem__, [7] * 16)) == [70] * 16
        assert made == [7]

    def test_what_was_asked_for_longest_ago_goes(self):
        made = []
        kept = Kept(lambda key: made.append(key) or key, room=2)
        for key in (1, 2, 1, 3, 1, 2):
            assert kept[key] == key
        assert made == [1, 2, 3, 2]

    def test_the_last_stays_even_if_there_is_no_room_for_it(self):
        made = []
        kept = Kept(lambda key: made.append(key) or "x" * key, room=10, size=len)
        for key in (4, 5, 4, 99, 99, 4):
            assert len(kept[key]) == key
        assert made == [4, 5, 99, 4]


def test_regions_and_what_is_doubtful(view: ViewContent, finished_run: Path):
    told = json.loads(view.get("data/regions.json"))
    kinds = {region["kind"] for region in told["regions"]}
    assert {"tissue", "annotation"} <= kinds
    [drawn] = [region for region in told["regions"] if region["kind"] == "annotation"]
    assert drawn["class"] == "Tumor"
    assert drawn["colour"] == [200, 0, 0]
    left, top, right, bottom = shapely.Polygon(drawn["polygons"][0][0]).bounds
    assert (right - left, bottom - top) == pytest.approx((400, 400), abs=1)
    names = json.loads((finished_run / "quality.json").read_text("utf-8"))["flags"]
    assert [flag["name"] for flag in told["flags"]] == [flag["name"] for flag in names]


def test_places_of_flags_are_shown(tmp_path: Path, monkeypatch):
    place = shapely.box(100, 200, 300, 400)
    flag = Flag("blur", "look", 0.2, "", "A place is blurred.", (place,))
    monkeypatch.setattr("wsi_engine.view.description.read_flags", lambda result: [flag])
    with view_of(write_result(tmp_path / "s", [])) as view:
        told = json.loads(view.get("data/regions.json"))
    [doubtful] = [region for region in told["regions"] if region["kind"] == "quality"]
    assert doubtful["level"] == "look"
    assert shapely.Polygon(doubtful["polygons"][0][0]).equals(place)


def test_every_name_leads_to_its_content(view: ViewContent):
    names = list(view.names())
    assert len(names) == len(set(names))
    assert all(view.get(name) for name in names)
    assert {"index.html", "main.js", "openseadragon/openseadragon.min.js"} <= set(names)


@pytest.mark.parametrize(
    "name",
    [
        "", ".", "..", "index.html/", "/index.html", "./index.html", "page/index.html",
        "../../run.json", "data/../index.html", "data/points/../view.json", "nuclei.parquet",
        "data/points/1.bin", "data/points/00.bin", "data/points/-1.bin", "data/points/0.bin\n",
        "data/points/٠.bin", "data/points/99999999999999999999.bin", "data/columns/0/1.bin",
        "data/columns/999/0.bin", "data/outlines/999_0.bin", "data/outlines/0_999.bin",
        "data/values/999999.json", "data/slide/99/0_0.jpg", "data/slide/0/999_0.jpg",
        "openseadragon", "openseadragon/../main.js", "main.js\0",
    ],
)  # fmt: skip
def test_there_is_nothing_else(view: ViewContent, name: str):
    assert view.get(name) is None


def pixels_of(jpeg: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(jpeg)) as image:
        assert image.format == "JPEG"
        return np.asarray(image.convert("RGB"))
