"""The store: what comes back is what went in, and nothing damaged or foreign is trusted."""

from __future__ import annotations

import errno
import shutil
import sqlite3
import zlib
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial

import numpy as np
import pyarrow as pa
import pytest
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.nuclei_by_hand import assert_same_nuclei, some_nuclei, tile_grid
from wsi_engine.errors import BusyError, SlideChangedError
from wsi_engine.slide.frames import LevelBox
from wsi_engine.store import tile_store
from wsi_engine.store.journal import (
    Entries,
    Journal,
    JournalDamagedError,
    PartRecord,
    read_journal,
)
from wsi_engine.store.parts import (
    polygons_from_arrow,
    polygons_to_arrow,
    read_part,
    write_part,
)
from wsi_engine.store.tile_store import JOURNAL, DamagedPartError, TileStore
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


def written_and_read(path, tiles):
    return read_part(path, *write_part(path, tiles))


@pytest.mark.parametrize("classes", [0, 1, 5])
@pytest.mark.parametrize("tiles", PARTS.values(), ids=PARTS)
def test_a_part_comes_back_as_it_was_written(tmp_path, tiles, classes):
    written = [(index, some_nuclei(n, classes, seed=index)) for index, n in tiles]
    found = written_and_read(tmp_path / "part.arrow", written)
    assert [index for index, _ in found] == [index for index, _ in written]
    for (_, one), (_, other) in zip(found, written, strict=True):
        assert_same_nuclei(one, other)


def test_holes_come_back(tmp_path):
    nuclei = some_nuclei(6, with_hole=[0, 3, 5])
    two_holes = shapely.box(0, 0, 20, 20) - shapely.box(2, 2, 4, 4) - shapely.box(9, 9, 12, 12)
    nuclei.polygons[1] = two_holes
    ((_, found),) = written_and_read(tmp_path / "part.arrow", [(0, nuclei)])
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


def test_size_and_checksum_are_of_the_bytes_on_disk(tmp_path):
    path = tmp_path / "part.arrow"
    stated = write_part(path, [(0, some_nuclei(50))])
    assert stated == (path.stat().st_size, zlib.crc32(path.read_bytes()))
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    with pytest.raises(ValueError, match="checksum"):
        read_part(path, *stated)


def arrow_file(table):
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def hostile_parts(path):
    """Parts with a good checksum that an enemy wrote."""
    write_part(path, [(0, some_nuclei(9, classes=2, measurements=3))])
    good = pa.ipc.open_file(path).read_all()
    facts = dict(good.schema.metadata)
    yield "nothing", b""
    yield "no Arrow", b"ARROW1\0\0" + b"x" * 100
    yield "no metadata", arrow_file(good.replace_schema_metadata(None))
    yield "other columns", arrow_file(good.drop_columns(["anchor"]))
    yield "no rows for a tile", arrow_file(good.replace_schema_metadata(facts | {b"tiles": b"[7]"}))
    for key in (b"tiles", b"classes", b"measurements"):
        for value in (b"-1", b"1e9", b'"a"', b"[[]]", b"null", b"{", b"99999999999", b"[" * 10**5):
            meta = facts | {key: value}
            yield f"{key} {value[:20]}", arrow_file(good.replace_schema_metadata(meta))
    wrong = pa.array(np.full(9, np.nan).repeat(2)), pa.array([None] * 9, pa.float32())
    anchors = pa.FixedSizeListArray.from_arrays(wrong[0], 2)
    yield "anchors nowhere", arrow_file(good.set_column(2, good.schema.field(2), anchors))
    yield "no scores", arrow_file(good.set_column(3, good.schema.field(3), wrong[1]))
    # Offsets that lead out of the file: of the rings, written over in the bytes themselves.
    raw = bytearray(arrow_file(good))
    offsets = np.asarray(good["geometry"].chunk(0).offsets).tobytes()
    at = raw.find(offsets)
    assert at > 0
    raw[at + 4 : at + 8] = (2**31 - 1).to_bytes(4, "little")
    yield "offsets", bytes(raw)


