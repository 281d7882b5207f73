"""The fingerprint of a slide: of its content, not its name, and cheap."""

import shutil
import string
import time

import numpy as np
import pytest

import wsi_engine.slide.fingerprint as fingerprint_module
from wsi_engine.errors import SlideChangedError, SlideError
from wsi_engine.slide.fingerprint import SAMPLE_BYTES, FileWatch, fingerprint

MIB = 1 << 20


@pytest.fixture
def slide(tmp_path):
    path = tmp_path / "slide.svs"
    path.write_bytes(np.random.default_rng(0).bytes(7 * MIB + 123))
    return path


def test_it_is_32_hexadecimal_digits_and_stays_the_same(slide):
    first = fingerprint(slide)
    assert len(first) == 32
    assert set(first) <= set(string.hexdigits.lower())
    assert fingerprint(slide) == first


def test_the_name_does_not_count(slide, tmp_path):
    first = fingerprint(slide)
    (tmp_path / "elsewhere").mkdir()
    assert fingerprint(slide.rename(tmp_path / "elsewhere" / "renamed.tif")) == first


@pytest.mark.parametrize(
    "position", [0, MIB - 1, (7 * MIB + 123) // 2, 6 * MIB + 123, 7 * MIB + 122]
)
def test_a_changed_byte_at_the_beginning_middle_or_end_is_noticed(slide, position):
    first = fingerprint(slide)
    with slide.open("r+b") as stream:
        stream.seek(position)
        [value] = stream.read(1)
        stream.seek(position)
        stream.write(bytes([value ^ 1]))
    assert fingerprint(slide) != first


@pytest.mark.parametrize("cut", [1, MIB, 3 * MIB])
def test_another_length_is_noticed(slide, cut):
    first = fingerprint(slide)
    with slide.open("r+b") as stream:
        stream.truncate(7 * MIB + 123 - cut)
    assert fingerprint(slide) != first


def test_length_counts_even_where_every_sample_is_the_same(tmp_path):
    found = set()
    for size in (0, 1, 100, MIB, 3 * MIB, 5 * MIB, 6 * MIB):
        path = tmp_path / str(size)
        path.write_bytes(bytes(size))
        found.add(fingerprint(path))
    assert len(found) == 7


@pytest.mark.parametrize("size", [1, 2, 1000, MIB - 1, MIB, 2 * MIB])
def test_every_byte_of_a_small_file_counts(tmp_path, size):
    content = bytearray(np.random.default_rng(1).bytes(size))
    path = tmp_path / "small"
    path.write_bytes(content)
    first = fingerprint(path)
    for position in {0, size // 3, size // 2, 2 * size // 3, size - 1}:
        content[position] ^= 0x10
        path.write_bytes(content)
        assert fingerprint(path) != first, position
        content[position] ^= 0x10


def test_a_huge_file_costs_three_samples(tmp_path, monkeypatch):
    path = tmp_path / "huge.svs"
    with path.open("wb") as stream:
        stream.truncate(200 << 30)  # sparse: takes no space
    counted = []

    class Counting:
        def __init__(self, stream):
            self.stream = stream

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.stream.close()

        def seek(self, position):
            self.stream.seek(position)

        def read(self, count):
            counted.append(count)
            return self.stream.read(count)

    opened = type(path).open
    monkeypatch.setattr(type(path), "open", lambda self, mode: Counting(opened(self, mode)))
    fingerprint(path)
    assert sum(counted) == 3 * SAMPLE_BYTES


# --- slides that are folders ------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    """A slide in files: what describes it at the top, its pixels below."""
    path = tmp_path / "slide.zarr"
    (path / "0" / "1").mkdir(parents=True)
    (path / ".zattrs").write_text('{"mpp": 0.25}')
    random = np.random.default_rng(1)
    for name in ("0/0", "0/1/0", "0/1/1"):
        (path / name).write_bytes(random.bytes(2 * MIB))
    return path


def rename(path):
    path.rename(path.with_name("renamed"))


def shorten(path):
    path.write_bytes(path.read_bytes()[:-1])


def add_beside(path):
    path.with_name("new").write_bytes(b"")


def change_first_byte(path):
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)


CHANGES = [
    (".zattrs", change_first_byte),
    ("0/0", change_first_byte),
    ("0/1/1", shorten),
    ("0/1/1", rename),
    ("0/1/1", add_beside),
    ("0/1/0", lambda path: path.unlink()),
]


def test_a_folder_has_a_fingerprint_that_its_own_name_does_not_change(folder, tmp_path):
    first = fingerprint(folder)
    assert len(first) == 32
    assert fingerprint(folder) == first
    assert fingerprint(folder.rename(tmp_path / "renamed")) == first


@pytest.mark.parametrize(("name", "change"), CHANGES)
def test_what_changes_in_a_folder_changes_its_fingerprint(folder, name, change):
    first = fingerprint(folder)
    change(folder / name)
    assert fingerprint(folder) != first


@pytest.mark.parametrize(("name", "change"), CHANGES)
def test_a_watch_notices_what_changes_in_a_folder(folder, name, change):
    watch = FileWatch(folder)
    watch.check(now=True)
    time.sleep(0.02)  # the clock of some file systems ticks slowly
    change(folder / name)
    with pytest.raises(SlideChangedError, match=r"slide\.zarr was changed while it was read"):
        watch.check(now=True)


def test_a_watch_of_a_folder_notices_without_hurry_and_does_not_look_each_time(folder, monkeypatch):
    clock, looks = [0.0], []
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    list_files = fingerprint_module._files

    def slow(path):
        looks.append(path)
        clock[0] += 1
        return list_files(path)

    monkeypatch.setattr(fingerprint_module, "_files", slow)
    watch = FileWatch(folder)
    for _ in range(1000):
        clock[0] += 0.1
        watch.check()
    assert 3 <= len(looks) <= 6
    (folder / "0" / "0").unlink()
    clock[0] += 30
    with pytest.raises(SlideChangedError):
        watch.check()


def test_a_folder_that_is_gone(folder):
    watch = FileWatch(folder)
    shutil.rmtree(folder)
    with pytest.raises(SlideError, match="is gone"):
        watch.check(now=True)
