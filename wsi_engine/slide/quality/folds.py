"""Folded tissue: bands in which the section lies on itself.

Layers of the same tissue add their optical densities: a fold is darker and more saturated than
what is beside it, and of the same hue. Epithelium, keratin and blood are as dark, but of another
hue than the tissue around or than the slide as a whole; lymph follicles are not bands. A fold in
pale tissue, or of a hue that is not the slide's, is missed rather than a gland called a fold: of
bands in which tissue of TCGA-V5 and TCGA-CR was laid on itself (30 to 100 µm wide), 14 of 18 with
three layers were found, 6 of 18 with two, none on CMU-1 and tnbc; on all four, nothing else was.

References
----------
Palokangas S, Selinummi J, Yli-Harja O. Segmentation of folds in tissue section images. EMBS
2007:5641-5644. Kothari S, Phan JH, Wang MD. Eliminating tissue-fold artifacts in histopathological
whole-slide images. J Pathol Inform 4:22, 2013.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from wsi_engine.slide.quality.flag import Flag, level_of
from wsi_engine.slide.quality.overview import Overview
from wsi_engine.slide.tissue import Mask

SMOOTHING_UM = 8.0
"""Nuclei melt into their tissue; a fold is at least three times as wide."""

SURROUNDINGS_UM = 250.0
DARKER = 1.5
"""Where folds are looked for: this much darker than the tissue within a few hundred µm, the
fold itself included."""

BESIDE_UM = (12.0, 50.0)
LAYERS = 1.75
"""Mean density of a fold against that of the tissue beside it. Two layers measured 1.87 to 2.3,
three 2.4 to 2.9 (tissue of two real slides laid on itself)."""

LARGEST_HUE_BESIDE, LARGEST_HUE_SLIDE = np.radians(3.0), np.radians(4.0)
"""Angle between the optical densities of a fold and of the tissue beside it, and of the slide's
median tissue. Folds measured up to 1° and 0.5°; the dark keratin of CMU-1 1.3° to 7°, and 5.5° to
7.5°."""

PALEST_OD = 0.35
SMALLEST_FOLD_UM2 = 10_000.0
SMALLEST_ELONGATION = 3.0
"""Area over squared width. The darkest epithelium of TCGA-V5 that passes all else has 7,300 µm²."""

SHARE_BAD = 0.02
"""Share of the tissue that is folded."""


def folds_flag(overview: Overview, tissue: Mask) -> Flag:
    """Say how much of the tissue is folded.

    Parameters
    ----------
    overview
        Overview of the slide.
    tissue
        Tissue on it.
    """
    folds = find_folds(overview, tissue)
    if not folds.any():
        return Flag("folds", "ok", 0.0, "%", "No folds were found.")
    share = overview.area_mm2(folds) / overview.area_mm2(tissue)
    where = overview.polygons_of(folds)
    sentence = (
        f"{len(where)} fold{'s' if len(where) > 1 else ''}, {100 * share:.1f} % of the tissue: "
        "nuclei of several layers are seen as one."
    )
    level = level_of(share, 0.0, SHARE_BAD)
    return Flag("folds", level, round(100 * share, 2), "%", sentence, where)


def find_folds(overview: Overview, tissue: Mask) -> Mask:
    """Return which pixels are folded, shape (height, width)."""
    if not tissue.any():
        return tissue
    mpp = overview.grid.mpp
    sigma = max(SMOOTHING_UM / mpp, 0.7)
    density = ndimage.gaussian_filter(overview.density, sigma, axes=(0, 1))
    darkness = density.mean(axis=2)
    dark = tissue & (darkness > PALEST_OD)
    dark &= darkness > DARKER * _mean_around(darkness, tissue, SURROUNDINGS_UM / mpp)
    typical = np.median(density[tissue], axis=0)
    labels, _ = ndimage.label(dark, np.ones((3, 3)))
    folds = np.zeros_like(dark)
    reach = int(np.ceil(BESIDE_UM[1] / mpp)) + 1
    for number, place in enumerate(ndimage.find_objects(labels), start=1):
        window = tuple(slice(max(side.start - reach, 0), side.stop + reach) for side in place)
        one = labels[window] == number
        if one.sum() * mpp**2 >= SMALLEST_FOLD_UM2 and _is_band(one):
            distance = ndimage.distance_transform_edt(~one) * mpp
            beside = (distance > BESIDE_UM[0]) & (distance < BESIDE_UM[1])
            beside &= tissue[window] & ~dark[window]
            if _is_fold(density[window][one], density[window][beside], typical):
                folds[window] |= one
    return folds


def _mean_around(
    values: npt.NDArray[np.float32], tissue: Mask, sigma: float
) -> npt.NDArray[np.float32]:
    """Return the mean of the tissue around each pixel."""
    # Three boxes come near a Gaussian, and their cost does not grow with its width.
    side = max(1, round(2 * sigma))
    weight, total = tissue.astype(np.float32), np.where(tissue, values, np.float32(0))
    for _ in range(3):
        weight, total = (ndimage.uniform_filter(one, side) for one in (weight, total))
    return np.asarray(total / np.maximum(weight, 1e-3))


def _is_band(shape: Mask) -> bool:
    width = 2 * ndimage.distance_transform_edt(np.pad(shape, 1)).max()
    return bool(shape.sum() >= SMALLEST_ELONGATION * width**2)


def _is_fold(
    fold: npt.NDArray[np.float32],
    beside: npt.NDArray[np.float32],
    typical: npt.NDArray[np.float32],
) -> bool:
    """Tell layers of the same tissue from dark tissue; densities of shape (n, 3) and (3,)."""
    if len(beside) == 0:
        return False
    here, there = fold.mean(axis=0), beside.mean(axis=0)
    return bool(
        here.mean() >= LAYERS * there.mean()
        and _angle(here, there) <= LARGEST_HUE_BESIDE
        and _angle(here, typical) <= LARGEST_HUE_SLIDE
    )


def _angle(one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> float:
    cosine = one @ other / (np.linalg.norm(one) * np.linalg.norm(other))
    return float(np.arccos(np.clip(cosine, -1, 1)))