def test_hostile_parts_are_no_nuclei(tmp_path):
    path = tmp_path / "part.arrow"
    for name, raw in list(hostile_parts(path)):
        path.write_bytes(raw)
        with pytest.raises(ValueError):
            print(name, read_part(path, len(raw), zlib.crc32(raw)))


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


BASIS = {"slide": "a"}


def open_store(folder, basis=BASIS):
    return TileStore(folder, TILES, basis)


def run_on(folder, tiles=12, basis=BASIS):
    """Go on until so many tiles are through, as a run does; return what came out."""
    passed = []
    while len(passed) < tiles:
        with open_store(folder, basis) as store:
            passed, stream = [], store.complete(iter(reports(store.missing)))
            try:
                while len(passed) < tiles:
                    passed.append(next(stream))
            except DamagedPartError:
                passed = []
            stream.close()
    return passed


def finished(folder, basis=BASIS):
    with open_store(folder, basis) as store:
        return store.finished_tiles


def test_tiles_pass_through_unchanged_one_by_one(folder):
    items = reports()
    with open_store(folder) as store:
        assert store.finished_tiles == 0
        assert store.missing == list(TILES)
        passed = list(store.complete(iter(items)))
    assert [tile for tile, _ in passed] == list(TILES)
    assert all(one is other for (_, one), (_, other) in zip(passed, items, strict=True))


def test_tiles_are_not_held_back(folder):
    """The seams downstream must not wait for a part to be full."""
    pulled = []

    def arriving():
        for item in reports():
            pulled.append(item[0].index)
            yield item

    with open_store(folder) as store:
        for taken, (tile, _) in enumerate(store.complete(arriving()), 1):
            assert tile.index == taken - 1
            assert len(pulled) == taken


@pytest.mark.parametrize("count", [1, 7, 12])
def test_what_was_kept_comes_first_and_then_what_is_computed(folder, count):
    run_on(folder, count)
    with open_store(folder) as store:
        assert store.finished_tiles == count
        assert store.missing == list(TILES[count:])
        assert_same_reports(store.complete(iter(reports(store.missing))), reports())


def parts_of(folder):
    return read_journal(folder / JOURNAL).parts


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
    run_on(folder)
    assert [part.tiles for part in parts_of(folder)] == sizes


def test_a_full_part_is_durable_before_its_last_tile_is_passed_on(folder):
    def on_disk():
        return sum(part.tiles for part in parts_of(folder))

    with open_store(folder) as store:
        stream = store.complete(iter(reports()))
        for passed in range(1, 13):
            next(stream)
            # As if the process died here: another reads what is on disk.
            assert on_disk() == passed // 3 * 3


def test_what_is_not_yet_in_a_part_is_kept_when_a_run_ends_early(folder):
    with open_store(folder) as store:
        stream = store.complete(iter(reports()))
        for _ in range(8):
            next(stream)
        stream.close()
    assert finished(folder) == 8
    assert_same_reports(run_on(folder), reports())


def test_a_part_that_cannot_be_written_is_not_tried_again_on_the_way_out(folder, monkeypatch):
    calls = []

    def full(path, tiles):
        calls.append(path.name)
        raise OSError(errno.ENOSPC, "full")

    with open_store(folder) as store:
        monkeypatch.setattr(tile_store, "write_part", full)
        with pytest.raises(OSError, match="full"):
            list(store.complete(iter(reports())))
    assert calls == ["part-00000000.arrow"]


def test_parts_go_on_where_the_last_run_ended(folder):
    for end in (2, 6, 7, 12):
        run_on(folder, end)
    parts = parts_of(folder)
    assert [part.first for part in parts] == [0, 2, 5, 6, 7, 10]
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


def empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize("harmed", [[0], [1], [3], [0, 1], [1, 2], [0, 3], [0, 1, 2, 3]])
@pytest.mark.parametrize("harm", [damage, truncate, empty, remove])
def test_the_tiles_of_a_harmed_part_are_computed_again_and_no_others(folder, harm, harmed):
    run_on(folder)
    for number in harmed:
        harm(folder / f"part-{3 * number:08d}.arrow")
    found, computed = [], []
    while len(found) < len(TILES):
        with open_store(folder) as store, suppress(DamagedPartError):
            computed, missing = [], store.missing
            found = list(store.complete(computed.append(t) or (t, report(t)) for t in missing))
    assert_same_reports(found, reports())
    expected = [tile for tile in TILES if tile.index // 3 in harmed]
    assert len(computed) <= len(expected)
    assert computed == expected[-len(computed) :]
    assert finished(folder) == len(TILES)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    file=st.sampled_from([JOURNAL, "part-00000000.arrow", "part-00000006.arrow"]),
    at=st.floats(0, 1, exclude_max=True),
    flip=st.integers(0, 255),
)
def test_no_flipped_bit_and_no_lost_end_changes_what_comes_out(folder, file, at, flip):
    """A flip of 0 stands for a file that ends there."""
    shutil.rmtree(folder, ignore_errors=True)
    run_on(folder, 11)
    raw = bytearray((folder / file).read_bytes())
    position = int(at * len(raw))
    raw[position:] = bytes([raw[position] ^ flip]) + raw[position + 1 :] if flip else b""
    (folder / file).write_bytes(raw)
    assert_same_reports(run_on(folder), reports())
    assert finished(folder) == len(TILES)


def test_what_belongs_to_another_basis_is_not_used(folder):
    other = {"slide": "b"}
    run_on(folder)
    assert finished(folder, other) == 0
    # And the other has taken its place.
    assert finished(folder) == 0
    assert_same_reports(run_on(folder, basis=other), reports())
    assert finished(folder, other) == len(TILES)


def test_a_basis_is_the_same_after_json(folder):
    basis = {"measure": ("shape", "colour"), "mpp": 0.1 + 0.2, "µ": None}
    run_on(folder, 6, basis)
    assert finished(folder, basis) == 6


@pytest.mark.parametrize(
    ("error", "kept"), [(BusyError, 3), (SlideChangedError, 3), (KeyboardInterrupt, 5)]
)
def test_what_has_come_is_stored_unless_it_must_not_be(folder, error, kept):
    def arriving():
        yield from reports()[:5]
        raise error

    with open_store(folder) as store, pytest.raises(error):
        list(store.complete(arriving()))
    assert finished(folder) == kept
    assert sum(1 for _ in folder.glob("part-*")) == len(parts_of(folder))


def test_scraps_of_a_crash_are_not_read(folder):
    run_on(folder, 6)
    (folder / ".part-00000006.arrow.partial").write_bytes(b"half a part")
    (folder / "part-00000006.arrow").write_bytes(b"whole, but the journal does not know it")
    assert finished(folder) == 6
    assert_same_reports(run_on(folder), reports())
    assert not list(folder.glob(".*.partial"))


def test_a_part_that_holds_other_tiles_is_not_used(folder):
    """A journal and parts that do not belong together, each sound."""
    run_on(folder)
    with Journal(folder / JOURNAL, BASIS, len(TILES)) as journal:
        one, other = journal.parts[:2]
        first, second = (folder / part.file for part in (one, other))
        second.write_bytes(first.read_bytes())
        journal.add(replace(other, bytes=one.bytes, crc32=one.crc32))
    with open_store(folder) as store, pytest.raises(DamagedPartError, match="other tiles"):
        list(store.complete(iter(())))
    assert_same_reports(run_on(folder), reports())


def test_the_journal_works_on_network_disks(folder):
    """Write-ahead logging does not."""
    run_on(folder)
    with sqlite3.connect(folder / JOURNAL) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    connection.close()
    assert {path.suffix for path in folder.iterdir()} == {".sqlite", ".arrow"}


# The journal


PART = PartRecord(0, 3, 5, 6, 7)
LOST = frozenset({LevelBox(256, 0, 256, 256), LevelBox(0, 512, 256, 100)})


@pytest.fixture
def journal_path(tmp_path):
    path = tmp_path / JOURNAL
    with Journal(path, BASIS, 12) as journal:
        journal.add(PART, LOST)
        journal.add(replace(PART, first=3), LOST)
    return path


