"""Tiled TIFFs that OpenSlide does not read, or of which it sees the finest level only."""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from wsi_engine.closing import Closing
from wsi_engine.errors import SlideError
from wsi_engine.slide.blocks import assemble
from wsi_engine.slide.decoded_tiles import DecodedTiles
from wsi_engine.slide.frames import Level0Box, LevelBox
from wsi_engine.slide.levels import true_downsample
from wsi_engine.slide.protocol import RGB, Level, SlideInfo, UnreadableRegionError
from wsi_engine.slide.tiff_resolution import mpp_of_tiff
from wsi_engine.slide.tiled_page import JPEG, MissingCodecError, TiledPage

DECODED_TILE_CACHE_BYTES = 32 << 20
"""One cache for all threads, as `OpenSlideSlide` has."""

OPENSLIDE_COMPRESSIONS = frozenset({1, 2, 3, 4, 5, JPEG, 8, 32773, 32946, 50000})
"""TIFF compressions of generic TIFFs that OpenSlide 4 reads."""

EXACT_COMPRESSIONS = OPENSLIDE_COMPRESSIONS - {2, 3, 4} | {
    34712,  # JPEG 2000
    34887,  # LERC
    34925,  # LZMA
    34933,  # PNG
    50001,  # WebP
    50002,  # JPEG XL
    52546,  # JPEG XL as of DNG
}
"""Those that are read here, every pixel as its format defines it. Aperio's JPEG 2000 (33003,
33005) is not among them: outside of Aperio's files nothing says in which colours it is."""


LARGEST_TILE_PX = 1 << 24
"""A file may call a whole level one tile, which is then no tile for this reader."""


class TiffSlide(Closing):
    """A tiled 8-bit RGB TIFF, read tile by tile, its coarser levels in SubIFDs or in pages.

    Files are read at given offsets and tiles decoded one by one, so that many threads read at
    once. JPEG and lossless tiles have the pixels that OpenSlide gives, to the last bit.

    Raises
    ------
    SlideError
        When the file is none of the kind, is damaged, or needs a package that is not installed.
    """

    def __init__(self, path: Path) -> None:
        try:
            with tifffile.TiffFile(path) as tiff:
                pages = pyramid_of(tiff)
                if not pages:
                    raise SlideError(f"{path.name} is not a tiled TIFF of 8-bit RGB")
                self._levels = [TiledPage(page) for page in pages]
                self._info = _describe(path, tiff, pages)
        except (OSError, ValueError, tifffile.TiffFileError) as error:
            raise SlideError(f"{path.name} is damaged: {error}") from None
        self._stream = path.open("rb")
        self._lock = threading.Lock()
        self._tiles = DecodedTiles(DECODED_TILE_CACHE_BYTES)
        self._require_decoder(path)

    @property
    def info(self) -> SlideInfo:
        """What is known of the slide."""
        return self._info

    def read(self, level: int, box: LevelBox) -> RGB:
        """Read a box of one level; outside the slide is white."""
        page = self._levels[level]
        return assemble(box, page.tile_width, page.tile_height, partial(self._tile, level))

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def _tile(self, level: int, box: LevelBox) -> RGB | None:
        page = self._levels[level]
        index = page.index_at(box.x, box.y)
        if index is None:
            return None
        tile = self._tiles.get(level, index)
        if tile is not None:
            return tile
        offset, count = page.offsets[index], page.counts[index]
        if not count:
            return None
        with self._lock:
            self._stream.seek(offset)
            data = self._stream.read(count)
        if len(data) < count:
            raise UnreadableRegionError(f"tile {index} of level {level} lies behind the file's end")
        tile = page.decode(data, index)
        self._tiles.keep(level, index, tile)
        return tile

    def _require_decoder(self, path: Path) -> None:
        """Raise `SlideError` if this installation cannot decode the tiles."""
        page = self._levels[0]
        first = next((k for k, count in enumerate(page.counts) if count), None)
        if first is None:
            return
        try:
            page.decode(b"", first)
        except MissingCodecError:
            self.close()
            raise SlideError(
                f"{path.name} is compressed with {page.compression}, which needs a package that "
                "is not installed: pip install imagecodecs"
            ) from None
        except UnreadableRegionError:
            pass  # no wonder, of nothing


def pyramid_of(tiff: tifffile.TiffFile) -> list[Any]:
    """Return the levels of a tiled 8-bit RGB TIFF, finest first; empty if it is something else.

    Coarser levels are in the SubIFDs of the first page, or else in pages flagged as reduced.
    """
    first: Any = tiff.pages[0]
    if not _is_plain_rgb(first):
        return []
    below: list[Any] = list(first.pages) if first.subifds else _reduced_pages(tiff)
    levels = [first]
    for page in below:
        last = levels[-1]
        is_smaller = page.imagewidth < last.imagewidth and page.imagelength < last.imagelength
        if _is_plain_rgb(page) and is_smaller and _has_sides_of(page, first):
            levels.append(page)
    return levels


def is_read_here(path: Path) -> bool:
    """Tell whether a TIFF is a pyramid in SubIFDs, or compressed as OpenSlide cannot read it."""
    with path.open("rb") as stream:
        if stream.read(4) not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            return False
    try:
        with tifffile.TiffFile(path) as tiff:
            levels = pyramid_of(tiff)
            if not levels:
                return False
            is_in_subifds = bool(tiff.pages[0].subifds) and len(levels) > 1
            unread = {page.compression for page in levels} - OPENSLIDE_COMPRESSIONS
            return is_in_subifds or bool(unread)
    # A damaged file is for others to explain.
    except Exception:
        return False


def _is_plain_rgb(page: Any) -> bool:
    return (
        page.is_tiled
        and page.tilewidth * page.tilelength <= LARGEST_TILE_PX
        and page.dtype == np.uint8
        and page.samplesperpixel == 3
        and page.planarconfig == 1
        and page.imagedepth == 1
        and page.photometric in (2, 6)
        and page.compression in EXACT_COMPRESSIONS
        and (page.photometric == 2 or page.compression == JPEG)
    )


def _has_sides_of(page: Any, full: Any) -> bool:
    """Whether a page is the whole image smaller, not another image such as a macro."""
    across, down = full.imagewidth / page.imagewidth, full.imagelength / page.imagelength
    rounding = max(1 / page.imagewidth, 1 / page.imagelength)
    return bool(abs(across / down - 1) <= 2 * rounding)


def _reduced_pages(tiff: tifffile.TiffFile) -> list[Any]:
    pages: list[Any] = list(tiff.pages)[1:]
    return [page for page in pages if page.keyframe.is_reduced]


def _describe(path: Path, tiff: tifffile.TiffFile, pages: list[Any]) -> SlideInfo:
    full = (int(pages[0].imagewidth), int(pages[0].imagelength))
    levels = []
    for index, page in enumerate(pages):
        size = (int(page.imagewidth), int(page.imagelength))
        reported = (full[0] / size[0] + full[1] / size[1]) / 2
        downsample = true_downsample(full, size, reported)
        levels.append(Level(index, *size, downsample, int(page.tilewidth), int(page.tilelength)))
    mpp, mpp_source = mpp_of_tiff(tiff)
    return SlideInfo(
        path=path,
        vendor="ome-tiff" if tiff.is_ome else "generic-tiff",
        levels=tuple(levels),
        bounds=Level0Box(0, 0, *full),
        mpp=mpp,
        mpp_source=mpp_source,
        objective_power=None,
        focal_planes=1,
        associated_images=(),
    )
