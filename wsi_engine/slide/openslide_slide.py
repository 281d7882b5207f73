"""Slides that OpenSlide opens."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import openslide

from wsi_engine.closing import Closing
from wsi_engine.errors import SlideError
from wsi_engine.kernels import kernel
from wsi_engine.slide.blocks import assemble
from wsi_engine.slide.frames import Level0Box, LevelBox
from wsi_engine.slide.jpeg_tiles import JpegTiles, find_jpeg_tiles
from wsi_engine.slide.levels import true_downsample
from wsi_engine.slide.protocol import RGB, Level, SlideInfo, UnreadableRegionError
from wsi_engine.slide.resolution import mpp_from_properties
from wsi_engine.slide.unsupported import why_not_supported

DECODED_TILE_CACHE_BYTES = 32 << 20
"""One cache for the handles of all threads, so that memory does not grow with their number."""

INEXACT_BLOCK_PX = 256
"""Side of the aligned blocks in which levels of fractional downsample are read."""

TILES_TO_PROVE_BY = 16
"""After so many tiles of a level that cannot be decoded past OpenSlide, none is tried."""

LARGEST_TILE_PX = 2048
"""A file may call a whole level one tile; around damage it is then read in smaller blocks."""


class OpenSlideSlide(Closing):
    """A slide behind OpenSlide, with one handle per thread.

    JPEG tiles are decoded past it where they have the same pixels (`JpegTiles`).

    OpenSlide takes positions in level-0 pixels. Where it takes a level's downsample for a
    fraction (4.0003), a pixel has no exact position there, and OpenSlide interpolates by an
    amount that depends on where the read starts. Such levels are read in aligned blocks: a
    pixel then has the same value whoever asks for it, and none is off by more than half a
    full-resolution pixel.

    Raises
    ------
    SlideError
        When OpenSlide does not know the format, or the file is damaged beyond opening.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._cache = openslide.OpenSlideCache(DECODED_TILE_CACHE_BYTES)
        self._local = threading.local()
        self._handles: set[openslide.OpenSlide] = set()
        self._lock = threading.Lock()
        self._reads = 0
        self._idle = threading.Condition(self._lock)
        self._closed = False
        self._jpeg: JpegTiles | None = None
        try:
            handle = self._handle()
            # As OpenSlide counts, to ask it for positions; info.levels has the true ones.
            self._downsamples = tuple(float(value) for value in handle.level_downsamples)
            self._info = _describe(path, handle)
        except openslide.OpenSlideUnsupportedFormatError:
            _require_supported(path)
            raise SlideError(
                f"{path.name} is not a slide, or only part of one: OpenSlide does not know its "
                "format"
            ) from None
        except openslide.OpenSlideError as error:
            _require_supported(path)
            raise SlideError(f"{path.name} is damaged: {error}") from None
        if self._info.vendor == "generic-tiff":
            # Some it opens, to fail at every tile, or to show them black.
            try:
                _require_supported(path)
            except SlideError:
                self.close()
                raise
        self._jpeg = find_jpeg_tiles(path, self._info.vendor, self._info.levels)
        self._proofs: dict[int, bool] = {}
        self._proving = threading.Lock()

    @property
    def info(self) -> SlideInfo:
        """What is known of the slide."""
        return self._info

    def read(self, level: int, box: LevelBox) -> RGB:
        """Read a box of one level, composited on white; outside the slide is white."""
        if self._jpeg is not None and self._has_proof(level):
            page = self._jpeg.pages[level]
            with self._reading():
                read_tile = partial(self._read_tile, self._jpeg, level)
                return assemble(box, page.tile_width, page.tile_height, read_tile)
        if self._downsamples[level].is_integer():
            return self._read_block(level, box)
        read_block = partial(self._read_block, level)
        return assemble(box, INEXACT_BLOCK_PX, INEXACT_BLOCK_PX, read_block)

    def close(self) -> None:
        """Close the handles of all threads, once what they read has been read.

        OpenSlide ends the whole process where a handle is closed that is read through.
        """
        with self._lock:
            self._closed = True
            self._idle.wait_for(lambda: self._reads == 0)
            while self._handles:
                self._handles.pop().close()
        if self._jpeg is not None:
            self._jpeg.close()

    def _has_proof(self, level: int) -> bool:
        """Whether a tile of a level, decoded past OpenSlide, was seen to have the same pixels."""
        with self._proving:
            if level not in self._proofs:
                self._proofs[level] = self._prove(level)
            return self._proofs[level]

    def _prove(self, level: int) -> bool:
        if self._jpeg is None or level not in self._jpeg.pages:
            return False
        for box in islice(self._jpeg.some(level), TILES_TO_PROVE_BY):
            tile = self._jpeg.tile(level, box.x, box.y)
            if tile is None:
                continue
            try:
                return np.array_equal(tile, self._read_block(level, box))
            except UnreadableRegionError:
                continue
        return False

    def _read_tile(self, jpeg: JpegTiles, level: int, box: LevelBox) -> RGB:
        tile = jpeg.tile(level, box.x, box.y)
        return self._read_block(level, box) if tile is None else tile

    def _read_block(self, level: int, box: LevelBox) -> RGB:
        downsample = self._downsamples[level]
        corner = (round(box.x * downsample), round(box.y * downsample))
        return self._read_region(level, corner, (box.width, box.height))

    def _read_region(self, level: int, corner: tuple[int, int], size: tuple[int, int]) -> RGB:
        with self._reading():
            try:
                try:
                    region = self._handle().read_region(corner, level, size)
                except openslide.OpenSlideError:
                    # One damaged tile makes every later read through the same handle fail.
                    self._discard_handle()
                    region = self._handle().read_region(corner, level, size)
            except openslide.OpenSlideError as error:
                self._discard_handle()
                raise UnreadableRegionError(str(error)) from None
        return _on_white(np.asarray(region))

    @contextmanager
    def _reading(self) -> Iterator[None]:
        with self._lock:
            if self._closed:
                raise SlideError(f"{self._path.name} was closed while it was read")
            self._reads += 1
        try:
            yield
        finally:
            with self._lock:
                self._reads -= 1
                self._idle.notify_all()

    def _handle(self) -> openslide.OpenSlide:
        handle: openslide.OpenSlide | None = getattr(self._local, "handle", None)
        if handle is None:
            handle = openslide.OpenSlide(self._path)
            handle.set_cache(self._cache)
            with self._lock:
                self._handles.add(handle)
            self._local.handle = handle
        return handle

    def _discard_handle(self) -> None:
        handle = getattr(self._local, "handle", None)
        self._local.handle = None
        if handle is not None:
            with self._lock:
                self._handles.discard(handle)
            handle.close()


