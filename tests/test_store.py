"""The store: what comes back is what went in, and nothing damaged or foreign is trusted."""

from __future__ import annotations

import sqlite3

import numpy as np
import pyarrow as pa
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from nuclei_by_hand import assert_same_nuclei, some_nuclei, tile_grid

from wsi_engine.errors import StoreError
from wsi_engine.store import tile_store
from wsi_engine.store.journal import Journal, PartRecord
from wsi_engine.store.parts import (
    checksum,
    polygons_from_arrow,
    polygons_to_arrow,
    read_part,
    write_part,
)
from wsi_engine.store.tile_store import TileStore
from wsi_engine.writing import atomic_path

TILES = tuple(tile_grid(3, 4, 100).tiles())
assert len(TILES) == 12


def report(tile, classes=2):
    """What a tile found: more or less, every third nothing."""
    count = [0, 3, 7][tile.index % 3]
    return some_nuclei(count, classes, tile.index, with_hole=[0, 2], measurements=4)


def reports(tiles=TILES):
    return [(tile, report(tile)) for tile in tiles]


def assert_same_reports(found, expected):
    found = list(found)
    assert [tile for tile, _ in found] == [tile for tile, _ in expected]
    for (_, one), (_, other) in zip(found, expected, strict=True):
        assert_same_nuclei(one, other)


# Parts


PARTS = {
    "some": [(3, 5)],
    "several tiles": [(0, 4), (1, 6), (2, 5)],
    "tiles are missing": [(7, 4), (9, 6), (400_000, 1)],
    "empty tiles between": [(0, 0), (1, 3), (2, 0), (3, 2), (4, 0)],
    "only empty tiles": [(0, 0), (1, 0)],
}


@pytest.mark.parametrize("classes", [0, 1, 5])
@pytest.mark.parametrize("tiles", PARTS.values(), ids=PARTS)
def test_a_part_comes_back_as_it_was_written(tmp_path, tiles, classes):
    written = [(index, some_nuclei(n, classes, seed=index)) for index, n in tiles]
    write_part(tmp_path / "part.arrow", written)
    found = list(read_part(tmp_path / "part.arrow"))
    assert [index for index, _ in found] == [index for index, _ in written]
    for (_, one), (_, other) in zip(found, written, strict=True):
        assert_same_nuclei(one, other)


def test_holes_come_back(tmp_path):
    nuclei = some_nuclei(6, with_hole=[0, 3, 5])
    two_holes = shapely.box(0, 0, 20, 20) - shapely.box(2, 2, 4, 4) - shapely.box(9, 9, 12, 12)
    nuclei.polygons[1] = two_holes
    write_part(tmp_path / "part.arrow", [(0, nuclei)])
    ((_, found),) = read_part(tmp_path / "part.arrow")
    assert_same_nuclei(found, nuclei)
    assert shapely.get_num_interior_rings(found.polygons).tolist() == [1, 2, 0, 1, 0, 1]


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=12),
    st.integers(0, 5),
    st.integers(0, 5),
)
def test_polygons_survive_arrow_whole_and_in_slices(shapes, skip, take):
    polygons = np.empty(len(shapes), object)
    for k, (size, hole) in enumerate(shapes):
        square = shapely.box(0.1 * k, 0.01, 3.3 + size, 4.7)
        polygons[k] = square - shapely.box(2, 1, 3, 2) if hole else square
    column = polygons_to_arrow(polygons)
    column.validate(full=True)
    for found, expected in [
        (column, polygons),
        (column.slice(skip, take), polygons[skip : skip + take]),
    ]:
        back = polygons_from_arrow(pa.chunked_array([found]))
        assert back.shape == expected.shape
        assert shapely.equals_identical(back, expected).all()


def test_the_checksum_is_of_the_bytes_on_disk(tmp_path):
    path = tmp_path / "part.arrow"
    stated = write_part(path, [(0, some_nuclei(50))])
    assert checksum(path) == stated
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    assert checksum(path) != stated


def test_a_part_that_is_not_finished_leaves_the_old_one_and_no_scraps(tmp_path):
    path = tmp_path / "part.arrow"
    path.write_bytes(b"old")

    def fails_half_way():
        with atomic_path(path) as partial:
            partial.write_bytes(b"ne")
            assert path.read_bytes() == b"old"
            raise OSError

    with pytest.raises(OSError):
        fails_half_way()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


# Keeping and replaying


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "tiles"


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch):
    monkeypatch.setattr(tile_store, "MOST_TILES_IN_PART", 3)


def store_all(folder, tiles=TILES, fingerprint="a"):
    with TileStore(folder, fingerprint) as store:
        first = store.finished_tiles
        return [*store.replay(tiles), *store.keep(reports(tiles[first:]))]


def finished(folder, fingerprint="a"):
    with TileStore(folder, fingerprint) as store:
        return store.finished_tiles


def test_tiles_pass_through_unchanged_one_by_one(folder):
    items = reports()
    with TileStore(folder, "a") as store:
        assert store.finished_tiles == 0
        assert list(store.replay(TILES)) == []
        passed = list(store.keep(iter(items)))
    assert [tile for tile, _ in passed] == list(TILES)
    assert all(one is other for (_, one), (_, other) in zip(passed, items, strict=True))


def test_tiles_are_not_held_back(folder):
    """The seams downstream must not wait for a part to be full."""
    pulled = []

    def arriving():
        for item in reports():
            pulled.append(item[0].index)
            yield item

    with TileStore(folder, "a") as store:
        for taken, (tile, _) in enumerate(store.keep(arriving()), 1):
            assert tile.index == taken - 1
            assert len(pulled) == taken


