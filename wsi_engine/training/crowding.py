"""Nuclei put beside others: crowds of more, and of smaller, nuclei than were annotated.

Copy-paste after Ghiasi et al., "Simple copy-paste is a strong data augmentation method for
instance segmentation", CVPR 2021. A nucleus is carried over in optical density relative to
what surrounds it, so that it takes the stain of its new place; and it is put under what is
there, so that no nucleus that somebody drew is cut.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.ndimage import distance_transform_edt, find_objects, gaussian_filter

from wsi_engine.evaluation.images import UNKNOWN
from wsi_engine.training.config import AugmentConfig
from wsi_engine.training.scene import Float32, Scene

# Around a nucleus this is carried over too, fading out: its boundary is part of its look.
_RIM_UM = 0.75
# Less of a nucleus than this beside others, and it is not put there.
_LEAST_SHOWN = 0.7
_LARGEST_UM = 16.0
_SMALLEST_PX = 8
# From fewer pixels of ground its stain is not known.
_LEAST_GROUND = 8


def crowd(scene: Scene, rng: np.random.Generator, config: AugmentConfig) -> None:
    """Put copies of a crop's nuclei beside its nuclei, in a share of the crops."""
    if config.crowded <= 0 or rng.random() >= config.crowded:
        return
    boxes = _boxes(scene)
    if not boxes:
        return
    density = -np.log((np.clip(scene.image, 0, 255) + 1) / 256)
    wanted = int(rng.integers(2, 3 + max(2, min(40, len(boxes)))))
    smaller = math.exp(rng.uniform(math.log(0.5), 0.0))
    before = density.copy()
    for _ in range(wanted):
        _put_one(scene, density, boxes, smaller, rng)
    scene.change((density != before).any(axis=2))
    scene.image = np.asarray(256 * np.exp(-density) - 1, np.float32)


def _boxes(scene: Scene) -> list[tuple[int, tuple[slice, slice]]]:
    """Return label and box, in the labels of the crop, of the nuclei that are seen whole."""
    inner = scene.inner
    limit = _LARGEST_UM / scene.mpp * scene.finer
    edge = math.ceil(_RIM_UM / scene.mpp) * scene.finer
    height, width = inner.shape
    found = []
    known = np.where(inner == UNKNOWN, 0, inner).astype(np.int32)
    for label, box in enumerate(find_objects(known), start=1):
        if box is None:
            continue
        rows, columns = box
        sides = rows.stop - rows.start, columns.stop - columns.start
        inside = (
            min(rows.start, columns.start) > edge
            and rows.stop < height - edge
            and columns.stop < width - edge
        )
        if inside and max(sides) <= limit and min(sides) >= _SMALLEST_PX:
            found.append((label, box))
    return found


@dataclass(frozen=True, slots=True)
class _Piece:
    """A nucleus that was cut out.

    Attributes
    ----------
    density
        Optical density beyond that of its surroundings, (h, w, 3).
    mask
        Where it is, in labels, (h * finer, w * finer).
    alpha
        How much of each pixel is carried over, (h, w).
    """

    density: Float32
    mask: npt.NDArray[np.bool_]
    alpha: Float32


def _put_one(
    scene: Scene,
    density: Float32,
    boxes: list[tuple[int, tuple[slice, slice]]],
    smaller: float,
    rng: np.random.Generator,
) -> None:
    """Put a copy of one nucleus beside another, if there is room for it."""
    label, box = boxes[rng.integers(len(boxes))]
    _, beside = boxes[rng.integers(len(boxes))]
    piece = _cut(scene, density, label, box, smaller * rng.uniform(0.85, 1.15), rng)
    if piece is None:
        return
    finer, (height, width) = scene.finer, piece.alpha.shape
    top, left = _corner(piece, beside, finer, rng)
    whole_height, whole_width = scene.image.shape[:2]
    if min(top, left) < 0 or top + height > whole_height or left + width > whole_width:
        return
    place = np.s_[top : top + height, left : left + width]
    fine = np.s_[top * finer : (top + height) * finer, left * finer : (left + width) * finer]
    there = scene.inner[fine]
    shown = piece.mask & (there == 0)
    if (there == UNKNOWN).any() or shown.sum() < _LEAST_SHOWN * piece.mask.sum():
        return
    around = _surroundings(density[place], there, piece.mask, finer)
    if around is None:
        return
    free = (there == 0).reshape(height, finer, width, finer).mean(axis=(1, 3))
    alpha = (piece.alpha * free).astype(np.float32)
    density[place] += alpha[..., None] * (piece.density + around - density[place])
    scene.add(fine, shown, int(scene.classes[label]))


