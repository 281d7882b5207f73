"""From the maps of a HoVerNet to nuclei.

A HoVerNet predicts where nuclei are and, for each of their pixels, how far it lies to the left
or right of, and above or below, the centre of its nucleus. Where two nuclei touch, these
distances fall steeply: there they are cut.

The authors, and TIAToolbox, call a fall steep in comparison with the steepest fall and rise of
the same image. On a slide that image would be a tile, and another tiling would cut nuclei
elsewhere. Here the comparison is with extremes that hold for the whole slide.

Method: Graham et al., "Hover-Net: simultaneous segmentation and classification of nuclei in
multi-tissue histology images", Medical Image Analysis 58 (2019), 101563, section 3.2.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import asdict, astuple, dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage, special
from skimage import segmentation

from wsi_engine.models.hovernet_scale import FINE, SMALLEST_PX, Scale
from wsi_engine.nuclei.predictions import Predictions
from wsi_engine.nuclei.tracing import trace_labels

NUCLEAR_LEVEL = 0.5
EDGE_LEVEL = 0.4
OPENING = np.ones((5, 5), bool)
OPENING[[0, 0, 0, 0, 4, 4, 4, 4], [0, 1, 3, 4, 0, 1, 3, 4]] = False  # OpenCV's ellipse


@functools.cache
def _sobel(side: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return what a Sobel filter does across and along a slope; that of a ramp is its slope."""
    across = special.comb(side - 1, np.arange(side))
    along = np.convolve(special.comb(side - 2, np.arange(side - 1)), (-1, 1))
    return across / across.sum(), along / (along @ np.arange(side))


@dataclass(frozen=True, slots=True)
class SlopeExtremes:
    """Steepest fall (negative) and rise of the distances, per pixel.

    The defaults are those of ideal maps (distances of -1 to 1 over each nucleus): the fall
    between two nuclei of 8 µm side by side, and the rise over one of 4 µm.
    """

    horizontal_min: float = -0.29
    horizontal_max: float = 0.12
    vertical_min: float = -0.29
    vertical_max: float = 0.12


IDEAL_EXTREMES = SlopeExtremes()


def ideal_extremes(mpp: float) -> SlopeExtremes:
    """Return the default extremes for a pixel size: coarse pixels have steeper slopes."""
    return SlopeExtremes(*(value * mpp / 0.25 for value in astuple(IDEAL_EXTREMES)))


