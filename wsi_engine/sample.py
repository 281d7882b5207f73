"""The demo sample: a small slide of real and of generated tissue, with its truth beside it."""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import skimage.data
from PIL import Image

from wsi_engine.errors import OutputError
from wsi_engine.phantom import Kind, lay_out_tissue, render_tissue, scatter_nuclei
from wsi_engine.phantom.render import GLASS_RGB
from wsi_engine.slide.frames import FloatArray, QuPathBox
from wsi_engine.slide.protocol import RGB
from wsi_engine.slide.pyramid import write_pyramid

SAMPLE_MPP = 0.25
"""Pixel size of the sample in µm."""

_REAL_FIELD_PX = 1024
# Glass around the fields, chosen so that no field begins or ends at a tile border.
_LEFT_PX, _BETWEEN_PX, _GLASS_PX, _UPWARDS_PX = 331, 347, 1024, 3

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_OID, "wsi-engine sample")
_CLASSES: dict[Kind, tuple[str, tuple[int, int, int]]] = {
    Kind.EPITHELIAL: ("Epithelium", (0, 130, 200)),
    Kind.LYMPHOCYTE: ("Immune cells", (160, 90, 160)),
    Kind.SPINDLE: ("Stroma", (150, 200, 150)),
}
_REGION_CLASS = ("Region*", (0, 0, 180))


@dataclass(frozen=True, slots=True)
class SampleTruth:
    """Where the sample lies and what is known of it.

    Attributes
    ----------
    slide_path, truth_path
        The slide (pyramidal TIFF) and the truth (QuPath GeoJSON).
    mpp
        Pixel size in µm.
    field
        The generated field, in full-resolution pixels. Every nucleus in it is known; of the
        rest of the slide nothing is.
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

    On a glass-coloured ground lie two fields: on the left real tissue, on the right generated
    H&E-like tissue in which every nucleus is known exactly.

    Parameters
    ----------
    path
        The slide to write, a ``.tif``.
    seed
        The same seed gives the same files.
    field_px
        Side of the generated field in pixels; 2048 gives a slide of 4096 x 3072.

    Returns
    -------
    SampleTruth

    Raises
    ------
    OutputError
        If a file cannot be written.

    Notes
    -----
    The real tissue is ``skimage.data.immunohistochemistry()``: colonic glands, DAB and
    haematoxylin, 512 x 512 px, from the Center for Microscopy and Molecular Imaging, with no
    known copyright restrictions; it is part of scikit-image's wheel, nothing is downloaded.
    scikit-image does not document its pixel size. 0.5 µm is assumed (its epithelial nuclei
    then measure about 7 x 12 µm), so it is enlarged twofold. Measure nothing in µm on it.
    """
    rng = np.random.default_rng(seed)
    shape = (field_px, field_px)
    tissue = lay_out_tissue(shape, SAMPLE_MPP, rng)
    nuclei = scatter_nuclei(tissue, rng)
    generated = render_tissue(shape, nuclei, SAMPLE_MPP, rng, tissue)

    height = max(field_px, _REAL_FIELD_PX) + _GLASS_PX
    width = field_px + _REAL_FIELD_PX + _GLASS_PX
    slide = _glass((height, width), rng)
    left = _LEFT_PX + _REAL_FIELD_PX + _BETWEEN_PX
    top = (height - field_px) // 2 - _UPWARDS_PX
    _lay_on(slide, generated, left, top)
    _lay_on(slide, _real_tissue(), _LEFT_PX, (height - _REAL_FIELD_PX) // 2 - _UPWARDS_PX)

    truth = SampleTruth(
        slide_path=path,
        truth_path=path.with_name(f"{path.stem}_truth.geojson"),
        mpp=SAMPLE_MPP,
        field=QuPathBox(left, top, left + field_px, top + field_px),
        outlines=np.round(nuclei.outlines() + np.array([left, top]), 2),
        kind=nuclei.kind,
    )
    write_pyramid(path, slide, SAMPLE_MPP)
    _write_geojson(truth.truth_path, _truth_features(truth, seed))
    return truth


def _glass(shape: tuple[int, int], rng: np.random.Generator) -> RGB:
    """Return bare glass as the camera sees it, shape (height, width, 3)."""
    glass = np.empty((*shape, 3), np.uint8)
    for channel, level in enumerate(GLASS_RGB):
        glass[..., channel] = np.rint(level + rng.standard_normal(shape, dtype=np.float32))
    return glass


def _real_tissue() -> RGB:
    """Return scikit-image's immunohistochemistry image at the sample's pixel size."""
    image = Image.fromarray(skimage.data.immunohistochemistry())
    side = (_REAL_FIELD_PX, _REAL_FIELD_PX)
    return np.asarray(image.resize(side, Image.Resampling.LANCZOS))


def _lay_on(slide: RGB, field: RGB, left: int, top: int) -> None:
    """Put a field on the slide, in place."""
    slide[top : top + field.shape[0], left : left + field.shape[1]] = field


def _truth_features(truth: SampleTruth, seed: int) -> list[dict[str, Any]]:
    """Return the area that is known and the nuclei in it as QuPath features."""
    box = truth.field
    corners = [
        [box.x_min, box.y_min],
        [box.x_min, box.y_max],
        [box.x_max, box.y_max],
        [box.x_max, box.y_min],
    ]
    area = _feature(f"{seed}/area", "annotation", corners, *_REGION_CLASS)
    area["properties"]["name"] = "Truth area"
    nuclei = (
        _feature(f"{seed}/nucleus/{index}", "detection", ring, *_CLASSES[Kind(kind)])
        for index, (ring, kind) in enumerate(
            zip(truth.outlines.tolist(), truth.kind.tolist(), strict=True)
        )
    )
    return [area, *nuclei]


def _feature(
    key: str,
    object_type: str,
    ring: list[list[float]],
    class_name: str,
    color: tuple[int, int, int],
) -> dict[str, Any]:
    """Return one QuPath object; its UUID follows from the key, its ring is closed here."""
    return {
        "type": "Feature",
        "id": str(uuid.uuid5(_NAMESPACE, key)),
        "geometry": {"type": "Polygon", "coordinates": [[*ring, ring[0]]]},
        "properties": {
            "objectType": object_type,
            "classification": {"name": class_name, "color": color},
        },
    }


def _write_geojson(path: Path, features: list[dict[str, Any]]) -> None:
    """Write features as one FeatureCollection; the file appears only when complete."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(orjson.dumps({"type": "FeatureCollection", "features": features}))
        partial.replace(path)
    except OSError as error:
        raise OutputError(f"Cannot write the truth {path}: {error.strerror}.") from error
    finally:
        partial.unlink(missing_ok=True)
