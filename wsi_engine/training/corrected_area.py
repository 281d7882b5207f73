"""What is known of a result that a person has corrected, and what is not.

Nobody has looked at every nucleus of a slide because some of them were corrected. So three
things count as truth, and all else is unknown:

- a nucleus that was edited or added, and around it a rim of 1 µm without any;
- that in the place of a nucleus that was deleted, or had another shape before, there is none but
  those that are there now;
- in an area that was checked (an annotation of the class ``Checked``), every nucleus whose centroid
  lies there, whoever found it, and that there are no others.

A nucleus that is none of these is unknown with all its pixels, and so nobody learns that it is one,
nor that it is none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
from scipy.ndimage import distance_transform_edt

from wsi_engine.corrections.record import Corrections
from wsi_engine.evaluation.images import UNKNOWN
from wsi_engine.evaluation.polygons import Polygons
from wsi_engine.nuclei.labels import ENGINE
from wsi_engine.results.finished import SlideResult
from wsi_engine.slide.frames import ModelBox, ModelGrid
from wsi_engine.training.fields import labels_from_polygons

RIM_UM = 1.0
"""Around a nucleus that a person drew, so much is known to be none."""
BLOCK_UM = 128.0
"""Side of the blocks in which a slide is cut; every nucleus belongs to one."""
CONTEXT_UM = 48.0
"""A field shows so much around what is known in its block."""

Shapes = npt.NDArray[np.object_]
_COLUMNS = ("geometry", "class", "source")


@dataclass(frozen=True, slots=True)
class KnownBlock:
    """What is known in one block of a slide.

    Attributes
    ----------
    place
        Column and row of the block.
    box
        What a field shows of it, in grid pixels.
    labels
        uint16, as large as the box: 0 background, `UNKNOWN`, k the k-th nucleus.
    classes
        Name of the class of each nucleus, empty for none, shape (n,).
    """

    place: tuple[int, int]
    box: ModelBox
    labels: npt.NDArray[np.uint16]
    classes: npt.NDArray[np.str_]


class CorrectedArea:
    """A corrected result on a grid of pixels, block by block.

    Memory holds the centroids of all nuclei, what was corrected, and one block.

    Parameters
    ----------
    result
        The result; its nuclei are as they were corrected.
    corrections
        What a person did with it.
    grid
        Pixels in which fields are cut.
    """

    def __init__(self, result: SlideResult, corrections: Corrections, grid: ModelGrid) -> None:
        self._result, self._grid = result, grid
        self._side = round(BLOCK_UM / grid.mpp)
        self._anchors = grid.from_qupath(result.anchors)
        source = result.table.column("source").to_pylist()
        self._corrected = np.array([each != ENGINE for each in source], bool)
        self._checked = _on(grid, [*corrections.checked])
        self._emptied = _on(grid, [*corrections.outlines.values()])

    def blocks(self) -> Iterator[KnownBlock]:
        """Yield the blocks in which anything is known, by rows."""
        anchors, checked, emptied = (
            shapely.STRtree(shapes)
            for shapes in (shapely.points(self._anchors), self._checked, self._emptied)
        )
        margin = round(CONTEXT_UM / self._grid.mpp)
        for column, row in self._places():
            core = ModelBox(column * self._side, row * self._side, self._side, self._side)
            # Beyond the slide there is only a mirror image.
            window = core.padded(margin).within(self._grid.whole)
            labels, classes = self._truth(
                core,
                window,
                np.sort(anchors.query(_rectangle(window))),
                self._checked[checked.query(_rectangle(core))],
                self._emptied[emptied.query(_rectangle(core))],
            )
            known = labels != UNKNOWN
            if not known.any():
                continue
            rows, columns = (np.flatnonzero(known.any(axis=axis)).tolist() for axis in (1, 0))
            shown = ModelBox(
                window.x + columns[0], window.y + rows[0],
                columns[-1] + 1 - columns[0], rows[-1] + 1 - rows[0],
            )  # fmt: skip
            shown = shown.padded(margin).within(window)
            cut = np.ascontiguousarray(labels[_slices(shown, window)])
            yield KnownBlock((column, row), shown, cut, classes)

    def _places(self) -> list[tuple[int, int]]:
        """List the blocks in which something may be known, by rows."""
        cells = np.floor(self._anchors / self._side).astype(np.int64)
        places = {(int(x), int(y)) for x, y in cells[self._corrected]}
        for shape in (*self._checked, *self._emptied):
            left, top, right, bottom = np.floor(np.array(shape.bounds) / self._side).astype(int)
            places |= {(x, y) for x in range(left, right + 1) for y in range(top, bottom + 1)}
        whole = self._grid.whole
        columns, rows = (-(-side // self._side) for side in (whole.width, whole.height))
        inside = [(x, y) for x, y in places if 0 <= x < columns and 0 <= y < rows]
        return sorted(inside, key=lambda place: place[::-1])

    def _truth(
        self,
        core: ModelBox,
        window: ModelBox,
        near: npt.NDArray[np.int64],
        checked: Shapes,
        emptied: Shapes,
    ) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.str_]]:
        """Draw what is known in a block.

        Parameters
        ----------
        core, window
            The block, and the pixels to draw, in grid pixels.
        near
            Rows of the nuclei in the window.
        checked, emptied
            Areas that reach into the block.

        Returns
        -------
        labels, classes
            As `KnownBlock` has them, but as large as the window.
        """
        nuclei, corrected = self._nuclei(near), self._corrected[near]
        anchors = self._anchors[near]
        own = (corrected | _in_any(checked, *anchors.T)) & core.holds(anchors)
        true = nuclei.take(own)

        labels = np.full((window.height, window.width), UNKNOWN, np.uint16)
        inner = _slices(core.within(window), window)
        y, x = np.mgrid[window.y : window.y_stop, window.x : window.x_stop] + 0.5
        empty = _in_any(checked, x, y) | (_labels(emptied, window) > 0)
        labels[inner][empty[inner]] = 0
        drawn = _labels(nuclei.take(own & corrected).shapes, window)
        if drawn.any():
            labels[distance_transform_edt(drawn == 0) * self._grid.mpp <= RIM_UM] = 0
        labels[_labels(nuclei.take(~own).shapes, window) > 0] = UNKNOWN
        of_true = _labels(true.shapes, window)
        return np.where(of_true > 0, of_true, labels), true.parts().classes

    def _nuclei(self, rows: npt.NDArray[np.int64]) -> Polygons:
        """Read some nuclei, in grid pixels."""
        table = self._result.table.take(rows.tolist(), _COLUMNS)
        shapes = _on(self._grid, shapely.from_wkb(table["geometry"].to_numpy()).tolist())
        names = [name or "" for name in table["class"].to_pylist()]
        return Polygons(shapes, np.array(names, np.str_))


def _on(grid: ModelGrid, shapes: list[shapely.Geometry]) -> Shapes:
    """Return shapes of QuPath pixels in grid pixels."""
    column = np.empty(len(shapes), object)
    column[:] = shapes
    return np.asarray(shapely.transform(column, grid.from_qupath), object)


def _labels(shapes: Shapes, window: ModelBox) -> npt.NDArray[np.uint16]:
    """Draw shapes of grid pixels into a window; part k has the label k + 1."""
    moved = shapely.transform(shapes, lambda xy: xy - (window.x, window.y))
    nuclei = Polygons(moved, np.full(len(moved), ""))
    return labels_from_polygons(nuclei, (window.height, window.width))


def _in_any(areas: Shapes, x: npt.NDArray[Any], y: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Tell which points lie in one of some areas, which may have holes."""
    held = np.zeros(x.shape, bool)
    for area in areas:
        shapely.prepare(area)
        held |= shapely.intersects_xy(area, x, y)
    return held


def _rectangle(box: ModelBox) -> shapely.Polygon:
    return shapely.box(box.x, box.y, box.x_stop, box.y_stop)


def _slices(box: ModelBox, window: ModelBox) -> tuple[slice, slice]:
    """Return where a box lies in the pixels of a window."""
    return (
        slice(box.y - window.y, box.y_stop - window.y),
        slice(box.x - window.x, box.x_stop - window.x),
    )
