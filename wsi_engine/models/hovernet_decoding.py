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

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage, special
from skimage import segmentation

from wsi_engine.models.hovernet_spec import LARGEST_OBJECT_PX
from wsi_engine.nuclei.predictions import Predictions
from wsi_engine.nuclei.tracing import trace_labels

NUCLEAR_LEVEL = 0.5
EDGE_LEVEL = 0.4
SMALLEST_PX = 10
OPENING = np.ones((5, 5), bool)
OPENING[[0, 0, 0, 0, 4, 4, 4, 4], [0, 1, 3, 4, 0, 1, 3, 4]] = False  # OpenCV's ellipse

SOBEL_SIDE_PX = 21
_ACROSS = special.comb(SOBEL_SIDE_PX - 1, np.arange(SOBEL_SIDE_PX))
_ACROSS /= _ACROSS.sum()
_ALONG = np.convolve(special.comb(SOBEL_SIDE_PX - 2, np.arange(SOBEL_SIDE_PX - 1)), (-1, 1))
_ALONG /= _ALONG @ np.arange(SOBEL_SIDE_PX)  # the slope of a ramp is its slope


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


def slopes(
    distances: npt.NDArray[np.float32],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Slope of the horizontal distance to the right, and of the vertical one downwards.

    Parameters
    ----------
    distances
        float32, shape (height, width, 2): horizontal, vertical.

    Returns
    -------
    tuple of numpy.ndarray
        Twice float64, shape (height, width), per pixel: Sobel filters of 21 px, scaled.

    Examples
    --------
    >>> ramp = np.tile(np.arange(64, dtype=np.float32) / 16, (64, 1))
    >>> horizontal, vertical = slopes(np.stack([ramp, ramp], axis=-1))
    >>> float(horizontal[32, 32]), float(vertical[32, 32])
    (0.0625, 0.0)
    """
    both = []
    for channel, along in ((0, 1), (1, 0)):
        values = distances[..., channel].astype(np.float64)
        across = ndimage.correlate1d(values, _ACROSS, axis=1 - along, mode="mirror")
        both.append(ndimage.correlate1d(across, _ALONG, axis=along, mode="mirror"))
    return both[0], both[1]


def slope_extremes(distances: npt.NDArray[np.float32]) -> SlopeExtremes:
    """Find the extremes of one image; see ``slopes`` for its shape."""
    return SlopeExtremes(*(float(f(s)) for s in slopes(distances) for f in (np.min, np.max)))


def separate_nuclei(
    nuclear: npt.NDArray[np.float32],
    distances: npt.NDArray[np.float32],
    extremes: SlopeExtremes,
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
        TIAToolbox, except in holes wider than ``LARGEST_OBJECT_PX``.

    Returns
    -------
    numpy.ndarray
        int32, shape (height, width), 0 for background.
    """
    mask = _without_small(nuclear >= NUCLEAR_LEVEL) > 0
    horizontal, vertical = slopes(distances)
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
    inside = _fill_holes(mask & (edge < EDGE_LEVEL))
    # Eroded by dilating the outside, which does not reach in from beyond the image.
    markers = _without_small(_dilate(~_dilate(~inside)))
    return np.asarray(segmentation.watershed(relief, markers, mask=mask), np.int32)


def decode_maps(
    maps: npt.NDArray[np.float32], extremes: SlopeExtremes, class_count: int
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
    """
    nuclear = np.ascontiguousarray(maps[..., 0])
    labels = _without_large(separate_nuclei(nuclear, maps[..., 1:3], extremes))
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


def _without_small(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.int32]:
    """Label the parts of a mask, small ones aside."""
    labels, count = ndimage.label(mask)
    number = np.arange(count + 1, dtype=np.int32)
    number[np.bincount(labels[mask], minlength=count + 1) < SMALLEST_PX] = 0
    return number[labels]


def _without_large(labels: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    sides = [max(s.stop - s.start for s in b) if b else 0 for b in ndimage.find_objects(labels)]
    keep = np.array([True, *(side <= LARGEST_OBJECT_PX for side in sides)])
    return np.where(keep[labels], labels, 0).astype(np.int32)


def _fill_holes(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Fill the holes that fit into an object: a gland's lumen keeps the nuclei inside it."""
    background, _ = ndimage.label(~mask)
    holes = [
        all(
            s.start > 0 and s.stop < side and s.stop - s.start <= LARGEST_OBJECT_PX
            for s, side in zip(box, mask.shape, strict=True)
        )
        for box in ndimage.find_objects(background)
    ]
    return mask | np.array([False, *holes])[background]
