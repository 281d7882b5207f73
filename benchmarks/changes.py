"""Draw how two results differ: nuclei of both green, of the first red, of the second blue.

    python benchmarks/changes.py SLIDE FIRST_FOLDER SECOND_FOLDER OUT.jpg --detail X Y SIDE

X, Y and SIDE are full-resolution pixels as QuPath shows them. A nucleus is of both where another
covers a third of it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
import shapely
from picture import HEIGHT_PX, OUTLINE, SMOOTHING, draw, render
from PIL import Image

import wsi_engine
from wsi_engine.results.nucleus_table import read_nuclei
from wsi_engine.slide.grid_reader import GridReader, make_grid
from wsi_engine.slide.resolution import with_resolution

ONLY_FIRST, ONLY_SECOND = (255, 0, 0), (0, 0, 255)
COVERED = 1 / 3

Polygons = npt.NDArray[np.object_]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("slide", type=Path)
    parser.add_argument("results", type=Path, nargs=2)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--detail", type=float, nargs=3, required=True, metavar=("X", "Y", "SIDE"))
    options = parser.parse_args()
    x, y, side = options.detail
    with wsi_engine.open_slide(options.slide) as slide:
        info = with_resolution(slide.info, None)
        assert info.mpp is not None
        reader = GridReader(slide, make_grid(info, info.mpp.mean * side / HEIGHT_PX))
        picture = render(reader, (x, y, side))
    first, second = (read_nuclei(f / "nuclei.parquet").polygons for f in options.results)
    near = shapely.box(x, y, x + side, y + side)
    first, second = (each[shapely.intersects(each, near)] for each in (first, second))
    kept, known = covered(first, second), covered(second, first)
    parts = (first[kept], OUTLINE), (first[~kept], ONLY_FIRST), (second[~known], ONLY_SECOND)
    scale = HEIGHT_PX / side
    for polygons, colour in parts:
        large = draw(picture, polygons, (x, y), scale, colour)
        picture = large.resize([s // SMOOTHING for s in large.size], Image.LANCZOS)
    picture.save(options.picture, quality=88)
    print(f"{kept.sum()} of both, {(~kept).sum()} of the first, {(~known).sum()} of the second")


def covered(polygons: Polygons, others: Polygons) -> npt.NDArray[np.bool_]:
    """Tell which polygons another covers by a third."""
    mine, theirs = shapely.STRtree(others).query(polygons, predicate="intersects")
    common = shapely.area(shapely.intersection(polygons[mine], others[theirs]))
    found = np.zeros(len(polygons), bool)
    found[mine[common > COVERED * shapely.area(polygons[mine])]] = True
    return found


if __name__ == "__main__":
    main()
