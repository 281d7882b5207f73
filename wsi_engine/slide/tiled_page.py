"""A page of a tiled TIFF as tifffile finds it, its tiles decoded one by one."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from wsi_engine.slide.protocol import RGB, UnreadableRegionError

JPEG = 7
"""Number of TIFF's compression by JPEG."""


class MissingCodecError(Exception):
    """Tifffile leaves a compression to imagecodecs, which is not installed."""


class TiledPage:
    """One level of a tiled 8-bit RGB TIFF: where its tiles lie, and how they are decoded."""

    def __init__(self, page: Any) -> None:
        self.width, self.height = int(page.imagewidth), int(page.imagelength)
        self.tile_width, self.tile_height = int(page.tilewidth), int(page.tilelength)
        self.offsets: Sequence[int] = page.dataoffsets
        self.counts: Sequence[int] = page.databytecounts
        self.compression = getattr(page.compression, "name", str(page.compression))
        self._is_jpeg = page.compression == JPEG
        tables = page.jpegtables
        self._jpeg_header = _adobe_marker(page) + (tables[2:-2] if tables else b"")
        self._page = page

    def index_at(self, x: int, y: int) -> int | None:
        """Return the number of the tile at a place, ``None`` outside."""
        if not (0 <= x < self.width and 0 <= y < self.height):
            return None
        across = -(-self.width // self.tile_width)
        index = y // self.tile_height * across + x // self.tile_width
        return index if index < len(self.counts) else None

    def as_jpeg(self, data: bytes) -> bytes:
        """Return the data of a tile as a JPEG of its own, with the tables that all tiles share."""
        return data[:2] + self._jpeg_header + data[2:]

    def decode(self, data: bytes, index: int) -> RGB:
        """Decode a tile; pixels that lie outside the image are white."""
        try:
            pixels = self._decode_jpeg(data) if self._is_jpeg else self._decode_other(data, index)
            return self.clipped(pixels, index)
        except MemoryError:
            raise
        # Every codec has errors of its own.
        except Exception as error:
            if "imagecodecs" in str(error):
                raise MissingCodecError(str(error)) from None
            raise UnreadableRegionError(f"tile {index} cannot be decoded: {error}") from None

    def clipped(self, pixels: RGB, index: int) -> RGB:
        """Return the pixels of a tile, not to be written to, white where they lie outside."""
        across = -(-self.width // self.tile_width)
        height = min(self.tile_height, self.height - index // across * self.tile_height)
        width = min(self.tile_width, self.width - index % across * self.tile_width)
        if pixels.shape[0] < height or pixels.shape[1] < width:
            raise ValueError(f"{pixels.shape[1]} x {pixels.shape[0]} px are no whole tile")
        tile = np.full((self.tile_height, self.tile_width, 3), 255, np.uint8)
        tile[:height, :width] = pixels[:height, :width]
        tile.flags.writeable = False
        return tile

    def _decode_jpeg(self, data: bytes) -> RGB:
        with Image.open(io.BytesIO(self.as_jpeg(data)), formats=["JPEG"]) as image:
            return np.asarray(image.convert("RGB"))

    def _decode_other(self, data: bytes, index: int) -> RGB:
        pixels = self._page.decode(data, index)[0]
        if pixels is None:
            raise ValueError("no data")
        return np.asarray(pixels[0, ..., :3])


def _adobe_marker(page: Any) -> bytes:
    """Tell decoders whether the components are RGB or YCbCr, which TIFF says and JPEG need not."""
    is_ycbcr = page.photometric == 6
    return b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00" + bytes([is_ycbcr])
