"""All that a page can ask for of a result: names, and the bytes behind each of them.

Serving and exporting both go through `ViewContent`, so that what is exported is what is served.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from importlib import resources
from itertools import product
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from wsi_engine.results.finished import SlideResult
from wsi_engine.results.nucleus_table import PROBABILITY
from wsi_engine.slide.protocol import Slide
from wsi_engine.view.description import (
    AREA,
    describe_regions,
    describe_result,
    dumped,
    usual_diameter_um,
)
from wsi_engine.view.drawing_order import drawing_order
from wsi_engine.view.kept import Kept
from wsi_engine.view.outline_tiles import STEPS_IN_PX, OutlineTiles, tile_side_px
from wsi_engine.view.shared_table import SharedTable
from wsi_engine.view.slide_tiles import TILE_PX, SlideTiles
from wsi_engine.view.values import ROWS_IN_CHUNK, Values

NUCLEI_IN_BLOCK = 65_536
"""So many nuclei of the drawing order come at a time."""

COLUMNS_KEPT = 8

START_PAGE = "index.html"
VIEWER = "openseadragon"

Numbers = tuple[int, ...]


class _Family(NamedTuple):
    """Files whose names differ by numbers, ``points/0.bin``, ``points/1.bin``.

    Attributes
    ----------
    name
        Name with ``#`` in place of each number.
    content
        Makes one of its numbers.
    exists
        Tells whether there is one of such numbers.
    all
        Yields the numbers of all files in their order.
    """

    name: str
    content: Callable[..., bytes]
    exists: Callable[..., bool]
    all: Callable[[], Iterator[Numbers]]

    @property
    def pattern(self) -> re.Pattern[str]:
        """What its names look like; no number has more digits than a file could have."""
        return re.compile(re.escape(self.name).replace(r"\#", r"(0|[1-9][0-9]{0,8})"))

    def named(self, numbers: Numbers) -> str:
        """Return the name of the file with these numbers."""
        name = self.name
        for number in numbers:
            name = name.replace("#", str(number), 1)
        return name


class ViewContent:
    """The files of a view, made when they are asked for; many threads may ask.

    Parameters
    ----------
    result
        A finished result; its table is open.
    slide
        Its slide; without it nuclei are shown on an empty ground.
    most_slide_tiles
        The slide is shown at the finest resolution of which it has no more tiles; at its own
        where there is no limit.

    Attributes
    ----------
    columns
        Names of the columns of numbers.
    order
        The order in which nuclei are sent.
    outlines, values
        Tiles of outlines, and chunks of values.
    slide_tiles
        Tiles of the slide, if it is at hand.
    finest_halving
        The finest resolution at which the slide is shown.
    """

    def __init__(
        self, result: SlideResult, slide: Slide | None, most_slide_tiles: int | None = None
    ) -> None:
        self._result = result
        bounds, anchors = result.record.slide.bounds, result.anchors
        probabilities = [PROBABILITY + name for name in result.table.classes]
        self.columns = ("score", *probabilities, *result.table.measurements)
        self.order = drawing_order(anchors, max(bounds.width, bounds.height))
        places = np.empty(len(anchors), np.uint32)
        places[self.order.rows] = np.arange(len(anchors), dtype=np.uint32)
        self._points = anchors[self.order.rows].astype("<f4")
        self._labels = result.labels[self.order.rows].astype("<i2")
        self._table = SharedTable(result.table)
        self._column = Kept(self._read_column, COLUMNS_KEPT)
        self.outlines = OutlineTiles(
            self._table, anchors, places, bounds.width, bounds.height, tile_side_px(result.mpp.mean)
        )
        self.values = Values(self._table, self.columns, result.table.texts)
        self.slide_tiles = SlideTiles(slide) if slide is not None else None
        self.finest_halving = (
            self.slide_tiles.finest_within(most_slide_tiles)
            if self.slide_tiles is not None and most_slide_tiles is not None
            else 0
        )
        self._page = page_files()
        self._families = (*self._families_of_nuclei(), *self._families_of_slide())

    def _families_of_nuclei(self) -> Iterator[_Family]:
        blocks, columns, chunks = self.blocks, len(self.columns), self.values.chunks
        has_block = partial(_is_below, blocks)
        yield _Family(
            "data/points/#.bin", self._points_block, has_block, lambda: product(range(blocks))
        )
        yield _Family(
            "data/classes/#.bin", self._classes_block, has_block, lambda: product(range(blocks))
        )
        yield _Family(
            "data/columns/#/#.bin",
            self._column_block,
            lambda column, block: column < columns and block < blocks,
            lambda: product(range(columns), range(blocks)),
        )
        yield _Family(
            "data/outlines/#_#.bin",
            self.outlines.encoded,
            self.outlines.exists,
            self.outlines.tiles,
        )
        yield _Family(
            "data/values/#.json",
            self.values.encoded,
            partial(_is_below, chunks),
            lambda: product(range(chunks)),
        )

    def _families_of_slide(self) -> Iterator[_Family]:
        tiles, finest = self.slide_tiles, self.finest_halving
        if tiles is not None:
            yield _Family(
                "data/slide/#/#_#.jpg",
                tiles.jpeg,
                lambda halving, *place: halving >= finest and tiles.exists(halving, *place),
                lambda: tiles.tiles(finest),
            )

    @property
    def blocks(self) -> int:
        """Number of blocks of nuclei."""
        return -(-len(self._points) // NUCLEI_IN_BLOCK)

    def get(self, name: str) -> bytes | None:
        """Return the content of a name; ``None`` where the view has no such file.

        Names are looked up, and never lead to a file outside of the package.

        Raises
        ------
        EngineError
            When a file of the result cannot be read.
        """
        if name in self._page:
            return self._page[name]
        if name in _SINGLES:
            return _SINGLES[name](self)
        for family in self._families:
            if found := family.pattern.fullmatch(name):
                numbers = tuple(map(int, found.groups()))
                return family.content(*numbers) if family.exists(*numbers) else None
        return None

    def names(self) -> Iterator[str]:
        """Yield the names of all files."""
        yield from self._page
        yield from _SINGLES
        for family in self._families:
            yield from map(family.named, family.all())

    @cached_property
    def description(self) -> bytes:
        """The content of ``view.json``."""
        tiles, sides = self.slide_tiles, self.outlines
        area = self._column[self.columns.index(AREA)] if AREA in self.columns else None
        return dumped(
            describe_result(self._result, self.columns)
            | {
                "slide": None
                if tiles is None
                else {"tile": TILE_PX, "halvings": tiles.halvings, "finest": self.finest_halving},
                "nuclei": {
                    "count": len(self._points),
                    "block": NUCLEI_IN_BLOCK,
                    "diameter_um": usual_diameter_um(area),
                    "side": self.order.side_px,
                    "levels": [starts.tolist() for starts in self.order.starts],
                },
                "outlines": {
                    "side": sides.side_px,
                    "columns": sides.columns,
                    "rows": sides.rows,
                    "steps": STEPS_IN_PX,
                },
                "values": {"chunk": ROWS_IN_CHUNK, "texts": list(self.values.texts)},
            }
        )

    @cached_property
    def regions(self) -> bytes:
        """The content of ``regions.json``."""
        return dumped(describe_regions(self._result))

    def _points_block(self, block: int) -> bytes:
        """Return float32 x, float32 y, in QuPath pixels, and uint32 rows of the table."""
        part = _block(block)
        x, y = self._points[part].T
        return x.tobytes() + y.tobytes() + self.order.rows[part].astype("<u4").tobytes()

    def _classes_block(self, block: int) -> bytes:
        """Return int16 indices into the classes, -1 for none."""
        return self._labels[_block(block)].tobytes()

    def _column_block(self, column: int, block: int) -> bytes:
        """Return float32 values."""
        return self._column[column][_block(block)].tobytes()

    def _read_column(self, column: int) -> npt.NDArray[np.float32]:
        return self._table.column(self.columns[column])[self.order.rows].astype("<f4")


_SINGLES: dict[str, Callable[[ViewContent], bytes]] = {
    "data/view.json": lambda content: content.description,
    "data/regions.json": lambda content: content.regions,
    "data/outlines/counts.bin": lambda content: content.outlines.counts.astype("<u4").tobytes(),
}


def page_files() -> dict[str, bytes]:
    """Return the files of the page by name, as they came with this package."""
    root = resources.files("wsi_engine.view") / "page"
    files = {entry.name: entry for entry in root.iterdir() if entry.is_file()}
    folder = root / VIEWER
    files |= {f"{VIEWER}/{entry.name}": entry for entry in folder.iterdir()}
    return {name: files[name].read_bytes() for name in sorted(files)}


def _is_below(limit: int, number: int) -> bool:
    return number < limit


def _block(number: int) -> slice:
    return slice(number * NUCLEI_IN_BLOCK, (number + 1) * NUCLEI_IN_BLOCK)
