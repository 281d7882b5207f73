"""An annotation store for TIAToolbox and its viewer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import shapely

from wsi_engine.convert.annotation_store import write_annotation_store
from wsi_engine.convert.geoparquet import read_geoparquet
from wsi_engine.export.options import Options
from wsi_engine.qupath.objects import PathObject
from wsi_engine.qupath.roi import ROI
from wsi_engine.results.finished import SlideResult
from wsi_engine.results.layout import NUCLEI_TABLE
from wsi_engine.writing import atomic_path


def write(run: SlideResult, path: Path, options: Options) -> list[Path]:
    """Write one annotation per nucleus under its UUID: class as ``type``, measurements by name.

    TIAToolbox counts full-resolution pixels from OpenSlide's origin and knows no bounds, so
    what QuPath crops off is added again. Some thousand nuclei are in memory at a time.
    TIAToolbox itself is not needed.
    """
    del options
    with atomic_path(path) as partial:
        partial.unlink(missing_ok=True)  # of an export that was killed
        write_annotation_store(partial, _objects(run))
    return [path]


def _objects(run: SlideResult) -> Iterator[PathObject]:
    bounds = run.record.slide.bounds
    offset = (bounds.x, bounds.y)
    for item in read_geoparquet(run.folder / NUCLEI_TABLE):
        if offset == (0, 0):
            yield item
        else:
            yield replace(item, roi=ROI(shapely.transform(item.geometry, lambda xy: xy + offset)))
