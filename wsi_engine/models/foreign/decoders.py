"""How the outputs of a foreign network become nuclei, by name.

They are those of the methods of this package, for maps whose points may have any size. A decoder
works in points of the output's grid; `wsi_engine.models.foreign.model` makes pixels of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from wsi_engine.models import hovernet_decoding, seeds
from wsi_engine.models.dense import decoding, fcn, method, unet
from wsi_engine.models.hovernet_decoding import IDEAL_EXTREMES, SlopeExtremes
from wsi_engine.models.hovernet_scale import scale_at
from wsi_engine.models.label_objects import ObjectLimits, label_predictions, plausible
from wsi_engine.models.starconvex.decoding import CONSENSUS_POINTS
from wsi_engine.models.starconvex.decoding import decode_maps as decode_stars
from wsi_engine.nuclei.predictions import Predictions
from wsi_engine.nuclei.raster import rasterise

Maps = npt.NDArray[np.float32]
"""Shape (height, width, maps)."""

SMALLEST_LABEL = 10
"""Points of the smallest object of a label image that is taken for one."""

RIGHT, DOWN = 1, 2
"""What a point of a label image has in common: nothing, or its object with that neighbour."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a decoder knows beside the maps.

    Attributes
    ----------
    threshold
        Probability from which on a point is nucleus.
    mpp
        Side of a point in µm.
    longest
        Longest side of an object's bounding box, in points.
    extremes
        Slopes of the slide, for HoVer-Net.
    """

    threshold: float
    mpp: float
    longest: int
    extremes: SlopeExtremes = IDEAL_EXTREMES

    @property
    def limits(self) -> ObjectLimits:
        """What an object must be to be a nucleus: as in the dense methods, at this pixel size."""
        side = 0.5 / self.mpp
        return ObjectLimits(
            smallest=max(1, round(method.LIMITS.smallest * side**2)),
            largest=self.longest**2,
            # Outlines run up to half a point around the points.
            longest=self.longest - 1,
            thinnest=method.LIMITS.thinnest * side,
        )


@dataclass(frozen=True, slots=True)
class Decoder:
    """A way from maps to nuclei.

    Attributes
    ----------
    maps
        The maps it takes, in their order, with their number of channels; 0 for any number.
    decode
        Turns the maps of one tile into nuclei, in points.
    reach_points
        How far it looks, at so many µm per point.
    max_overlap
        See `wsi_engine.ModelSpec`.
    """

    maps: Mapping[str, int]
    decode: Callable[[Maps, Reading], Predictions]
    reach_points: Callable[[float], int]
    max_overlap: float = 0.1

    def reach_px(self, mpp: float, grid_px: int) -> int:
        """How far it looks, in model pixels."""
        return grid_px * self.reach_points(mpp * grid_px)


def links_of(labels: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
    """Say of each point of a label image whether it is of an object, and which neighbours are.

    Numbers of labels differ from tile to tile; this does not.

    Parameters
    ----------
    labels
        Shape (height, width), 0 for background.

    Returns
    -------
    numpy.ndarray
        float32, shape (height, width): 0 for background, else 4, and ``RIGHT`` and ``DOWN`` in
        addition where the neighbour on that side has the same label.
    """
    inside = np.greater(labels, 0)
    links = np.where(inside, 4, 0).astype(np.float32)
    links[:, :-1] += RIGHT * (inside[:, :-1] & (labels[:, :-1] == labels[:, 1:]))
    links[:-1] += DOWN * (inside[:-1] & (labels[:-1] == labels[1:]))
    return links


def labels_of(links: npt.NDArray[np.float32]) -> npt.NDArray[np.int32]:
    """Label what hangs together, from what `links_of` returns."""
    height, width = links.shape
    bits = links.astype(np.uint8)
    # Points at even places, and between two of them whether they are one.
    fine = np.zeros((2 * height, 2 * width), bool)
    fine[::2, ::2] = bits > 0
    fine[::2, 1::2] = bits & RIGHT > 0
    fine[1::2, ::2] = bits & DOWN > 0
    return np.asarray(ndimage.label(fine)[0][::2, ::2], np.int32)


def with_classes(found: Predictions, shares: Maps) -> Predictions:
    """Give each nucleus the class with the highest mean over its points.

    Parameters
    ----------
    found
        In points.
    shares
        Probability of each class, shape (height, width, classes).
    """
    owner = rasterise(found.xy, found.offsets, shares.shape[:2]).ravel()
    area = np.bincount(owner, minlength=len(found) + 1)[1:]
    columns = [
        np.bincount(owner, np.clip(share, 0, 1).ravel(), len(found) + 1)[1:]
        for share in np.moveaxis(shares, -1, 0)
    ]
    means = np.stack(columns, axis=1) / np.maximum(area, 1)[:, None]
    known = means.any(axis=1)
    return replace(
        found,
        classes=np.where(known, means.argmax(axis=1), -1).astype(np.int16),
        probabilities=np.clip(means, 0, 1).astype(np.float32),
    )


def _decode_labels(maps: Maps, how: Reading) -> Predictions:
    limits = replace(how.limits, smallest=SMALLEST_LABEL, thinnest=0.0)
    labels = plausible(labels_of(maps[..., 0]), limits)
    scores = np.ones(int(labels.max(initial=0)), np.float32)
    return label_predictions(labels, scores, (labels > 0).astype(np.float32), 0.5)


def _decode_probability(maps: Maps, how: Reading) -> Predictions:
    nucleus = np.ascontiguousarray(_bytes(maps)[..., 0], np.float32)
    mask = decoding.above(nucleus, how.threshold)
    return decoding.nuclei_of(decoding.components(mask), nucleus, how.threshold, how.limits)


def _decode_interior(maps: Maps, how: Reading) -> Predictions:
    return unet.decode(_bytes(maps), how.threshold, how.limits)


def _decode_distance(maps: Maps, how: Reading) -> Predictions:
    coarse = how.mpp / 0.5
    shares = maps * np.array([1, coarse / fcn.DEEPEST_PX], np.float32)
    return fcn.decode(_bytes(shares), how.threshold, how.limits)


def _decode_stars(maps: Maps, how: Reading) -> Predictions:
    probability = np.clip(maps[..., :1], 1e-6, 1 - 1e-6)
    distances = np.maximum(maps[..., 1:], 0.25)
    raw = [
        np.log(probability / (1 - probability)),
        distances + np.log(-np.expm1(-distances)),  # before the softplus
    ]
    return decode_stars(
        np.concatenate(raw, axis=-1),
        threshold=how.threshold,
        max_overlap=DECODERS["star-convex"].max_overlap,
        largest_px=how.longest,
        grid_px=1,
    )


def _decode_hovernet(maps: Maps, how: Reading) -> Predictions:
    scale = replace(scale_at(how.mpp), longest=how.longest - 1)
    return hovernet_decoding.decode_maps(maps, how.extremes, 0, scale)


def _bytes(maps: Maps) -> npt.NDArray[np.uint8]:
    return np.rint(np.clip(maps, 0, 1) * 255).astype(np.uint8)


def _table(maps: dict[str, int]) -> Mapping[str, int]:
    return MappingProxyType(maps)


DECODERS: Mapping[str, Decoder] = MappingProxyType(
    {
        "labels": Decoder(_table({"labels": 1}), _decode_labels, lambda mpp: 1),
        "probability": Decoder(
            _table({"nucleus": 1}), _decode_probability, lambda mpp: decoding.LARGEST_HOLE_PX
        ),
        "interior-boundary": Decoder(
            _table({"interior": 1, "boundary": 1}),
            _decode_interior,
            lambda mpp: decoding.LARGEST_HOLE_PX + decoding.BLUR_REACH_PX,
        ),
        "distance": Decoder(
            _table({"nucleus": 1, "distance": 1}),
            _decode_distance,
            lambda mpp: decoding.LARGEST_HOLE_PX + decoding.BLUR_REACH_PX + seeds.DOME_REACH_PX,
        ),
        "star-convex": Decoder(
            _table({"probability": 1, "distances": 0}),
            _decode_stars,
            lambda mpp: CONSENSUS_POINTS,
            max_overlap=0.3,
        ),
        "hovernet": Decoder(
            _table({"nucleus": 1, "distances": 2}),
            _decode_hovernet,
            lambda mpp: scale_at(mpp).reach_px,
        ),
    }
)
"""The decoders of cards. Probabilities are in [0, 1], distances in points from the border, along
the rays, or, for HoVer-Net, from -1 to 1 within a nucleus."""