@kernel
def _on_white(rgba: npt.NDArray[np.uint8]) -> RGB:
    """Lay pixels (height, width, 4) on white; shape (height, width, 3)."""
    height, width = rgba.shape[:2]
    rgb = np.empty((height, width, 3), np.uint8)
    for y in range(height):
        for x in range(width):
            alpha = np.uint32(rgba[y, x, 3])
            for channel in range(3):
                value = np.uint32(rgba[y, x, channel])
                if alpha != 255:
                    value = (value * alpha + np.uint32(255) * (255 - alpha) + 127) // 255
                rgb[y, x, channel] = value
    return rgb


def _require_supported(path: Path) -> None:
    reason = why_not_supported(path)
    if reason is not None:
        raise SlideError(f"{path.name} is not supported: {reason}")


def _describe(path: Path, handle: openslide.OpenSlide) -> SlideInfo:
    properties = handle.properties
    mpp, mpp_source = mpp_from_properties(properties)
    levels = tuple(_level(handle, index) for index in range(handle.level_count))
    bounds = Level0Box(
        _integer(properties.get("openslide.bounds-x")) or 0,
        _integer(properties.get("openslide.bounds-y")) or 0,
        _integer(properties.get("openslide.bounds-width")) or levels[0].width,
        _integer(properties.get("openslide.bounds-height")) or levels[0].height,
    )
    power = properties.get("openslide.objective-power")
    return SlideInfo(
        path=path,
        vendor=properties.get("openslide.vendor", "unknown"),
        levels=levels,
        bounds=bounds,
        mpp=mpp,
        mpp_source=mpp_source,
        objective_power=float(power) if power else None,
        focal_planes=1,
        associated_images=tuple(sorted(handle.associated_images)),
    )


def _level(handle: openslide.OpenSlide, index: int) -> Level:
    width, height = handle.level_dimensions[index]
    reported = float(handle.level_downsamples[index])
    tile_width, tile_height = (
        _integer(handle.properties.get(f"openslide.level[{index}].tile-{side}"))
        for side in ("width", "height")
    )
    if max(tile_width or 0, tile_height or 0) > LARGEST_TILE_PX:
        tile_width = tile_height = None
    if not reported.is_integer():
        tile_width = tile_height = INEXACT_BLOCK_PX
    downsample = true_downsample(handle.dimensions, (width, height), reported)
    return Level(
        index, width, height, downsample, tile_width, tile_height, is_exact=reported.is_integer()
    )


def _integer(text: str | None) -> int | None:
    return int(text) if text and text.lstrip("-").isdigit() else None
