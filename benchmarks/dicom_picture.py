"""The picture of docs/exports.md: a DICOM slide, its nuclei and regions as highdicom reads them.

    python benchmarks/dicom_picture.py CMU-1-Small-Region.svs benchmarks/pictures/dicom.jpg

The slide is written as DICOM, run, and exported; pixels come from it by OpenSlide, outlines and
tissue from the two objects of the export. On the left is a part of it, on the right all of it.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import highdicom
import numpy as np
import openslide
from PIL import Image, ImageDraw

import wsi_engine
from tests.support.dicom_slides import write_whole_slide

HEIGHT_PX = 520
PART = (760, 1240)
"""Corner of the part in pixels of the slide."""
NUCLEI, TISSUE = (20, 90, 220), (0, 150, 60)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("slide", type=Path)
    parser.add_argument("picture", type=Path)
    options = parser.parse_args()
    with openslide.OpenSlide(options.slide) as slide:
        pixels = np.asarray(slide.read_region((0, 0), 0, slide.dimensions).convert("RGB"))
        mpp = float(slide.properties["openslide.mpp-x"])
    with tempfile.TemporaryDirectory() as scratch:
        file = write_whole_slide(Path(scratch) / "slide", pixels, mpp=mpp)
        folder = wsi_engine.run(file, Path(scratch) / "out").folder
        annotations, regions = wsi_engine.export_result(folder, "dicom")
        part = draw_part(file, annotations)
        whole = draw_whole(pixels, highdicom.seg.segread(regions))
    joined = Image.new("RGB", (part.width + whole.width + 10, HEIGHT_PX), "white")
    joined.paste(part, (0, 0))
    joined.paste(whole, (part.width + 10, 0))
    joined.save(options.picture, quality=88)


def draw_part(file: Path, annotations: Path) -> Image.Image:
    with openslide.OpenSlide(file) as slide:
        image = slide.read_region(PART, 0, (HEIGHT_PX, HEIGHT_PX)).convert("RGB")
    large = image.resize((2 * HEIGHT_PX,) * 2, Image.Resampling.LANCZOS)
    pen = ImageDraw.Draw(large)
    for group in highdicom.ann.annread(annotations).AnnotationGroupSequence:
        for ring in group.get_graphic_data("2D"):
            points = (np.vstack([ring, ring[:1]]) - PART) * 2
            pen.line([tuple(point) for point in points], fill=NUCLEI, width=3)
    return large.resize(image.size, Image.Resampling.LANCZOS)


def draw_whole(pixels: np.ndarray, regions: highdicom.seg.Segmentation) -> Image.Image:
    labels = regions.get_total_pixel_matrix(combine_segments=True)
    tinted = np.where(labels[..., None] > 0, 0.6 * pixels + 0.4 * np.array(TISSUE), pixels)
    image = Image.fromarray(tinted.astype(np.uint8))
    return image.resize((round(image.width * HEIGHT_PX / image.height), HEIGHT_PX))


if __name__ == "__main__":
    main()
