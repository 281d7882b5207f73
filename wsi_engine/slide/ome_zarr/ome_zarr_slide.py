"""Slides in OME-Zarr, read chunk by chunk."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from wsi_engine.closing import Closing
from wsi_engine.errors import SlideError, reason_for
from wsi_engine.slide.blocks import assemble
from wsi_engine.slide.decoded_tiles import DecodedTiles
from wsi_engine.slide.frames import Level0Box, LevelBox
from wsi_engine.slide.levels import true_downsample
from wsi_engine.slide.ome_zarr.arrays import check_array
from wsi_engine.slide.ome_zarr.files import Files, FolderFiles, ZipFiles
from wsi_engine.slide.ome_zarr.metadata import (
    Multiscale,
    image_groups,
    ome_attributes,
    read_multiscale,
)
from wsi_engine.slide.ome_zarr.store import CheckedStore
from wsi_engine.slide.ome_zarr.unpacking import Packing
from wsi_engine.slide.protocol import RGB, Level, SlideInfo, UnreadableRegionError

DECODED_TILE_CACHE_BYTES = 32 << 20
"""One cache for all threads, as the readers of TIFFs have."""

LARGEST_SIDE_PX = 1 << 21
"""Half a metre at 0.25 µm."""

LARGEST_TILE_PX = 2048
"""Around damage, levels with larger chunks are read in smaller blocks."""


@dataclass(frozen=True)
class _Image:
    """One image of a hierarchy: what it says, and the array of each level that is used."""

    group: str
    facts: Multiscale
    arrays: list[Any]

    @property
    def pixels(self) -> int:
        height, width = self.size(0)
        return height * width

    def size(self, level: int) -> tuple[int, int]:
        """Return height and width of a level."""
        shape: tuple[int, ...] = self.arrays[level].shape
        return shape[self.facts.axes.index("y")], shape[self.facts.axes.index("x")]

    def chunk(self, level: int) -> tuple[int, int]:
        """Return height and width of the chunks of a level."""
        chunks: tuple[int, ...] = self.arrays[level].chunks
        return chunks[self.facts.axes.index("y")], chunks[self.facts.axes.index("x")]

    def length(self, axis: str) -> int:
        """Return how long the finest level is along an axis, 1 if it has none of that name."""
        axes = self.facts.axes
        return int(self.arrays[0].shape[axes.index(axis)]) if axis in axes else 1


class OmeZarrSlide(Closing):
    """An image of 8-bit RGB in OME-NGFF 0.4 or 0.5, in a folder or a ZIP file.

    Zarr says that a chunk that is not there has the fill value everywhere: it may be a place where
    nothing was scanned, or a file that was lost. It counts as unreadable, unless coarser levels
    have nothing but the fill value there, too.

    Raises
    ------
    SlideError
        When it is of another kind, or its metadata cannot be trusted or read.
    """

    def __init__(self, path: Path) -> None:
        self._files: Files = FolderFiles(path) if path.is_dir() else ZipFiles(path)
        try:
            self._image, others = _open_image(self._files)
            self._info = _describe(path, self._image, others)
        except (ValueError, OSError) as error:
            self.close()
            raise SlideError(f"{path.name} cannot be read: {reason_for(error)}") from None
        self._plane = _plane(self._image)
        self._tiles = DecodedTiles(DECODED_TILE_CACHE_BYTES)

    @property
    def info(self) -> SlideInfo:
        """What is known of the slide."""
        return self._info

    def read(self, level: int, box: LevelBox) -> RGB:
        """Read a box of one level; outside the slide is white."""
        height, width = self._image.chunk(level)
        return assemble(box, width, height, partial(self._tile, level))

    def close(self) -> None:
        """Close the file, if it is one."""
        self._files.close()

    def _tile(self, level: int, box: LevelBox) -> RGB | None:
        height, width = self._image.size(level)
        if not (0 <= box.x < width and 0 <= box.y < height):
            return None
        index = box.y // box.height * -(-width // box.width) + box.x // box.width
        tile = self._tiles.get(level, index)
        if tile is not None:
            return tile
        inside = LevelBox(
            box.x, box.y, min(box.width, width - box.x), min(box.height, height - box.y)
        )
        pixels = self._checked_pixels(level, inside)
        tile = np.full((box.height, box.width, 3), 255, np.uint8)
        tile[: inside.height, : inside.width] = pixels
        tile.flags.writeable = False
        self._tiles.keep(level, index, tile)
        return tile

    def _checked_pixels(self, level: int, box: LevelBox) -> RGB:
        place = f"of level {level} at {box.x}, {box.y}"
        try:
            is_there = self._has_chunks(level, box) or self._is_blank(level, box)
            pixels = self._pixels(level, box)
        except MemoryError:
            raise
        # Every codec has errors of its own.
        except Exception as error:
            raise UnreadableRegionError(f"the chunk {place} cannot be read: {error}") from None
        if not is_there:
            raise UnreadableRegionError(f"the chunk {place} is not there")
        return pixels

    def _pixels(self, level: int, box: LevelBox) -> RGB:
        """Read a box that lies inside of a level; what is not there has the fill value."""
        axes, rgb = self._image.facts.axes, self._image.facts.rgb
        assert rgb is not None
        places = {"t": 0, "z": self._plane, "c": slice(None)}
        places |= {"y": slice(box.y, box.y + box.height), "x": slice(box.x, box.x + box.width)}
        pixels = self._image.arrays[level][tuple(places[axis] for axis in axes)]
        left = [axis for axis in axes if axis in "cyx"]
        pixels = np.asarray(pixels).transpose([left.index(axis) for axis in "yxc"])
        return np.ascontiguousarray(pixels if rgb == (0, 1, 2) else pixels[..., list(rgb)])

    def _has_chunks(self, level: int, box: LevelBox) -> bool:
        """Whether every file that holds a part of a box is there."""
        array: Any = self._image.arrays[level]
        places = {"t": (0, 1), "z": (self._plane, self._plane + 1), "c": (0, 3)}
        places |= {"y": (box.y, box.y + box.height), "x": (box.x, box.x + box.width)}
        numbers = [
            range(places[axis][0] // side, -(-places[axis][1] // side))
            for axis, side in zip(self._image.facts.axes, array.shards or array.chunks, strict=True)
        ]
        keys = map(array.metadata.encode_chunk_key, product(*numbers))
        return all(self._files.size(f"{array.path}/{key}") is not None for key in keys)

    def _is_blank(self, level: int, box: LevelBox) -> bool:
        """Whether coarser levels, as far as they are there, have the fill value all over a box.

        Without a coarser level nobody can say so.
        """
        levels = self._info.levels
        for coarser in levels[level + 1 :]:
            ratio = coarser.downsample / levels[level].downsample
            # A coarser pixel on the border of the box is a mixture with what lies beyond.
            left, top = math.ceil(box.x / ratio), math.ceil(box.y / ratio)
            right = min(math.floor((box.x + box.width) / ratio), coarser.width)
            bottom = min(math.floor((box.y + box.height) / ratio), coarser.height)
            if right <= left or bottom <= top:
                return False
            seen = LevelBox(left, top, right - left, bottom - top)
            fill = self._image.arrays[coarser.index].fill_value
            if (self._pixels(coarser.index, seen) != fill).any():
                return False
            if self._has_chunks(coarser.index, seen):
                return True
        return level + 1 < len(levels)


def _open_image(files: Files) -> tuple[_Image, list[str]]:
    """Open the image of a hierarchy, the largest of several; return the names of the others."""
    attributes = ome_attributes(files, "")
    if attributes is None:
        raise ValueError("there is no Zarr hierarchy in it")
    images, problems = [], []
    groups = image_groups(files, attributes)
    for group in groups:
        try:
            images.append(_image_of(files, group))
        except ValueError as error:
            problems.append(error)
    if not images:
        raise problems[0]
    best = max(images, key=lambda image: image.pixels)
    return best, [f"image {group}" for group in groups if group != best.group]


def _image_of(files: Files, group: str) -> _Image:
    attributes = ome_attributes(files, group)
    if attributes is None:
        raise ValueError(f"its image {group!r} is not there: copy it again, whole")
    facts = read_multiscale(attributes, group)
    packings: dict[str, Packing] = {path: check_array(files, path) for path in facts.paths}
    store = CheckedStore(files, packings)
    arrays: list[Any] = []
    for path in facts.paths:
        try:
            with warnings.catch_warnings():
                # What will change in Zarr is for it to know.
                warnings.simplefilter("ignore")
                array: Any = zarr.open_array(store, path=path, mode="r")
        # Zarr has errors of its own for each thing that metadata may lack.
        except Exception as error:
            raise ValueError(f"level {path!r} is not that of Zarr ({error})") from None
        if array.ndim != len(facts.axes) or not 1 <= min(array.shape) <= max(array.shape) <= (
            LARGEST_SIDE_PX
        ):
            raise ValueError(f"level {path!r} has the shape {array.shape}, and no slide has")
        arrays.append(array)
    image = _Image(group, facts, arrays)
    _require_rgb(image)
    return _Image(group, facts, [arrays[k] for k in _levels_of_one_image(image)])


def _require_rgb(image: _Image) -> None:
    facts, channels = image.facts, image.length("c")
    if channels != 3 or "c" not in facts.axes:
        named = f" ({', '.join(facts.channels[:8])})" if facts.channels else ""
        raise ValueError(
            f"it has {channels} channel(s){named}, where the three of RGB are wanted: save it as "
            "8-bit RGB"
        )
    if facts.rgb is None:
        raise ValueError(
            f"its channels are {', '.join(facts.channels[:8])}, as those of fluorescence, and not "
            "red, green and blue"
        )
    if image.length("t") > 1:
        raise ValueError(f"it shows {image.length('t')} points of time, and a slide shows one")


def _levels_of_one_image(image: _Image) -> list[int]:
    """Choose the levels that show all of the finest one, each smaller than the one before."""
    chosen = [0]
    full = image.size(0)
    for level in range(1, len(image.arrays)):
        size, last = image.size(level), image.size(chosen[-1])
        rounding = 2 * max(1 / size[0], 1 / size[1])
        is_smaller = size[0] < last[0] and size[1] < last[1]
        has_sides = abs(full[0] / size[0] / (full[1] / size[1]) - 1) <= rounding
        if is_smaller and has_sides and _others(image, level) == _others(image, 0):
            chosen.append(level)
    return chosen


def _others(image: _Image, level: int) -> list[int]:
    """Return how long a level is along the axes that no pyramid makes shorter."""
    shape = image.arrays[level].shape
    return [length for axis, length in zip(image.facts.axes, shape, strict=True) if axis in "tcz"]


def _plane(image: _Image) -> int:
    """Return the plane along z that is read: the one that is said to be shown, or the middle."""
    planes, stated = image.length("z"), image.facts.focal_plane
    return stated if stated is not None and 0 <= stated < planes else planes // 2


def _describe(path: Path, image: _Image, others: list[str]) -> SlideInfo:
    full, levels = image.size(0), []
    for index in range(len(image.arrays)):
        height, width = image.size(index)
        reported = (full[0] / height + full[1] / width) / 2
        downsample = true_downsample((full[1], full[0]), (width, height), reported)
        tile_height, tile_width = image.chunk(index)
        is_large = max(tile_height, tile_width) > LARGEST_TILE_PX
        sides = (None, None) if is_large else (tile_width, tile_height)
        levels.append(Level(index, width, height, downsample, *sides))
    return SlideInfo(
        path=path,
        vendor="ome-zarr",
        levels=tuple(levels),
        bounds=Level0Box(0, 0, full[1], full[0]),
        mpp=image.facts.mpp,
        mpp_source=image.facts.mpp_source,
        objective_power=None,
        focal_planes=image.length("z"),
        associated_images=tuple(others),
    )
