"""Draw one detail of a slide three times: as it is, with its nuclei, and with their stain.

    python benchmarks/strip.py SLIDE RESULT_FOLDER OUT.jpg --detail X Y SIDE

X, Y and SIDE are full-resolution pixels as QuPath shows them. The last panel fills every nucleus
with the colour of its mean optical density of haematoxylin, from the 2nd to the 98th percentile of
what is shown.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import shapely
from PIL import Image, ImageDraw

import wsi_engine
from wsi_engine.report.colours import viridis
from wsi_engine.results.nucleus_table import read_nuclei
from wsi_engine.slide.frames import ModelBox, ModelGrid
from wsi_engine.slide.grid_reader import GridReader, make_grid
from wsi_engine.slide.resolution import with_resolution

SIDE_PX, SMOOTHING = 460, 3
OUTLINE = (20, 230, 60)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("slide", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--detail", type=float, nargs=3, required=True, metavar=("X", "Y", "SIDE"))
    options = parser.parse_args()
    x, y, side = options.detail
    with wsi_engine.open_slide(options.slide) as slide:
        info = with_resolution(slide.info, None)
        assert info.mpp is not None
        reader = GridReader(slide, make_grid(info, info.mpp.mean * side / SIDE_PX))
        grid: ModelGrid = reader.grid
        left, top = grid.from_qupath(np.array([x, y])).round().astype(int)
        pixels = Image.fromarray(reader.read(ModelBox(int(left), int(top), SIDE_PX, SIDE_PX)))
    nuclei = read_nuclei(options.results / "nuclei.parquet")
    shown = shapely.intersects(nuclei.polygons, shapely.box(x, y, x + side, y + side))
    dye = nuclei.arrow["Hematoxylin: Mean"].to_numpy(zero_copy_only=False)[shown]
    low, high = np.nanpercentile(dye, (2, 98))
    colours = viridis(np.clip((dye - low) / (high - low), 0, 1))
    rings = [
        (np.asarray(polygon.exterior.coords) - (x, y)) * SIDE_PX / side * SMOOTHING
        for polygon in nuclei.polygons[shown]
    ]
    large = pixels.resize([s * SMOOTHING for s in pixels.size], Image.Resampling.LANCZOS)
    pale = Image.blend(
        large.convert("L").convert("RGB"), Image.new("RGB", large.size, "white"), 0.6
    )
    outlined = large.copy()
    for ring, colour in zip(rings, colours, strict=True):
        points = [tuple(point) for point in ring]
        ImageDraw.Draw(outlined).line(points, fill=OUTLINE, width=2 * SMOOTHING)
        ImageDraw.Draw(pale).polygon(points, fill=tuple(colour.tolist()), outline=(40, 40, 40))
    canvas = Image.new("RGB", (3 * SIDE_PX, SIDE_PX), "white")
    for place, panel in enumerate((large, outlined, pale)):
        canvas.paste(panel.resize(pixels.size, Image.Resampling.LANCZOS), (place * SIDE_PX, 0))
    canvas.save(options.picture, quality=80, optimize=True)


if __name__ == "__main__":
    main()
