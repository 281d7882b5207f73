"""Bounding boxes of outlines in GeoParquet 1.1, by which readers pass over row groups."""

from __future__ import annotations

import pyarrow as pa
import shapely

from wsi_engine.nuclei.polygons import Polygons

BOX_COLUMN = "bbox"
_SIDES = ("xmin", "ymin", "xmax", "ymax")
_BOX = pa.struct([pa.field(side, pa.float64(), nullable=False) for side in _SIDES])

BOX_FIELD = pa.field(BOX_COLUMN, _BOX, nullable=False)

COVERED = {
    "edges": "planar",
    "covering": {BOX_COLUMN: {side: [BOX_COLUMN, side] for side in _SIDES}},
}
"""What the metadata say of the column of geometry, for readers to find the boxes."""


def boxes_of(polygons: Polygons) -> pa.StructArray:
    """Return the bounding boxes of polygons, shape (n,), in their frame, as the column."""
    sides = [pa.array(side) for side in shapely.bounds(polygons).reshape(-1, 4).T]
    return pa.StructArray.from_arrays(sides, fields=list(_BOX))
