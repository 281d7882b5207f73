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
        cells = np.floor(self._anchors / self._side).astype(np.int64)
        order = np.lexsort(cells.T)
        sorted_rows, in_rows = cells[order, 1], order
        checked, emptied = (shapely.STRtree(part) for part in (self._checked, self._emptied))
        for column, row in self._places(cells):
            core = ModelBox(column * self._side, row * self._side, self._side, self._side)
            box = shapely.box(core.x, core.y, core.x_stop, core.y_stop)
            first, stop = np.searchsorted(sorted_rows, [row - 1, row + 2])
            near = in_rows[first:stop]
            near = np.sort(near[np.abs(cells[near, 0] - column) <= 1])
            known = self._known(
                core, near, self._checked[checked.query(box)], self._emptied[emptied.query(box)]
            )
            if known is not None:
                yield KnownBlock((column, row), *known)

    def _places(self, cells: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
        """List the blocks in which something may be known, by rows."""
        places = {(int(x), int(y)) for x, y in cells[self._corrected]}
        for shape in (*self._checked, *self._emptied):
            left, top, right, bottom = np.floor(np.array(shape.bounds) / self._side).astype(int)
            places |= {(x, y) for x in range(left, right + 1) for y in range(top, bottom + 1)}
        whole = self._grid.whole
        columns, rows = (-(-side // self._side) for side in (whole.width, whole.height))
        inside = [(x, y) for x, y in places if 0 <= x < columns and 0 <= y < rows]
        return sorted(inside, key=lambda place: place[::-1])

    def _known(
        self, core: ModelBox, near: npt.NDArray[np.int64], checked: Shapes, emptied: Shapes
    ) -> tuple[ModelBox, npt.NDArray[np.uint16], npt.NDArray[np.str_]] | None:
        """Draw what is known in a block; ``None`` where nothing is."""
        margin = round(CONTEXT_UM / self._grid.mpp)
        window = _within(core.padded(margin), self._grid.whole)
        corner = np.array([window.x, window.y])
        shape = (window.height, window.width)

        def drawn(shapes: Shapes) -> npt.NDArray[np.bool_]:
            moved = shapely.transform(shapes, lambda xy: xy - corner)
            return Polygons(moved, np.full(len(moved), "")).draw(shape) > 0

        nuclei = self._nuclei(near)
        anchors = self._anchors[near]
        corrected = self._corrected[near]
        looked_at = np.zeros(len(near), bool)
        for area in checked:
            shapely.prepare(area)
            looked_at |= shapely.intersects_xy(area, anchors[:, 0], anchors[:, 1])
        own = (corrected | looked_at) & core.holds(anchors)

        labels = np.full(shape, UNKNOWN, np.uint16)
        inner = np.zeros(shape, bool)
        part = _within(core, self._grid.whole)
        inner[
            part.y - window.y : part.y_stop - window.y, part.x - window.x : part.x_stop - window.x
        ] = True
        labels[inner & _holding(checked, corner, shape)] = 0
        labels[inner & drawn(emptied)] = 0
        mine = nuclei.take(own & corrected).shapes
        if len(mine):
            distance = distance_transform_edt(~drawn(mine))
            labels[distance * self._grid.mpp <= RIM_UM] = 0
        labels[drawn(nuclei.take(~own).shapes)] = UNKNOWN
        true = nuclei.take(own)
        moved = shapely.transform(true.shapes, lambda xy: xy - corner)
        true = Polygons(moved, true.classes).parts()
        of_true = labels_from_polygons(true, shape)
        labels = np.where(of_true > 0, of_true, labels)
        known = labels != UNKNOWN
        if not known.any():
            return None
        rows, columns = (np.flatnonzero(known.any(axis=axis)) for axis in (1, 0))
        top, left = max(0, rows[0] - margin), max(0, columns[0] - margin)
        bottom, right = rows[-1] + 1 + margin, columns[-1] + 1 + margin
        cut = labels[top:bottom, left:right]
        box = ModelBox(window.x + int(left), window.y + int(top), cut.shape[1], cut.shape[0])
        return box, np.ascontiguousarray(cut), true.classes

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


def _holding(
    areas: Shapes, corner: npt.NDArray[np.int64], shape: tuple[int, int]
) -> npt.NDArray[np.bool_]:
    """Tell which pixels have their middle in one of some areas, which may have holes."""
    held = np.zeros(shape, bool)
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    for area in areas:
        held |= shapely.intersects_xy(area, x + corner[0], y + corner[1])
    return held


def _within(box: ModelBox, whole: ModelBox) -> ModelBox:
    """Return what of a box lies on the slide; beyond it there is only a mirror image."""
    left, top = max(box.x, whole.x), max(box.y, whole.y)
    right, bottom = min(box.x_stop, whole.x_stop), min(box.y_stop, whole.y_stop)
    return ModelBox(left, top, max(0, right - left), max(0, bottom - top))
