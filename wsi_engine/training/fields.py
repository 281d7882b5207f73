"""One annotated field: its pixels, the nuclei in it, and what is not known of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from wsi_engine.errors import DatasetError
from wsi_engine.evaluation.images import UNKNOWN
from wsi_engine.evaluation.polygons import Polygons
from wsi_engine.models.label_rays import boundary_peaks
from wsi_engine.training.classes import NO_CLASS, Classes
from wsi_engine.training.config import Annotation, SetConfig
from wsi_engine.training.weak import labels_from_partial, labels_from_points


@dataclass(frozen=True, slots=True)
class Field:
    """An annotated image, or an annotated field of a slide.

    Attributes
    ----------
    name, group
        Stem of the image, or file of annotations and place on the slide; and the patient or
        slide that it comes from.
    image
        uint8 (h, w, 3).
    labels
        uint16 (h, w); see `wsi_engine.models.label_rays`.
    peaks
        Largest distance to the boundary by label, in pixels of this image.
    classes
        Class index by label, `NO_CLASS` where it is not known; as long as ``peaks``.
    mpp
        Pixel size in µm.
    taught
        Object probability by a teacher, 0 to 255, over the whole image at a size of its own,
        uint8 (h', w'); ``None`` where there is none.
    """

    name: str
    group: str
    image: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.uint16]
    peaks: npt.NDArray[np.float32]
    classes: Classes
    mpp: float
    taught: npt.NDArray[np.uint8] | None = None


def make_field(
    name: str,
    group: str,
    image: npt.NDArray[np.uint8],
    drawn: npt.NDArray[np.uint16],
    classes: Classes,
    *,
    mpp: float,
    annotation: Annotation = "dense",
) -> Field:
    """Complete what was drawn to a field.

    Parameters
    ----------
    drawn
        0 where nothing was drawn, `UNKNOWN` where nobody looked, k in nucleus (or at point) k.
    classes
        Class index by label, as far as it goes.
    """
    labels = drawn
    if annotation == "partial":
        labels = labels_from_partial(drawn, mpp)
    elif annotation == "points" and has_nuclei(drawn):
        labels = labels_from_points(image, drawn, mpp)
    peaks = boundary_peaks(labels)
    by_label = np.full(len(peaks), NO_CLASS, np.int16)
    by_label[: len(classes)] = classes[: len(peaks)]
    return Field(name, group, image, labels, peaks, by_label, mpp)


def has_nuclei(labels: npt.NDArray[np.uint16]) -> bool:
    """Whether any nucleus is drawn."""
    return bool(((labels != 0) & (labels != UNKNOWN)).any())


def labels_from_polygons(nuclei: Polygons, shape: tuple[int, int]) -> npt.NDArray[np.uint16]:
    """Draw nuclei into labels; outside of the fields that were annotated nothing is known.

    Part k of the nuclei, counted as in `Polygons.parts`, has the label k + 1.

    Raises
    ------
    DatasetError
        If there are more nuclei than labels.
    """
    drawn = nuclei.draw(shape)
    if drawn.max(initial=0) >= UNKNOWN:
        raise DatasetError(f"more than {UNKNOWN - 1} nuclei are drawn: cut the field in two")
    labels = drawn.astype(np.uint16)
    if nuclei.field is not None:
        fields = Polygons(np.array([nuclei.field], object), np.array([""]))
        labels[(fields.draw(shape) == 0) & (labels == 0)] = UNKNOWN
    return labels


def refuse_points(path: Path, config: SetConfig) -> NoReturn:
    """Raise because of points in a set that is not annotated by points."""
    raise DatasetError(
        f"{path} holds points, but the set {config.name!r} is annotated as {config.annotation}: "
        "state annotation: points, or remove them"
    )
