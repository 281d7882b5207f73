"""Nuclei put beside others: crowds of more, and of smaller, nuclei than were annotated.

Copy-paste after Ghiasi et al., "Simple copy-paste is a strong data augmentation method for
instance segmentation", CVPR 2021. A nucleus is carried over in optical density relative to
what surrounds it, so that it takes the stain of its new place; and it is put under what is
there, so that no nucleus that somebody drew is cut.
"""

from __future__ import annotations

import math

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


def _put_one(
    scene: Scene,
    density: Float32,
    boxes: list[tuple[int, tuple[slice, slice]]],
    smaller: float,
    rng: np.random.Generator,
) -> None:
    label, box = boxes[rng.integers(len(boxes))]
    _, beside = boxes[rng.integers(len(boxes))]
    pixels, mask, alpha = _cut(scene, density, label, box, smaller * rng.uniform(0.85, 1.15), rng)
    if mask is None or pixels is None or alpha is None:
        return
    finer, inner = scene.finer, scene.inner
    angle = rng.uniform(0, 2 * math.pi)
    middle = [(side.start + side.stop) / 2 / finer for side in beside]
    radius = sum(side.stop - side.start for side in beside) / 4 / finer
    own = math.sqrt(mask.sum() / math.pi) / finer
    apart = (radius + own) * rng.uniform(0.85, 1.3)
    top = round(middle[0] + apart * math.sin(angle) - alpha.shape[0] / 2)
    left = round(middle[1] + apart * math.cos(angle) - alpha.shape[1] / 2)
    height, width = scene.image.shape[:2]
    if min(top, left) < 0 or top + alpha.shape[0] > height or left + alpha.shape[1] > width:
        return
    place = np.s_[top : top + alpha.shape[0], left : left + alpha.shape[1]]
    fine = np.s_[
        top * finer : (top + alpha.shape[0]) * finer, left * finer : (left + alpha.shape[1]) * finer
    ]
    there = inner[fine]
    shown = mask & (there == 0)
    if (there == UNKNOWN).any() or shown.sum() < _LEAST_SHOWN * mask.sum():
        return
    free = (there == 0).reshape(alpha.shape[0], finer, alpha.shape[1], finer).mean(axis=(1, 3))
    alpha = alpha * np.asarray(free, np.float32)
    around = _surroundings(density[place], there, mask, finer)
    if around is None:
        return
    density[place] += alpha[..., None] * (pixels + around - density[place])
    scene.add(fine, shown, int(scene.classes[label]))


def _surroundings(
    density: Float32,
    labels: npt.NDArray[np.uint16],
    mask: npt.NDArray[np.bool_],
    finer: int,
) -> Float32 | None:
    """Return the median optical density, (3,), of what is no nucleus beside a mask."""
    away = ((labels == 0) & ~mask)[finer // 2 :: finer, finer // 2 :: finer]
    if away.sum() < 8:
        away = (labels == 0)[finer // 2 :: finer, finer // 2 :: finer]
    if away.sum() < 8:
        return None
    return np.asarray(np.median(density[away], axis=0), np.float32)


def _cut(
    scene: Scene,
    density: Float32,
    label: int,
    box: tuple[slice, slice],
    factor: float,
    rng: np.random.Generator,
) -> tuple[Float32 | None, npt.NDArray[np.bool_] | None, Float32 | None]:
    """Cut out a nucleus, turned and scaled at random.

    Returns
    -------
    density, mask, alpha
        Optical density beyond that of the surroundings (h, w, 3); where the nucleus is, in
        labels (h * finer, w * finer); how much of each pixel is carried over (h, w).
    """
    finer, inner = scene.finer, scene.inner
    rim = math.ceil(_RIM_UM / scene.mpp)
    rows, columns = (slice(side.start // finer - rim, -(-side.stop // finer) + rim) for side in box)
    if rows.start < 0 or columns.start < 0:
        return None, None, None
    pixels = density[rows, columns]
    labels = inner[
        rows.start * finer : rows.stop * finer, columns.start * finer : columns.stop * finer
    ]
    if labels.shape != (pixels.shape[0] * finer, pixels.shape[1] * finer):
        return None, None, None
    mask = labels == label
    around = _surroundings(pixels, labels, mask, finer)
    if around is None:
        return None, None, None
    # Neighbours in the box would come along with the rim.
    others = ((labels != 0) & ~mask)[finer // 2 :: finer, finer // 2 :: finer]
    pixels = pixels - around
    pixels[others] = 0
    if rng.random() < 0.5:
        pixels, mask = pixels[::-1], mask[::-1]
    turns = int(rng.integers(4))
    pixels, mask = np.rot90(pixels, turns), np.rot90(mask, turns)
    pixels, mask = _scaled(pixels, mask, min(1.0, factor), finer)
    if mask.sum() < _SMALLEST_PX:
        return None, None, None
    distance = distance_transform_edt(~mask) / finer * scene.mpp
    share = np.clip(1 - distance / _RIM_UM, 0, 1)
    height, width = pixels.shape[:2]
    alpha = share.reshape(height, finer, width, finer).mean(axis=(1, 3))
    return pixels, mask, np.asarray(gaussian_filter(alpha, 0.5), np.float32)


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
