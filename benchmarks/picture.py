"""Draw a result over its slide: the whole, and a detail.

    python benchmarks/picture.py SLIDE RESULT_FOLDER OUT.jpg --detail X Y SIDE

X, Y and SIDE are full-resolution pixels as QuPath shows them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import shapely
from PIL import Image, ImageDraw

import wsi_engine
from wsi_engine.qupath.reader import read_objects
from wsi_engine.results.nucleus_table import read_nuclei
from wsi_engine.slide.frames import ModelBox, ModelGrid
from wsi_engine.slide.grid_reader import GridReader, make_grid
from wsi_engine.slide.resolution import with_resolution

HEIGHT_PX = 720
SMOOTHING = 3
OUTLINE, TISSUE = (20, 230, 60), (0, 120, 110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("slide", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--detail", type=float, nargs=3, required=True, metavar=("X", "Y", "SIDE"))
    options = parser.parse_args()
    with wsi_engine.open_slide(options.slide) as slide:
        info = with_resolution(slide.info, None)
        assert info.mpp is not None
        overview = info.mpp.mean * info.bounds.height / HEIGHT_PX
        whole = render(GridReader(slide, make_grid(info, overview)), None)
        x, y, side = options.detail
        reader = GridReader(slide, make_grid(info, info.mpp.mean * side / HEIGHT_PX))
        detail = render(reader, (x, y, side))
    tissue = [o.geometry for o in read_objects(options.results / "tissue.geojson")]
    nuclei = read_nuclei(options.results / "nuclei.parquet").polygons
    scale = HEIGHT_PX / info.bounds.height
    left = draw(whole, tissue, (0, 0), scale, TISSUE)
    frame = [v * scale * SMOOTHING for v in (x, y, x + side, y + side)]
    ImageDraw.Draw(left).rectangle(frame, outline=(0, 0, 0), width=2 * SMOOTHING)
    near = shapely.box(x, y, x + side, y + side)
    shown = nuclei[shapely.intersects(nuclei, near)]
    right = draw(detail, shown, (x, y), HEIGHT_PX / side, OUTLINE)
    panels = [p.resize([s // SMOOTHING for s in p.size], Image.LANCZOS) for p in (left, right)]
    canvas = Image.new("RGB", (sum(p.width for p in panels) + 12, HEIGHT_PX), "white")
    canvas.paste(panels[0], (0, 0))
    canvas.paste(panels[1], (panels[0].width + 12, 0))
    canvas.save(options.picture, quality=88)


def render(reader: GridReader, part: tuple[float, float, float] | None) -> Image.Image:
    grid: ModelGrid = reader.grid
    box = grid.extent
    if part is not None:
        x, y = grid.from_qupath(np.array(part[:2])).round().astype(int)
        box = ModelBox(int(x), int(y), HEIGHT_PX, HEIGHT_PX)
    return Image.fromarray(reader.read(box))


def draw(
    image: Image.Image, polygons: object, origin: tuple[float, float], scale: float, colour: object
) -> Image.Image:
    large = image.resize([s * SMOOTHING for s in image.size], Image.LANCZOS)
    pen = ImageDraw.Draw(large)
    for polygon in polygons:
        for ring in (polygon.exterior, *polygon.interiors):
            points = (np.asarray(ring.coords) - origin) * scale * SMOOTHING
            pen.line([tuple(p) for p in points], fill=colour, width=round(1.5 * SMOOTHING))
    return large


if __name__ == "__main__":
    main()