def test_a_journal_can_be_looked_into(journal_path, tmp_path):
    parts = (PART, replace(PART, first=3))
    assert read_journal(journal_path) == Entries(BASIS, 12, parts, LOST)
    assert read_journal(journal_path).finished_tiles == 6
    assert read_journal(tmp_path / "absent") is None


def test_a_journal_is_looked_into_though_a_crash_cut_its_writer_off(journal_path, tmp_path):
    before, crashed = read_journal(journal_path), tmp_path / "crashed"
    with closing(sqlite3.connect(journal_path)) as connection:
        connection.execute("DELETE FROM part")  # and never committed
        shutil.copytree(journal_path.parent, crashed)
    left = {path.name: path.read_bytes() for path in crashed.iterdir()}
    assert f"{journal_path.name}-journal" in left
    assert read_journal(crashed / journal_path.name) == before
    assert {path.name: path.read_bytes() for path in crashed.iterdir()} == left
    assert read_journal(crashed / journal_path.name, mend=True) == before


@pytest.mark.parametrize("raw", [b"no database " * 100, b"SQLite format 3\0" + b"\xff" * 4096])
def test_a_damaged_journal_is_begun_again(journal_path, raw):
    journal_path.write_bytes(raw)
    # What a crash left beside the old one must not be played into the new one.
    journal_path.with_name(f"{JOURNAL}-journal").write_bytes(b"\xd9\xd5\x05\xf9 and more")
    with pytest.raises(JournalDamagedError):
        read_journal(journal_path)
    with Journal(journal_path, BASIS, 12) as journal:
        assert journal.parts == ()
        journal.add(PART)
    assert read_journal(journal_path).parts == (PART,)


@pytest.mark.parametrize(
    ("statement", "left"),
    [
        ("UPDATE part SET tiles = 2 WHERE first = 3", 1),
        ("UPDATE part SET crc32 = 'x' WHERE first = 0", 1),
        ("UPDATE part SET nuclei = 'many'", 0),
        ("DELETE FROM part WHERE first = 0", 1),
        ("UPDATE run SET tiles = 13", None),
        ("UPDATE run SET basis = '{}'", None),
        ("UPDATE run SET basis = x'ff'", None),
        ("DELETE FROM run", None),
        ("INSERT INTO run SELECT * FROM run", None),
        ("UPDATE lost SET y = y + 1", None),
        ("UPDATE lost SET crc32 = 'x' WHERE x = 0", None),
        ("DROP TABLE part", None),
        ("CREATE TABLE more (x)", None),
        ("CREATE TRIGGER t AFTER INSERT ON part BEGIN DELETE FROM part; END", None),
        ("DROP TABLE part; CREATE VIEW part AS SELECT 0, 3, 5, 6, 7, 8", None),
    ],
)
def test_rows_that_the_engine_did_not_write_vouch_for_nothing(journal_path, statement, left):
    with closing(sqlite3.connect(journal_path)) as connection:
        connection.executescript(statement)
    if left is None:
        with pytest.raises(JournalDamagedError):
            read_journal(journal_path)
    with Journal(journal_path, BASIS, 12) as journal:
        assert len(journal.parts) == (left or 0)


def test_parts_that_overlap_or_lie_outside_are_not_taken(journal_path):
    with Journal(journal_path, BASIS, 12) as journal:
        for part in (
            PartRecord(1, 1, 0, 0, 0),
            PartRecord(11, 2, 0, 0, 0),
            PartRecord(9, 0, 0, 0, 0),
        ):
            journal.add(part)
    assert [part.first for part in read_journal(journal_path).parts] == [0, 3]


def test_a_disk_that_fails_is_no_damage(journal_path, monkeypatch):
    """Nothing is thrown away because the disk cannot be read now."""
    with closing(sqlite3.connect(journal_path)) as other:
        other.execute("BEGIN EXCLUSIVE")
        connect = sqlite3.connect
        monkeypatch.setattr(sqlite3, "connect", partial(connect, timeout=0))
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            Journal(journal_path, BASIS, 12)
    assert len(read_journal(journal_path).parts) == 2
