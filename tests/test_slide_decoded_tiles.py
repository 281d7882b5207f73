"""What is held of decoded tiles: those that were asked for last, within a bound."""

from __future__ import annotations

import numpy as np

from wsi_engine.slide.decoded_tiles import DecodedTiles

SIDE = 4
BYTES = SIDE * SIDE * 3


def tile(shade: int) -> np.ndarray:
    return np.full((SIDE, SIDE, 3), shade, np.uint8)


def test_the_tile_that_was_asked_for_longest_ago_goes_first() -> None:
    tiles = DecodedTiles(2 * BYTES)
    tiles.keep(0, 1, tile(1))
    tiles.keep(0, 2, tile(2))
    assert tiles.get(0, 1) is not None
    tiles.keep(1, 1, tile(3))
    assert tiles.get(0, 2) is None
    assert [int(found[0, 0, 0]) for k in (0, 1) if (found := tiles.get(k, 1)) is not None] == [1, 3]


def test_a_tile_that_two_threads_decoded_counts_once() -> None:
    tiles = DecodedTiles(2 * BYTES)
    for _ in range(5):
        tiles.keep(0, 1, tile(1))
    tiles.keep(0, 2, tile(2))
    assert tiles.get(0, 1) is not None
    assert tiles.get(0, 2) is not None


def test_the_last_tile_is_held_however_large() -> None:
    tiles = DecodedTiles(1)
    tiles.keep(0, 1, tile(1))
    tiles.keep(0, 2, tile(2))
    assert tiles.get(0, 1) is None
    assert tiles.get(0, 2) is not None