def test_what_was_kept_is_replayed(folder):
    store_all(folder)
    with TileStore(folder, "a") as store:
        assert store.finished_tiles == len(TILES)
        assert_same_reports(store.replay(TILES), reports())


def test_replay_gives_only_the_beginning_that_is_stored(folder):
    with TileStore(folder, "a") as store:
        list(store.keep(reports(TILES[:7])))
    with TileStore(folder, "a") as store:
        assert store.finished_tiles == 7
        assert_same_reports(store.replay(TILES), reports(TILES[:7]))


def part_sizes(folder):
    with TileStore(folder, "a") as store:
        return [part.tiles for part in store._journal.parts()]


@pytest.mark.parametrize(
    ("limits", "sizes"),
    [
        ({"MOST_TILES_IN_PART": 5}, [5, 5, 2]),
        ({"MOST_NUCLEI_IN_PART": 8}, [3, 3, 3, 3]),
        ({"MOST_NUCLEI_IN_PART": 11}, [5, 4, 3]),
        ({"MOST_NUCLEI_IN_PART": 1}, [2, 1, 2, 1, 2, 1, 2, 1]),
        ({"LONGEST_UNSAVED_S": -1.0}, [1] * 12),
        ({}, [12]),
    ],
)
def test_a_part_ends_with_enough_tiles_nuclei_or_seconds(folder, monkeypatch, limits, sizes):
    """Tiles report 0, 3, 7, 0, 3, 7... nuclei."""
    for name, value in ({"MOST_TILES_IN_PART": 64} | limits).items():
        monkeypatch.setattr(tile_store, name, value)
    store_all(folder)
    assert part_sizes(folder) == sizes


def test_a_full_part_is_durable_before_its_last_tile_is_passed_on(folder):
    with TileStore(folder, "a") as store:
        stream = store.keep(reports())
        for _ in range(5):
            next(stream)
        # As if the process died here: another reads what is on disk.
        assert finished(folder) == 3
        next(stream)
        assert finished(folder) == 6


def test_going_on_after_a_crash_gives_what_one_run_gives(folder, tmp_path):
    with TileStore(folder, "a") as store:
        stream = store.keep(reports())
        for _ in range(8):
            next(stream)
        stream.close()
    assert_same_reports(store_all(folder), reports())
    assert finished(folder) == len(TILES)
    store_all(tmp_path / "whole")
    names = sorted(path.name for path in folder.glob("part-*"))
    assert names == sorted(path.name for path in (tmp_path / "whole").glob("part-*"))
    assert names == [f"part-{k:06d}.arrow" for k in range(4)]


def test_numbers_go_on_where_the_last_run_ended(folder):
    for end in (2, 6, 7, 12):
        store_all(folder, TILES[:end])
    with TileStore(folder, "a") as store:
        parts = store._journal.parts()
    assert [part.number for part in parts] == list(range(len(parts)))
    assert [part.tiles for part in parts] == [2, 3, 1, 1, 3, 2]
    assert sum(part.nuclei for part in parts) == sum(len(n) for _, n in reports())


# What must not be trusted


def damage(path):
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 0x10
    path.write_bytes(raw)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-9])


def remove(path):
    path.unlink()


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("harm", [damage, truncate, remove])
def test_a_harmed_part_and_all_later_ones_are_computed_again(folder, harm, number):
    store_all(folder)
    harm(folder / f"part-{number:06d}.arrow")
    assert finished(folder) == 3 * number
    assert_same_reports(store_all(folder), reports())
    assert finished(folder) == len(TILES)


def test_what_belongs_to_other_settings_is_not_used(folder):
    store_all(folder, fingerprint="a")
    assert finished(folder, "b") == 0
    # And the other settings have taken its place.
    assert finished(folder, "a") == 0
    assert_same_reports(store_all(folder, fingerprint="b"), reports())
    assert finished(folder, "b") == len(TILES)


def test_scraps_of_a_crash_are_not_read(folder):
    store_all(folder, TILES[:6])
    (folder / ".part-000002.arrow.partial").write_bytes(b"half a part")
    (folder / "part-000002.arrow").write_bytes(b"whole, but the journal does not know it")
    assert finished(folder) == 6
    assert_same_reports(store_all(folder), reports())
    assert not list(folder.glob(".*.partial"))


def test_tiles_of_another_plan_are_an_error_that_says_where(folder):
    store_all(folder)
    with (
        TileStore(folder, "a") as store,
        pytest.raises(StoreError, match=r"tiles: tile 1 is stored where 2 belongs"),
    ):
        list(store.replay([TILES[0], *TILES[2:]]))


def test_the_journal_works_on_network_disks(folder):
    """Write-ahead logging does not."""
    store_all(folder)
    with sqlite3.connect(folder / "journal.sqlite") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    connection.close()
    assert {path.suffix for path in folder.iterdir()} == {".sqlite", ".arrow"}


def test_a_damaged_journal_is_begun_again(tmp_path):
    with Journal(tmp_path / "journal.sqlite", "one") as journal:
        journal.add(PartRecord(0, "part-000000.arrow", 1, 2, 3))
    (tmp_path / "journal.sqlite").write_bytes(b"no database " * 100)
    with Journal(tmp_path / "journal.sqlite", "one") as journal:
        assert journal.parts() == []