def _corner(
    piece: _Piece, beside: tuple[slice, slice], finer: int, rng: np.random.Generator
) -> tuple[int, int]:
    """Draw row and column of a piece's first pixel, so that it touches a box or nearly so."""
    angle = rng.uniform(0, 2 * math.pi)
    radius = sum(side.stop - side.start for side in beside) / 4 / finer
    own = math.sqrt(piece.mask.sum() / math.pi) / finer
    apart = (radius + own) * rng.uniform(0.85, 1.3)
    row, column = (
        (side.start + side.stop) / 2 / finer + apart * part - size / 2
        for side, part, size in zip(
            beside, (math.sin(angle), math.cos(angle)), piece.alpha.shape, strict=True
        )
    )
    return round(row), round(column)


def _surroundings(
    density: Float32, labels: npt.NDArray[np.uint16], mask: npt.NDArray[np.bool_], finer: int
) -> Float32 | None:
    """Return the median optical density, (3,), of what is no nucleus beside a mask."""
    first = finer // 2
    ground = (labels == 0)[first::finer, first::finer]
    away = ground & ~mask[first::finer, first::finer]
    for candidates in (away, ground):
        if candidates.sum() >= _LEAST_GROUND:
            return np.asarray(np.median(density[candidates], axis=0), np.float32)
    return None


def _cut(
    scene: Scene,
    density: Float32,
    label: int,
    box: tuple[slice, slice],
    factor: float,
    rng: np.random.Generator,
) -> _Piece | None:
    """Cut out a nucleus, turned and scaled at random; nothing where no ground is around it."""
    finer = scene.finer
    rim = math.ceil(_RIM_UM / scene.mpp)
    rows, columns = (slice(side.start // finer - rim, -(-side.stop // finer) + rim) for side in box)
    if rows.start < 0 or columns.start < 0:
        return None
    pixels = density[rows, columns]
    labels = scene.inner[
        rows.start * finer : rows.stop * finer, columns.start * finer : columns.stop * finer
    ]
    mask = labels == label
    if labels.shape != (pixels.shape[0] * finer, pixels.shape[1] * finer):
        return None
    around = _surroundings(pixels, labels, mask, finer)
    if around is None:
        return None
    pixels = pixels - around
    # Neighbours in the box would come along with the rim.
    pixels[((labels != 0) & ~mask)[finer // 2 :: finer, finer // 2 :: finer]] = 0
    if rng.random() < 0.5:
        pixels, mask = pixels[::-1], mask[::-1]
    turns = int(rng.integers(4))
    pixels, mask = np.rot90(pixels, turns), np.rot90(mask, turns)
    pixels, mask = _scaled(pixels, mask, min(1.0, factor), finer)
    if mask.sum() < _SMALLEST_PX:
        return None
    distance = distance_transform_edt(~mask) / finer * scene.mpp
    share = np.clip(1 - distance / _RIM_UM, 0, 1)
    alpha = share.reshape(pixels.shape[0], finer, pixels.shape[1], finer).mean(axis=(1, 3))
    return _Piece(pixels, mask, np.asarray(gaussian_filter(alpha, 0.5), np.float32))


def _scaled(
    pixels: Float32, mask: npt.NDArray[np.bool_], factor: float, finer: int
) -> tuple[Float32, npt.NDArray[np.bool_]]:
    height, width = (max(3, round(side * factor)) for side in pixels.shape[:2])
    if (height, width) == pixels.shape[:2]:
        return np.ascontiguousarray(pixels), np.ascontiguousarray(mask)
    channels = [
        np.asarray(
            Image.fromarray(np.ascontiguousarray(channel)).resize(
                (width, height), Image.Resampling.BOX
            )
        )
        for channel in np.moveaxis(pixels, 2, 0)
    ]
    smaller = Image.fromarray(np.ascontiguousarray(mask).astype(np.uint8) * 255).resize(
        (width * finer, height * finer), Image.Resampling.BOX
    )
    return np.stack(channels, axis=2), np.asarray(smaller) > 127
