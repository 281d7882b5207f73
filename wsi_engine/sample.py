"""The demo sample: a small slide of generated tissue, with its truth beside it."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import shapely

from wsi_engine.errors import OutputError
from wsi_engine.phantom import Kind, lay_out_tissue, render_tissue, scatter_nuclei
from wsi_engine.phantom.render import GLASS_RGB
from wsi_engine.qupath.features import Feature, annotation_feature, detection_features
from wsi_engine.qupath.writer import write_features
from wsi_engine.slide.frames import FloatArray, QuPathBox
from wsi_engine.slide.protocol import RGB
from wsi_engine.slide.pyramid import write_pyramid
from wsi_engine.writing import atomic_path, clear_write_errors

SAMPLE_MPP = 0.25
"""Pixel size of the sample in µm."""

# Glass around the field, chosen so that it neither begins nor ends at a tile border.
_GLASS_PX, _LEFT_PX, _UPWARDS_PX = 1024, 331, 3

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_OID, "wsi-engine sample")
_CLASSES = {
    Kind.EPITHELIAL: "Epithelium",
    Kind.LYMPHOCYTE: "Immune cells",
    Kind.SPINDLE: "Stroma",
}


@dataclass(frozen=True, slots=True)
class SampleTruth:
    """The files of the sample, and what is known of it.

    Attributes
    ----------
    slide_path, truth_path
        The slide (pyramidal TIFF) and the truth (QuPath GeoJSON).
    mpp
        Pixel size in µm.
    field
        The field of tissue, in full-resolution pixels, in which every nucleus is known.
    outlines
        Shape (n, 48, 2), float64: the nuclei as written, (x, y) in full-resolution pixels
        (corners), rounded to 0.01, rings left open.
    kind
        Shape (n,), int64, values of `wsi_engine.phantom.Kind`.
    """

    slide_path: Path
    truth_path: Path
    mpp: float
    field: QuPathBox
    outlines: FloatArray
    kind: npt.NDArray[np.int64]


def write_sample(path: Path, seed: int = 0, field_px: int = 2048) -> SampleTruth:
    """Write the demo sample and, beside it, its truth as ``<stem>_truth.geojson``.

    On a glass-coloured ground lies a field of generated tissue, stained as with haematoxylin and
    eosin, in which every nucleus is known exactly.

    Parameters
    ----------
    path
        The slide to write, a ``.tif``.
    seed
        The same seed gives the same files.
    field_px
        Side of the field in pixels; 2048 gives a slide of 3072 x 3072.

    Returns
    -------
    SampleTruth

    Raises
    ------
    OutputError
        If a file cannot be written, or is not named as a TIFF.
    """
    if path.suffix.lower() not in (".tif", ".tiff"):
        raise OutputError(f"{path}: name the sample .tif, which it is")
    rng = np.random.default_rng(seed)
    shape = (field_px, field_px)
    tissue = lay_out_tissue(shape, SAMPLE_MPP, rng)
    nuclei = scatter_nuclei(tissue, rng)
    generated = render_tissue(shape, nuclei, SAMPLE_MPP, rng, tissue)

    side = field_px + _GLASS_PX
    slide = _glass((side, side), rng)
    left, top = _LEFT_PX, _GLASS_PX // 2 - _UPWARDS_PX
    slide[top : top + field_px, left : left + field_px] = generated

    truth = SampleTruth(
        slide_path=path,
        truth_path=path.with_name(f"{path.stem}_truth.geojson"),
        mpp=SAMPLE_MPP,
        field=QuPathBox(left, top, left + field_px, top + field_px),
        outlines=np.round(nuclei.outlines() + np.array([left, top]), 2),
        kind=nuclei.kind,
    )
    with clear_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_pyramid(path, slide, SAMPLE_MPP)
        with atomic_path(truth.truth_path) as partial:
            write_features(partial, _truth_features(truth, seed))
    return truth


def _glass(shape: tuple[int, int], rng: np.random.Generator) -> RGB:
    """Return bare glass as the camera sees it, shape (height, width, 3)."""
    glass = np.empty((*shape, 3), np.uint8)
    for channel, level in enumerate(GLASS_RGB):
        glass[..., channel] = np.rint(level + rng.standard_normal(shape, dtype=np.float32))
    return glass


def _truth_features(truth: SampleTruth, seed: int) -> list[Feature]:
    """Return the area that is known and the nuclei in it as QuPath features."""
    box = truth.field
    area = annotation_feature(
        str(uuid.uuid5(_NAMESPACE, f"{seed}/area")),
        shapely.box(box.x_min, box.y_min, box.x_max, box.y_max),
        name="Truth area",
        classification="Region*",
    )
    ids = [str(uuid.uuid5(_NAMESPACE, f"{seed}/nucleus/{k}")) for k in range(len(truth.kind))]
    classes = [_CLASSES[Kind(kind)] for kind in truth.kind.tolist()]
    return [area, *detection_features(ids, shapely.polygons(truth.outlines), classes, {})]
