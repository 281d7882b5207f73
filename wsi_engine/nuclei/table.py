"""All nuclei of a slide as one Arrow table, for the user of the Python interface."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import shapely

from wsi_engine.nuclei.polygons import Polygons


@dataclass(frozen=True)
class NucleusTable:
    """Nuclei as columns.

    Attributes
    ----------
    arrow
        Columns ``id`` (UUID), ``geometry`` (WKB, QuPath pixels), ``bbox`` (its bounding box),
        ``x``, ``y`` (anchor, QuPath pixels), ``class``, ``score``, ``slide`` (name of the result),
        ``probability: <class>``, the labels ``name``, ``source``, ``roi``, ``roi_id``, and
        measurements.

    Examples
    --------
    >>> import wsi_engine as we
    >>> nuclei = we.run("slide.tif", "results", model="watershed").nuclei
    >>> nuclei.arrow.column_names[:5]
    ['id', 'geometry', 'bbox', 'x', 'y']
    >>> nuclei.polygons[0].geom_type
    'Polygon'
    >>> bool(nuclei.to_pandas()["class"].isna().all())
    True
    """

    arrow: pa.Table

    def __len__(self) -> int:
        return len(self.arrow)

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Offer the table to polars, DuckDB, pandas and others without a copy."""
        return self.arrow.__arrow_c_stream__(requested_schema)

    def __repr__(self) -> str:
        return f"NucleusTable({len(self):,} nuclei, {self.arrow.num_columns} columns)"

    @property
    def polygons(self) -> Polygons:
        """Shapely polygons in QuPath pixels, shape (n,)."""
        return np.asarray(shapely.from_wkb(self.arrow["geometry"].to_numpy()))

    def to_pandas(self) -> Any:
        """Return a ``pandas.DataFrame`` without the outlines; pandas must be installed."""
        shapes = [name for name in ("geometry", "bbox") if name in self.arrow.column_names]
        return self.arrow.drop_columns(shapes).to_pandas()

    def to_geopandas(self) -> Any:
        """Return a ``geopandas.GeoDataFrame``; geopandas must be installed."""
        import geopandas

        return geopandas.GeoDataFrame(self.to_pandas(), geometry=self.polygons)
