"""How long `wsi-engine regions` takes for annotations of many vertices, as of pixel classifiers.

    python benchmarks/regions.py results/slide

Each annotation is smooth noise above its mean, on square pixels, over all of the slide. The result
is copied; nothing in it changes.
"""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import shapely
from scipy.ndimage import gaussian_filter

from wsi_engine.engine.provenance import peak_rss_mb
from wsi_engine.qupath.objects import PathObject
from wsi_engine.qupath.roi import ROI
from wsi_engine.qupath.writer import write_objects
from wsi_engine.regions.measure import measure_regions
from wsi_engine.results.record import read_record

SIDES = (320, 640, 1280, 2340)
"""Pixels of the classifier along each side of the slide."""


def classification(side: int, width: float, height: float) -> shapely.Geometry:
    """Return what a pixel classifier draws over a slide, in QuPath pixels."""
    rng = np.random.default_rng(1)
    inside = gaussian_filter(rng.standard_normal((side, side)), 1.9) > 0
    changes = np.diff(np.pad(inside, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    (y, left), (_, right) = np.nonzero(changes == 1), np.nonzero(changes == -1)
    united = shapely.union_all(shapely.box(left, y, right, y + 1))
    return shapely.transform(united, lambda xy: np.round(xy * [width / side, height / side], 2))


def measured(result: Path, side: int) -> None:
    """Measure one annotation, and print a row of the table."""
    bounds = read_record(result).slide.bounds
    drawn = classification(side, bounds.width, bounds.height)
    holes = sum(len(part.interiors) for part in drawn.geoms)
    with tempfile.TemporaryDirectory() as scratch:
        copied = Path(shutil.copytree(result, Path(scratch) / result.name))
        path = Path(scratch) / "drawn.geojson"
        write_objects(path, [PathObject(object_type="annotation", roi=ROI(drawn))])
        wall, cpu = time.perf_counter(), time.process_time()
        measure_regions(copied, path)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    vertices = shapely.get_num_coordinates(drawn)
    row = vertices, len(drawn.geoms), holes, wall, cpu, peak_rss_mb()
    print("| {:,} | {:,} | {:,} | {:.1f} | {:.1f} | {:,.0f} |".format(*row), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("result", type=Path, help="OUT/<slide> of a finished run")
    result = parser.parse_args().result
    print(
        "| vertices | parts | holes | s | CPU s | peak RSS MB |\n|---|---|---|---|---|---|",
        flush=True,
    )
    for side in SIDES:
        process = multiprocessing.get_context("spawn").Process(target=measured, args=(result, side))
        process.start()
        process.join()


if __name__ == "__main__":
    main()
