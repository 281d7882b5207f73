"""Decoded tiles of a file that is read by many threads."""

from __future__ import annotations

import threading
from collections import OrderedDict

from wsi_engine.slide.protocol import RGB


class DecodedTiles:
    """The tiles that were asked for last, by level and number; safe to use from many threads.

    Parameters
    ----------
    most_bytes
        Tiles are let go beyond that, but for the last.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._tiles: OrderedDict[tuple[int, int], RGB] = OrderedDict()
        self._held_bytes = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._tiles)

    def get(self, level: int, index: int) -> RGB | None:
        """Return a tile, ``None`` if it is not held."""
        with self._lock:
            tile = self._tiles.get((level, index))
            if tile is not None:
                self._tiles.move_to_end((level, index))
            return tile

    def keep(self, level: int, index: int, tile: RGB) -> None:
        """Hold a tile, unless another thread has decoded the same one meanwhile."""
        with self._lock:
            if (level, index) in self._tiles:
                return
            self._tiles[level, index] = tile
            self._held_bytes += tile.nbytes
            while self._held_bytes > self._most_bytes and len(self._tiles) > 1:
                self._held_bytes -= self._tiles.popitem(last=False)[1].nbytes
