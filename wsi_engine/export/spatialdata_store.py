"""SpatialData: shapes, the table that annotates them, and a label image if wanted."""

from __future__ import annotations

import tempfile
import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from wsi_engine.errors import ExportError
from wsi_engine.export.anndata_table import anndata_of
from wsi_engine.export.extras import extra
from wsi_engine.export.label_pyramid import TILE
from wsi_engine.export.label_pyramid import write as write_labels
from wsi_engine.export.options import Options
from wsi_engine.results.finished import SlideResult
from wsi_engine.results.nucleus_table import polygons_of

SHAPES, LABELS, TABLE = "nuclei", "nuclei_labels", "nuclei_table"
UM = "um"
"""Coordinate system in µm; ``global`` is in full-resolution pixels as QuPath counts them."""


def write(run: SlideResult, path: Path, options: Options) -> list[Path]:
    """Write a ``.zarr`` store that ``spatialdata.read_zarr`` opens.

    The shapes ``nuclei`` are polygons in full-resolution pixels, with a transformation to the
    coordinate system ``um``. The table ``nuclei_table`` (see `anndata_of`) annotates them;
    their index is the number of the nucleus, which its label in ``nuclei_labels`` has, too.
    All polygons and values of the slide are in memory, pixels of labels are not.

    Raises
    ------
    ExportError
        When spatialdata is not installed, there are no nuclei, or the store is there already: it
        may hold more than was exported.
    """
    if path.exists():
        raise ExportError(f"{path} is there already: remove it, or give another name")
    if len(run) == 0:
        raise ExportError(f"{run.name} holds no nuclei, and SpatialData no element without shapes")
    spatialdata = extra("spatialdata")
    with ExitStack() as stack:
        scratch = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix=".export-", dir=path.parent))
        )
        elements = {"shapes": {SHAPES: _shapes(run)}, "tables": {TABLE: _table(run)}}
        if options.labels:
            image = scratch / "labels.ome.tif"
            write_labels(run, image, Options())
            store = stack.enter_context(tifffile.imread(image, aszarr=True, level=0))
            elements["labels"] = {LABELS: _labels(run, store)}
        with warnings.catch_warnings():
            # What will change in zarr is for spatialdata to know.
            warnings.simplefilter("ignore")
            spatialdata.SpatialData(**elements).write(scratch / path.name)
        (scratch / path.name).replace(path)
    return [path]


def _transformations(run: SlideResult) -> dict[str, Any]:
    known = extra("spatialdata.transformations")
    return {
        "global": known.Identity(),
        UM: known.Scale([run.mpp.x, run.mpp.y], axes=("x", "y")),
    }


def _shapes(run: SlideResult) -> Any:
    geopandas, models = extra("geopandas"), extra("spatialdata.models")
    parts = [polygons_of(group) for group in run.table.groups(["geometry"])]
    polygons = np.concatenate([np.empty(0, object), *parts])
    frame = geopandas.GeoDataFrame(geometry=polygons, index=np.arange(1, len(polygons) + 1))
    return models.ShapesModel.parse(frame, transformations=_transformations(run))


def _table(run: SlideResult) -> Any:
    models, pandas = extra("spatialdata.models"), extra("pandas")
    table = anndata_of(run)
    table.obs["region"] = pandas.Categorical([SHAPES] * len(run), categories=[SHAPES])
    table.obs["instance_id"] = np.arange(1, len(run) + 1)
    return models.TableModel.parse(
        table, region=SHAPES, region_key="region", instance_key="instance_id"
    )


def _labels(run: SlideResult, store: Any) -> Any:
    array, models = extra("dask.array"), extra("spatialdata.models")
    pixels = array.from_zarr(extra("zarr").open(store, mode="r"))
    halvings = 0
    while max(pixels.shape) >> halvings > TILE and min(pixels.shape) >> halvings > 1:
        halvings += 1
    return models.Labels2DModel.parse(
        pixels,
        dims=("y", "x"),
        scale_factors=[2] * halvings or None,
        transformations=_transformations(run),
        chunks=(TILE, TILE),
    )
