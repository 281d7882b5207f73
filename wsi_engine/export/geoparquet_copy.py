"""GeoParquet for other programs: the table of a result, with what they look for in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import shapely

from wsi_engine.export.options import Options
from wsi_engine.nuclei.polygons import Polygons
from wsi_engine.results.bounding_boxes import BOX_COLUMN, BOX_FIELD, COVERED, boxes_of
from wsi_engine.results.finished import SlideResult
from wsi_engine.results.nucleus_table import SLIDE_COLUMN, SLIDE_FIELD, defined, polygons_of
from wsi_engine.results.table_metadata import geo_metadata
from wsi_engine.version import __version__
from wsi_engine.writing import atomic_path


def write(run: SlideResult, path: Path, options: Options) -> list[Path]:
    """Write GeoParquet 1.1: WKB, which every reader takes, with a bounding box per nucleus.

    The boxes (``covering``) let geopandas and GDAL read a part of the slide without decoding the
    rest; DuckDB queries them as columns. What is not defined is null, so that ``avg`` passes
    over it, where ``nuclei.parquet`` has NaN. A row group is in memory at a time.
    """
    scale = np.array([run.mpp.x, run.mpp.y]) if options.um else np.ones(2)
    schema = _schema(run, scale, "µm" if options.um else "full-resolution pixel")
    with (
        atomic_path(path) as partial,
        pq.ParquetWriter(partial, schema, compression="zstd") as writer,
    ):
        for group in run.table.groups():
            writer.write_table(_with_boxes(group, run.name, scale, schema))
    return [path]


def _schema(run: SlideResult, scale: npt.NDArray[np.float64], unit: str) -> pa.Schema:
    own = run.table.schema
    # Results of earlier versions have neither boxes nor the slide's name.
    fields = list(own)
    if BOX_COLUMN not in own.names:
        fields.insert(own.get_field_index("geometry") + 1, BOX_FIELD)
    if SLIDE_COLUMN not in own.names:
        fields.append(SLIDE_FIELD)
    column: dict[str, object] = dict(COVERED)
    if len(run):
        column["bbox"] = _extent(run, scale)
    facts = run.table.facts | {"version": __version__, "unit": f"{unit}, QuPath origin"}
    return pa.schema(fields, geo_metadata(facts, column=column))


def _extent(run: SlideResult, scale: npt.NDArray[np.float64]) -> list[float]:
    groups = run.table.groups(["geometry"])
    boxes = np.array([shapely.total_bounds(_polygons(group, scale)) for group in groups])
    return [*boxes[:, :2].min(axis=0).tolist(), *boxes[:, 2:].max(axis=0).tolist()]


def _polygons(group: pa.Table, scale: npt.NDArray[np.float64]) -> Polygons:
    polygons = polygons_of(group)
    return polygons if (scale == 1).all() else shapely.transform(polygons, lambda xy: xy * scale)


def _with_boxes(
    group: pa.Table, slide: str, scale: npt.NDArray[np.float64], schema: pa.Schema
) -> pa.Table:
    polygons = _polygons(group, scale)
    made = {
        "geometry": pa.array(shapely.to_wkb(polygons), pa.binary()),
        BOX_COLUMN: boxes_of(polygons),
        SLIDE_COLUMN: pa.repeat(slide, len(group)),
        "x": pa.array(group["x"].to_numpy() * scale[0]),
        "y": pa.array(group["y"].to_numpy() * scale[1]),
    }
    columns = [
        made[name] if name in made else defined(group[name].combine_chunks())
        for name in schema.names
    ]
    return pa.table(columns, schema=schema)