def slopes(
    distances: npt.NDArray[np.float32], scale: Scale = FINE
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Slope of the horizontal distance to the right, and of the vertical one downwards.

    Parameters
    ----------
    distances
        float32, shape (height, width, 2): horizontal, vertical.

    Returns
    -------
    tuple of numpy.ndarray
        Twice float64, shape (height, width), per pixel: Sobel filters, scaled.

    Examples
    --------
    >>> ramp = np.tile(np.arange(64, dtype=np.float32) / 16, (64, 1))
    >>> horizontal, vertical = slopes(np.stack([ramp, ramp], axis=-1))
    >>> float(horizontal[32, 32]), float(vertical[32, 32])
    (0.0625, 0.0)
    """
    across_filter, along_filter = _sobel(scale.sobel_side)
    both = []
    for channel, along in ((0, 1), (1, 0)):
        values = distances[..., channel].astype(np.float64)
        across = ndimage.correlate1d(values, across_filter, axis=1 - along, mode="mirror")
        both.append(ndimage.correlate1d(across, along_filter, axis=along, mode="mirror"))
    return both[0], both[1]


def slope_extremes(distances: npt.NDArray[np.float32], scale: Scale = FINE) -> SlopeExtremes:
    """Find the extremes of one image; see ``slopes`` for its shape."""
    both = slopes(distances, scale)
    return SlopeExtremes(*(float(f(s)) for s in both for f in (np.min, np.max)))


def extremes_of_fields(
    maps: Iterable[npt.NDArray[np.float32]], scale: Scale = FINE
) -> SlopeExtremes | None:
    """Find the extremes that hold for a slide: the medians over the fields that have nuclei.

    To three digits: another processor's rounding is not to make another run of it.

    Parameters
    ----------
    maps
        Those of fields of tissue, as `decode_maps` takes them.

    Returns
    -------
    SlopeExtremes or None
        ``None`` where no field has nuclei.
    """
    found = [
        asdict(slope_extremes(each[..., 1:3], scale))
        for each in maps
        if (each[..., 0] >= NUCLEAR_LEVEL).any()
    ]
    if not found:
        return None
    medians = {name: np.median([each[name] for each in found]) for name in found[0]}
    return SlopeExtremes(**{name: float(f"{m:.3g}") for name, m in medians.items()})


def separate_nuclei(
    nuclear: npt.NDArray[np.float32],
    distances: npt.NDArray[np.float32],
    extremes: SlopeExtremes,
    scale: Scale = FINE,
) -> npt.NDArray[np.int32]:
    """Label the pixels of each nucleus.

    Parameters
    ----------
    nuclear
        float32, shape (height, width): probability of being a nucleus.
    distances
        float32, shape (height, width, 2), in [-1, 1]: horizontal, vertical.
    extremes
        Extremes of the slide. With those of the image itself the labels are those of
        TIAToolbox, except in holes wider than ``scale.longest``.

    Returns
    -------
    numpy.ndarray
        int32, shape (height, width), 0 for background.
    """
    mask = _without_small(nuclear >= NUCLEAR_LEVEL, SMALLEST_PX) > 0
    horizontal, vertical = slopes(distances, scale)
    # 1 at the steepest fall, 0 at the steepest rise.
    edge = np.maximum(
        (extremes.horizontal_max - horizontal)
        / (extremes.horizontal_max - extremes.horizontal_min),
        (extremes.vertical_max - vertical) / (extremes.vertical_max - extremes.vertical_min),
    )
    # Not cut off at 1: falls beyond the slide's extreme would become a plateau, on which the
    # order of flooding decides.
    edge = np.maximum(edge, 0)
    relief = _blur(np.where(mask, edge - 1, 0))
    inside = _fill_holes(mask & (edge < EDGE_LEVEL), scale.longest)
    # Eroded by dilating the outside, which does not reach in from beyond the image.
    markers = _without_small(_dilate(~_dilate(~inside)), scale.smallest_marker)
    return np.asarray(segmentation.watershed(relief, markers, mask=mask), np.int32)


def decode_maps(
    maps: npt.NDArray[np.float32],
    extremes: SlopeExtremes,
    class_count: int,
    scale: Scale = FINE,
) -> Predictions:
    """Turn maps into polygons.

    The class of a nucleus is the most frequent type of its pixels, background aside; its
    probabilities are their shares; its score is their mean nuclear probability.

    Parameters
    ----------
    maps
        float32, shape (height, width, 3 or 4): nuclear probability, horizontal and vertical
        distance, and, where there are classes, the type (0 for background).
    extremes
        Extremes of the slide.
    class_count
        How many types there are, background aside.
    scale
        That of the maps' pixels.
    """
    nuclear = np.ascontiguousarray(maps[..., 0])
    labels = _without_large(
        separate_nuclei(nuclear, maps[..., 1:3], extremes, scale), scale.longest
    )
    xy, offsets, label_ids = trace_labels(labels, nuclear, NUCLEAR_LEVEL)
    y, x = np.nonzero(labels)
    owner = labels[y, x].astype(np.int64)
    count = int(labels.max(initial=0)) + 1
    area = np.maximum(np.bincount(owner, minlength=count), 1)
    centroids = np.column_stack([np.bincount(owner, axis, count) / area for axis in (x, y)])
    scores = np.bincount(owner, nuclear[y, x], count) / area
    kinds = class_count + 1
    types = np.rint(maps[y, x, 3]).astype(np.int64) if class_count else np.zeros_like(owner)
    pixels = np.bincount(owner * kinds + types, minlength=count * kinds).reshape(-1, kinds)
    pixels[:, 0] = 0  # background inside a nucleus says nothing of its class
    shares = (pixels[:, 1:] / area[:, None]).astype(np.float32)
    return Predictions(
        xy=xy,
        offsets=offsets,
        anchors=centroids[label_ids] + 0.5,
        scores=scores[label_ids].astype(np.float32),
        classes=(pixels.argmax(axis=1) - 1)[label_ids].astype(np.int16),
        probabilities=shares[label_ids] if class_count else None,
    )


def _blur(image: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    padded = np.pad(image, 1, mode="reflect")
    rows = (padded[:-2] + padded[2:]) / 4 + padded[1:-1] / 2
    return (rows[:, :-2] + rows[:, 2:]) / 4 + rows[:, 1:-1] / 2


def _dilate(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    # Shifted copies: six times as fast as SciPy's dilation.
    height, width = mask.shape
    padded = np.pad(mask, len(OPENING) // 2)
    dilated = np.zeros_like(mask)
    for y, x in np.argwhere(OPENING):
        dilated |= padded[y : y + height, x : x + width]
    return dilated


def _without_small(mask: npt.NDArray[np.bool_], smallest: int) -> npt.NDArray[np.int32]:
    """Label the parts of a mask, small ones aside."""
    labels, count = ndimage.label(mask)
    number = np.arange(count + 1, dtype=np.int32)
    number[np.bincount(labels[mask], minlength=count + 1) < smallest] = 0
    return number[labels]


def _without_large(labels: npt.NDArray[np.int32], longest: int) -> npt.NDArray[np.int32]:
    sides = [max(s.stop - s.start for s in b) if b else 0 for b in ndimage.find_objects(labels)]
    keep = np.array([True, *(side <= longest for side in sides)])
    return np.where(keep[labels], labels, 0).astype(np.int32)


def _fill_holes(mask: npt.NDArray[np.bool_], longest: int) -> npt.NDArray[np.bool_]:
    """Fill the holes that fit into an object: a gland's lumen keeps the nuclei inside it."""
    background, _ = ndimage.label(~mask)
    holes = [
        all(
            s.start > 0 and s.stop < side and s.stop - s.start <= longest
            for s, side in zip(box, mask.shape, strict=True)
        )
        for box in ndimage.find_objects(background)
    ]
    return mask | np.array([False, *holes])[background]
