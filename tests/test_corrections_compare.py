"""What became of each object: by id, and by place where there is none."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import shapely

from tests.support.objects_by_hand import as_qupath_gives_back, disc, identity, item
from wsi_engine.corrections import compare, snapshot
from wsi_engine.corrections.compare import Comparison
from wsi_engine.corrections.snapshot import Snapshot, ids_as_bytes
from wsi_engine.qupath.objects import PathClass

A, B, FAR = disc(20, 20), disc(24, 20), disc(90, 90)


def outcome(old, new):
    with Snapshot.of(old) as before:
        comparison = Comparison(before)
        changes = list(comparison.changes(new))
        return changes, comparison, np.flatnonzero(comparison.missing).tolist()


def marked(**marks):
    made = item(A, 1)
    for name, value in marks.items():
        setattr(made, name, value)
    return made


# One object before, one after: (old, new, kinds; None for no change, rows that are missing)
CASES = {
    "untouched": (item(A, 1), item(A, 1), None, []),
    "given back by QuPath": (item(A, 1), item(as_qupath_gives_back(A), 1), None, []),
    "another class": (item(A, 1, "Tumor"), item(A, 1, "Stroma"), ["reclassified"], []),
    "a first class": (item(A, 1), item(A, 1, "Tumor"), ["reclassified"], []),
    "class taken away": (item(A, 1, "Tumor"), item(A, 1), ["reclassified"], []),
    "derived class": (item(A, 1, "Tumor"), item(A, 1, "Tumor: Positive"), ["reclassified"], []),
    "another shape": (item(A, 1), item(B, 1), ["reshaped"], []),
    "moved far away": (item(A, 1), item(FAR, 1), ["reshaped"], []),
    "a name": (item(A, 1), item(A, 1, name="odd one"), ["renamed"], []),
    "everything": (
        item(A, 1, "Tumor"),
        item(B, 1, "Stroma", name="n"),
        ["reclassified", "reshaped", "renamed"],
        [],
    ),
    "another id in the same place": (item(A, 1), item(A, 2), None, []),
    "another id, and another class": (
        item(A, 1, "Tumor"),
        item(disc(21, 20), 2, "Stroma"),
        ["reclassified", "reshaped"],
        [],
    ),
    "another id, and too far": (item(A, 1), item(disc(27, 20), 2), ["added"], [0]),
    "another id of an annotation": (
        item(A, 1, object_type="annotation"),
        item(A, 2, object_type="annotation"),
        ["added"],
        [0],
    ),
    "a lock": (item(A, 1), marked(is_locked=True), ["marked"], []),
    "a lock taken away": (marked(is_locked=True), item(A, 1), ["marked"], []),
    "a colour": (item(A, 1), marked(colour=(1, 2, 3)), ["marked"], []),
    "metadata": (item(A, 1), marked(metadata={"seen": "yes"}), ["marked"], []),
    "other metadata": (
        marked(metadata={"seen": "no"}),
        marked(metadata={"seen": "yes", "ROI": "Tumor"}),
        ["marked"],
        [],
    ),
    "metadata that QuPath 0.5 drops": (marked(metadata={"seen": "yes"}), item(A, 1), None, []),
    "metadata that only the engine writes": (
        item(A, 1),
        marked(metadata={"ROI": "Tumor", "Source": "edited", "_wsi_engine": "x"}),
        None,
        [],
    ),
    "no id any more": (item(A, 1), item(A), None, []),
    "no id, and another shape": (item(A, 1), item(disc(21, 20)), ["reshaped"], []),
    "no id, and too far": (item(A, 1), item(disc(27, 20)), ["added"], [0]),
    "no id, and another type": (
        item(A, 1),
        item(A, object_type="annotation"),
        ["added"],
        [0],
    ),
    "no id before, as QuPath gives new ones": (item(A), item(A, 5), None, []),
    "no id before nor after": (item(A), item(A, None, "Tumor"), ["reclassified"], []),
    "a cell's nucleus": (
        item(A, 1, object_type="cell", nucleus=disc(20, 20, 3)),
        item(A, 1, object_type="cell", nucleus=disc(20, 20, 2)),
        ["reshaped"],
        [],
    ),
    "a cell that lost its nucleus": (
        item(A, 1, object_type="cell", nucleus=disc(20, 20, 3)),
        item(A, 1, object_type="cell"),
        ["reshaped"],
        [],
    ),
    "a line that moved": (
        item(shapely.LineString([(0, 0), (5, 5)]), 1, object_type="annotation"),
        item(shapely.LineString([(0, 0), (5, 6)]), 1, object_type="annotation"),
        ["reshaped"],
        [],
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_one_object(case):
    old, new, kinds, missing = case
    changes, comparison, rows = outcome([old], [new])
    assert [list(change.kinds) for change in changes] == ([] if kinds is None else [kinds])
    assert comparison.unchanged == (kinds is None)
    assert rows == missing


def test_the_iou_is_that_of_old_and_new():
    changes, _, _ = outcome([item(A, 1, "Tumor")], [item(B, 1, "Stroma")])
    assert changes[0].iou == pytest.approx(A.intersection(B).area / A.union(B).area)
    assert changes[0].old_class == "Tumor"


def test_a_reshaped_object_never_has_an_iou_of_one():
    large = disc(5_000, 5_000, 4_000)
    nibbled = large.difference(disc(9_000, 5_000, 0.2))
    changes, _, _ = outcome([item(large, 1)], [item(nibbled, 1)])
    assert 0.999 < changes[0].iou < 1


def test_added_and_deleted():
    old = [item(A, 1), item(B, 2), item(FAR, 3)]
    new = [item(FAR, 3), item(disc(50, 50), 4)]
    changes, comparison, missing = outcome(old, new)
    assert [(change.item.id, change.kinds) for change in changes] == [(identity(4), ("added",))]
    assert missing == [0, 1]
    assert comparison.unchanged == 1


def test_an_id_that_occurs_twice_counts_once():
    twice = [item(A, 1), item(B, 1), item(FAR, 7), item(FAR, 7)]
    changes, comparison, _ = outcome([item(A, 1)], twice)
    assert comparison.duplicates == 2
    assert [change.item.id for change in changes] == [identity(7)]


def test_without_ids_each_object_goes_to_the_nearest_once():
    old = [item(disc(20, 20)), item(disc(30, 20)), item(disc(40, 20))]
    new = [item(disc(31, 20)), item(disc(20, 20)), item(disc(20.5, 20))]
    changes, comparison, missing = outcome(old, new)
    assert missing == [2]
    assert comparison.unchanged == 1
    assert [change.kinds for change in changes] == [("reshaped",), ("added",)]


def test_an_id_wins_over_a_place():
    # The one without id lies where the object with the id was, but that one is still there.
    changes, _, missing = outcome([item(A, 1)], [item(A), item(FAR, 1)])
    assert [change.kinds for change in changes] == [("reshaped",), ("added",)]
    assert missing == []


def several():
    return [item(disc(20 * k, 20), k, "Tumor") for k in range(1, 8)]


def with_new_ids(objects):
    return [replace(made, id=identity(100 + k)) for k, made in enumerate(objects)]


@pytest.mark.parametrize("batch", [1, 2, 1000])
def test_new_ids_for_all_that_was_there_are_no_change(monkeypatch, batch):
    monkeypatch.setattr(compare, "BATCH", batch)
    changes, comparison, missing = outcome(several(), with_new_ids(several())[::-1])
    assert (changes, missing) == ([], [])
    assert (comparison.unchanged, comparison.by_place, comparison.overlapping) == (7, 7, 0)


@pytest.mark.parametrize("batch", [1, 2, 3, 1000])
@pytest.mark.parametrize("copies", [1, 2])
@pytest.mark.parametrize("last", [True, False])
def test_an_object_and_its_copies_are_one(monkeypatch, batch, copies, last):
    monkeypatch.setattr(compare, "BATCH", batch)
    twins = [
        replace(made, id=identity(100 * n + k))
        for n in range(1, 1 + copies)
        for k, made in enumerate(several())
    ]
    new = several() + twins if last else twins + several()
    changes, comparison, missing = outcome(several(), new)
    assert (changes, missing) == ([], [])
    assert comparison.unchanged == 7
    assert comparison.by_place == comparison.overlapping == 7 * copies


def test_of_two_in_one_place_the_one_that_was_changed_counts():
    old = several()
    copies = with_new_ids(old)
    copies[0] = replace(copies[0], classification=PathClass.of("Stroma"))
    mine = [replace(made, name="mine") if k == 1 else made for k, made in enumerate(old)]
    copies[1] = replace(copies[1], name="theirs")
    changes, comparison, missing = outcome(old, mine + copies)
    assert [(c.row, c.kinds, c.item.name) for c in changes] == [
        (1, ("renamed",), "mine"),
        (0, ("reclassified",), None),
    ]
    assert (missing, comparison.unchanged, comparison.overlapping) == ([], 5, 6)


def test_ids_that_end_in_zeros_are_told_apart():
    ids = ["00000000-0000-0000-0000-000000000001", "01000000-0000-0000-0000-000000000000"]
    ids += ["01000000-0000-0000-0000-000000000001", "ff000000-0000-0000-0000-00000000ff00"]
    with Snapshot.of([]) as before:
        assert before.rows_of(ids_as_bytes(ids)).tolist() == [-1] * 4
    objects = [item(A) for _ in ids]
    for made, text in zip(objects, ids, strict=True):
        made.id = text
    with Snapshot.of(objects) as before:
        assert before.rows_of(ids_as_bytes(ids)).tolist() == [0, 1, 2, 3]
        assert before.rows_of(ids_as_bytes(ids[::-1])).tolist() == [3, 2, 1, 0]
        assert before.ids_at(np.array([1, 3])) == [ids[1], ids[3]]


@pytest.mark.parametrize("batch", [1, 2, 7, 1000])
def test_the_batches_do_not_matter(monkeypatch, batch):
    monkeypatch.setattr(snapshot, "BATCH", batch)
    monkeypatch.setattr(compare, "BATCH", batch)
    old = [item(disc(20 * k, 20), k, "Tumor") for k in range(20)]
    new = [item(disc(20 * k + k % 3, 20), k, ["Tumor", "Stroma"][k % 2]) for k in range(5, 25)]
    changes, comparison, missing = outcome(old, new)
    kinds = [kind for change in changes for kind in change.kinds]
    assert [kinds.count(kind) for kind in ("added", "reclassified", "reshaped")] == [5, 8, 10]
    assert missing == [0, 1, 2, 3, 4]
    assert comparison.unchanged == 15 - len({c.item.id for c in changes if c.row >= 0})
    assert comparison.reclassified == {("Tumor", "Stroma"): 8}


def test_memory_for_each_old_object_is_bounded():
    def many(count):
        return (item(disc(20 * (k % 100), k / 5), k, "Tumor") for k in range(count))

    tracemalloc.start()
    with Snapshot.of(many(4_000)) as small:
        first = tracemalloc.get_traced_memory()[0]
        with Snapshot.of(many(12_000)) as large:
            second = tracemalloc.get_traced_memory()[0] - first
            assert (len(small), len(large)) == (4_000, 12_000)
    tracemalloc.stop()
    # A PathObject with its polygon of 25 vertices takes more than a kilobyte.
    assert second / 12_000 < 100
