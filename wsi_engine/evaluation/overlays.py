"""A page of the worst images of an evaluation, with what was found, missed and invented."""

from __future__ import annotations

import base64
import html
import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from wsi_engine.evaluation.evaluate import Report, pair_segmentations
from wsi_engine.evaluation.images import read_image
from wsi_engine.evaluation.metrics import ImageScore, Labels, overlaps
from wsi_engine.evaluation.pairing import stem_of
from wsi_engine.evaluation.polygons import Polygons
from wsi_engine.evaluation.segmentations import Segmentation, read_segmentation

Colour = tuple[int, int, int]
FOUND: Colour = (0, 220, 0)
INVENTED: Colour = (230, 0, 0)
MISSED: Colour = (255, 220, 0)

# A larger image is shown by the window of this side that holds the middle of its errors.
_WINDOW_PX = 1200


def draw_overlay(
    image: npt.NDArray[np.uint8],
    prediction: Labels,
    truth: Labels,
) -> npt.NDArray[np.uint8]:
    """Outline nuclei on an image: found green, invented red, missed yellow.

    Found and invented are outlined as predicted, missed as in the truth; a match is an IoU
    above 0.5.
    """
    pairs = overlaps(truth, prediction)
    matched = pairs.iou > 0.5
    found = np.isin(prediction, _values(prediction)[pairs.predicted[matched]])
    missed = (truth > 0) & ~np.isin(truth, _values(truth)[pairs.true[matched]])
    canvas = image.copy()
    canvas[_outline(np.where(missed, truth, 0))] = MISSED
    canvas[_outline(np.where(found, 0, prediction))] = INVENTED
    canvas[_outline(np.where(found, prediction, 0))] = FOUND
    wrong = missed | ((prediction > 0) & ~found)
    return canvas[_window(wrong)]


def _outline(labels: Labels) -> npt.NDArray[np.bool_]:
    """Find the pixels of nuclei that have another label, or the image's border, beside them."""
    framed = np.pad(labels, 1)
    inner = framed[1:-1, 1:-1]
    beside = (framed[:-2, 1:-1], framed[2:, 1:-1], framed[1:-1, :-2], framed[1:-1, 2:])
    return np.asarray((inner > 0) & np.any([inner != other for other in beside], axis=0), bool)


def _values(labels: Labels) -> Labels:
    values = np.unique(labels)
    return np.asarray(values[values != 0])


def _window(wrong: npt.NDArray[np.bool_]) -> tuple[slice, slice]:
    slices = []
    for axis, side in enumerate(wrong.shape):
        places = np.nonzero(wrong)[axis]
        middle = int(np.median(places)) if len(places) else side // 2
        start = min(max(0, middle - _WINDOW_PX // 2), max(0, side - _WINDOW_PX))
        slices.append(slice(start, start + _WINDOW_PX))
    return slices[0], slices[1]


def _labels(segmentation: Segmentation, shape: tuple[int, int]) -> Labels:
    if isinstance(segmentation, Polygons):
        return segmentation.draw(shape)
    return segmentation


def write_worst_page(
    path: Path, report: Report, prediction: Path, truth: Path, images: Path, count: int = 6
) -> None:
    """Write an HTML page of the images with the lowest PQ. It needs no other file.

    Parameters
    ----------
    prediction, truth
        Files or folders, as in `wsi_engine.evaluation.evaluate.evaluate`.
    images
        The image, or a folder of images with the same names.
    """
    worst = sorted(report.overall.images, key=lambda image: (image.pq, image.name))[:count]
    pairs = {stem_of(true): (found, true) for found, true in pair_segmentations(prediction, truth)}
    sources = {p.stem: p for p in sorted(images.iterdir())} if images.is_dir() else {}
    sections = []
    for image in worst:
        pixels = read_image(sources.get(image.name, images))
        shape = (pixels.shape[0], pixels.shape[1])
        found, true = (_labels(read_segmentation(p), shape) for p in pairs[image.name])
        sections.append(_section(image, draw_overlay(pixels, found, true)))
    path.write_text(_PAGE.format(sections="\n".join(sections)))


def _section(image: ImageScore, overlay: npt.NDArray[np.uint8]) -> str:
    stream = io.BytesIO()
    Image.fromarray(overlay).save(stream, "PNG")
    picture = base64.b64encode(stream.getvalue()).decode()
    counts = image.at_iou[0]
    return (
        f"<section><h2>{html.escape(image.name)}</h2>"
        f"<p>PQ {image.pq:.3f}, F1 {image.f1:.3f}, AJI {image.aji:.3f}; {counts.tp} found, "
        f"{counts.fp} invented, {counts.fn} missed; {image.splits} split, {image.merges} merged."
        f'</p><img alt="overlay" src="data:image/png;base64,{picture}"></section>'
    )


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>The worst images</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; }}
img {{ max-width: 100%; }}
b.found {{ color: #0a0; }} b.invented {{ color: #c00; }} b.missed {{ color: #a80; }}
</style></head><body>
<h1>The worst images</h1>
<p><b class="found">Green</b> was found, <b class="invented">red</b> was invented,
<b class="missed">yellow</b> was missed.</p>
{sections}
</body></html>
"""
