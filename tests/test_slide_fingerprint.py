"""The fingerprint of a slide: of its content, not its name, and cheap."""

import string

import numpy as np
import pytest

from wsi_engine.slide.fingerprint import SAMPLE_BYTES, fingerprint

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
