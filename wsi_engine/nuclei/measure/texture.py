"""Texture of the haematoxylin in each nucleus: Haralick's features, gradient, dark clumps."""

from __future__ import annotations

import math
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from wsi_engine.kernels import kernel
from wsi_engine.nuclei.measure.columns import Column, Measurements, by_name
from wsi_engine.nuclei.measure.view import PixelView
from wsi_engine.slide.protocol import RGB
from wsi_engine.slide.stain_vectors import Stains

LEVELS = 32
DARKEST_OD = 1.6
"""Optical densities from 0 to this are cut in `LEVELS` equal steps; what lies outside counts as
the first or the last. Fixed, so that nuclei of all tiles and slides compare."""

CLUMP_FACTOR = 1.2
"""A pixel is dark when it has this many times the mean of its nucleus."""
SMALLEST_CLUMP_PX = 2

T = TypeVar("T")
Floats = npt.NDArray[np.float64]


class Haralick(NamedTuple, Generic[T]):
    """Haralick's features: numbers, or what describes them."""

    angular_second_moment: T
    contrast: T
    correlation: T
    sum_of_squares: T
    inverse_difference_moment: T
    sum_average: T
    sum_variance: T
    sum_entropy: T
    entropy: T
    difference_variance: T
    difference_entropy: T
    information_1: T
    information_2: T


class Chromatin(NamedTuple, Generic[T]):
    """Gradient and clumps: numbers, or the columns that describe them."""

    gradient_mean: T
    gradient_std: T
    dark_fraction: T
    dark_clumps: T


HARALICK_FIELDS, CHROMATIN_FIELDS = len(Haralick._fields), len(Chromatin._fields)

HARALICK = Haralick(
    angular_second_moment=("Angular second moment (F0)", "", "Σ p²"),
    contrast=("Contrast (F1)", "", "Σ (i - j)² p"),
    correlation=("Correlation (F2)", "", "(Σ i j p - μ²) / σ²"),
    sum_of_squares=("Sum of squares (F3)", "", "Σ (i - μ)² p"),
    inverse_difference_moment=("Inverse difference moment (F4)", "", "Σ p / (1 + (i - j)²)"),
    sum_average=("Sum average (F5)", "", "mean of i + j"),
    sum_variance=("Sum variance (F6)", "", "variance of i + j"),
    sum_entropy=("Sum entropy (F7)", "bit", "entropy of i + j"),
    entropy=("Entropy (F8)", "bit", "-Σ p log₂ p"),
    difference_variance=("Difference variance (F9)", "", "variance of |i - j|"),
    difference_entropy=("Difference entropy (F10)", "bit", "entropy of |i - j|"),
    information_1=("Information measure of correlation 1 (F11)", "", "(HXY - HXY1) / HX"),
    information_2=("Information measure of correlation 2 (F12)", "", "√(1 - exp(-2 (HXY2 - HXY)))"),
)
"""Name, unit and formula of each feature."""

_GLCM = (
    f"; p: co-occurrence of {LEVELS} levels from 0 to {DARKEST_OD:g} OD at 1 px in the nucleus, "
    "symmetric; mean of 4 directions"
)
_HARALICK = "Haralick et al., IEEE Trans SMC-3:610 (1973); names: QuPath"
_YOUNG = "after Young, Verbeek & Mayall, Cytometry 7:467 (1986)"


def texture_columns(stains: Stains) -> tuple[Column, ...]:
    """Describe the columns of texture."""
    stain = stains.channels[0]
    return (*_haralick_columns(stain), *_chromatin_columns(stain))


def _haralick_columns(stain: str) -> Haralick[Column]:
    return Haralick(
        *(
            Column(f"{stain}: Haralick {name}", unit, formula + _GLCM, _HARALICK)
            for name, unit, formula in HARALICK
        )
    )


def _chromatin_columns(stain: str) -> Chromatin[Column]:
    dark = f"{stain} at least {CLUMP_FACTOR:g} times the mean of the nucleus"
    gradient = f"length of the gradient of {stain}, by central differences"
    return Chromatin(
        gradient_mean=Column(
            f"{stain}: Gradient mean", "OD/µm", f"mean {gradient}", "central differences"
        ),
        gradient_std=Column(
            f"{stain}: Gradient Std.Dev.",
            "OD/µm",
            f"sample standard deviation of the {gradient}",
            "central differences",
        ),
        dark_fraction=Column(
            "Chromatin: Dark fraction", "", f"share of pixels with {dark}", _YOUNG
        ),
        dark_clumps=Column(
            "Chromatin: Dark clumps",
            "",
            f"number of groups of at least {SMALLEST_CLUMP_PX} adjoining pixels with {dark}",
            _YOUNG,
        ),
    )


def measure_texture(view: PixelView) -> Measurements:
    """Measure the texture of the first stain.

    NaN where a value is not defined: without pixels, or of a correlation where all pixels are
    the same.
    """
    field, sets, stain = view.field, view.pixels, view.stains.channels[0]
    slide = field.inside
    edges = (slide.x, slide.y, slide.x_stop - 1, slide.y_stop - 1)
    haralick = np.full((len(sets), HARALICK_FIELDS), np.nan, np.float32)
    chromatin = np.full((len(sets), CHROMATIN_FIELDS), np.nan, np.float32)
    _texture(
        field.rgb.reshape(-1, 3), field.window.width, edges, sets.index, sets.offsets,
        view.amounts[0], view.stains.table[0], (field.grid.pixel.x, field.grid.pixel.y),
        haralick, chromatin,
    )  # fmt: skip
    return by_name(_haralick_columns(stain), haralick) | by_name(
        _chromatin_columns(stain), chromatin
    )


@kernel
def _texture(
    rgb: RGB,
    width: int,
    edges: tuple[int, int, int, int],
    index: npt.NDArray[np.int64],
    offsets: npt.NDArray[np.int64],
    amounts: npt.NDArray[np.float32],
    table: Floats,
    mpp: tuple[float, float],
    haralick: npt.NDArray[np.float32],
    chromatin: npt.NDArray[np.float32],
) -> None:
    """Measure n nuclei.

    Parameters
    ----------
    rgb, width
        The pixels of the window row by row, shape (q, 3), and how long a row is.
    edges
        First column and row of the window on the slide, and the last.
    index, offsets, amounts
        The pixels of the nuclei as `PixelSets`, and the stain in each, shape (p,).
    table
        Share of each channel's value in the amount of the stain, shape (3, 256).
    mpp
        Pixel size, across and down.
    haralick, chromatin
        Get the fields of `Haralick` and `Chromatin` in place of NaN, shape (n, 13) and (n, 4).
    """
    for i in range(len(offsets) - 1):
        pixels = index[offsets[i] : offsets[i + 1]]
        if len(pixels) == 0:
            continue
        own = amounts[offsets[i] : offsets[i + 1]]
        left, right = width, 0
        for pixel in pixels:
            left, right = min(left, pixel % width), max(right, pixel % width)
        top, bottom = pixels[0] // width, pixels[-1] // width
        # One pixel more on each side, so that no step leads out of the patch.
        levels = np.empty((bottom - top + 3, right - left + 3), np.int8)
        levels[:] = -1
        for k in range(len(pixels)):
            level = min(max(int(own[k] * (LEVELS / DARKEST_OD)), 0), LEVELS - 1)
            levels[pixels[k] // width - top + 1, pixels[k] % width - left + 1] = level
        _haralick(levels, haralick[i])
        gradient_mean, gradient_std = _gradient(rgb, width, edges, pixels, table, mpp)
        dark_fraction, dark_clumps = _clumps(levels, pixels, own, width, top, left)
        told = Chromatin(
            gradient_mean=gradient_mean,
            gradient_std=gradient_std,
            dark_fraction=dark_fraction,
            dark_clumps=float(dark_clumps),
        )
        for f in range(CHROMATIN_FIELDS):
            chromatin[i, f] = told[f]


@kernel
def _haralick(levels: npt.NDArray[np.int8], out: npt.NDArray[np.float32]) -> None:
    """Write the mean over the four directions, shape (13,), where pixels have neighbours.

    Levels of the pixels are framed by -1, which also stands for what is not in the nucleus.
    """
    total, counts = np.empty(HARALICK_FIELDS), np.empty((LEVELS, LEVELS), np.int32)
    total[:] = 0.0
    used = 0
    for dy, dx in ((0, 1), (1, 1), (1, 0), (1, -1)):
        counts[:] = 0
        pairs = np.int64(0)
        for y in range(1, levels.shape[0] - 1):
            for x in range(1, levels.shape[1] - 1):
                a, b = levels[y, x], levels[y + dy, x + dx]
                if a >= 0 and b >= 0:
                    # The matrix is symmetric: its upper half holds both.
                    counts[min(a, b), max(a, b)] += 1
                    pairs += 1
        if pairs:
            features = _features(counts, pairs)
            for f in range(len(features)):
                total[f] += features[f]
            used += 1
    if used:
        for f in range(HARALICK_FIELDS):
            out[f] = total[f] / used


@kernel
def _features(counts: npt.NDArray[np.int32], pairs: int) -> Haralick[float]:
    """Haralick's features of a symmetric matrix, from the counts of unordered pairs.

    The counts have shape (LEVELS, LEVELS); only their upper half is filled.
    """
    marginal, differences = np.empty(LEVELS), np.empty(LEVELS)
    sums = np.empty(2 * LEVELS - 1)
    marginal[:], differences[:], sums[:] = 0.0, 0.0, 0.0
    asm = homogeneity = product = entropy = 0.0
    for i in range(LEVELS):
        for j in range(i, LEVELS):
            if counts[i, j] == 0:
                continue
            # A pair counts in either order; on the diagonal there is but one.
            both = counts[i, j] / pairs
            p = both if i == j else both / 2
            marginal[i] += both / 2
            marginal[j] += both / 2
            sums[i + j] += both
            differences[j - i] += both
            asm += both * p
            homogeneity += both / (1 + (j - i) ** 2)
            product += (i + 1) * (j + 1) * both
            entropy -= both * math.log2(p)
    mean, variance = _moments(marginal, 1.0)
    difference_mean, difference_variance = _moments(differences, 0.0)
    marginal_entropy = _entropy(marginal)
    # HXY1 and HXY2 are both twice the marginal entropy, the matrix being symmetric.
    information = max(2 * marginal_entropy - entropy, 0.0)
    sum_mean, sum_variance = _moments(sums, 2.0)
    return Haralick(
        angular_second_moment=asm,
        contrast=difference_variance + difference_mean**2,
        correlation=(product - mean**2) / variance if variance > 0 else math.nan,
        sum_of_squares=variance,
        inverse_difference_moment=homogeneity,
        sum_average=sum_mean,
        sum_variance=sum_variance,
        sum_entropy=_entropy(sums),
        entropy=entropy,
        difference_variance=difference_variance,
        difference_entropy=_entropy(differences),
        information_1=-information / marginal_entropy if marginal_entropy > 0 else math.nan,
        information_2=math.sqrt(1 - math.exp(-2 * information)),
    )


@kernel
def _moments(p: Floats, first: float) -> tuple[float, float]:
    """Mean and variance of a distribution (k,) over first, first + 1, ..."""
    mean = variance = 0.0
    for k in range(len(p)):
        mean += (k + first) * p[k]
    for k in range(len(p)):
        variance += (k + first - mean) ** 2 * p[k]
    return mean, variance


@kernel
def _entropy(p: Floats) -> float:
    """Entropy of a distribution (k,) in bits."""
    total = 0.0
    for value in p:
        if value > 0:
            total -= value * math.log2(value)
    return total


@kernel
def _gradient(
    rgb: RGB,
    width: int,
    edges: tuple[int, int, int, int],
    pixels: npt.NDArray[np.int64],
    table: Floats,
    mpp: tuple[float, float],
) -> tuple[float, float]:
    """Return mean and standard deviation; beyond the edge of the slide its last pixel repeats.

    Parameters are those of `_texture`, for the pixels (k,) of one nucleus.
    """
    total = squares = 0.0
    for pixel in pixels:
        y, x = pixel // width, pixel % width
        left = pixel - 1 if x > edges[0] else pixel
        above = pixel - width if y > edges[1] else pixel
        right = pixel + 1 if x < edges[2] else pixel
        below = pixel + width if y < edges[3] else pixel
        dx = _amount(rgb, right, table) - _amount(rgb, left, table)
        dy = _amount(rgb, below, table) - _amount(rgb, above, table)
        steep = math.hypot(dx / (2 * mpp[0]), dy / (2 * mpp[1]))
        total += steep
        squares += steep * steep
    count = len(pixels)
    if count == 1:
        return total, math.nan
    return total / count, math.sqrt(max(squares - total * total / count, 0.0) / (count - 1))


@kernel
def _amount(rgb: RGB, pixel: int, table: Floats) -> float:
    """Amount of a stain in one pixel of (q, 3), by a table (3, 256)."""
    return table[0, rgb[pixel, 0]] + table[1, rgb[pixel, 1]] + table[2, rgb[pixel, 2]]


@kernel
def _clumps(
    patch: npt.NDArray[np.int8],
    pixels: npt.NDArray[np.int64],
    own: npt.NDArray[np.float32],
    width: int,
    top: int,
    left: int,
) -> tuple[float, int]:
    """Share of dark pixels and number of their groups (eight neighbours).

    The patch has room for the nucleus and a frame of one pixel, and is overwritten; its pixels
    (k,) in the window have amounts (k,) of the stain.
    """
    total = 0.0
    for value in own:
        total += value
    threshold = CLUMP_FACTOR * total / len(own)
    patch[:] = 0
    dark = 0
    for k in range(len(pixels)):
        if own[k] >= threshold and own[k] > 0:
            patch[pixels[k] // width - top + 1, pixels[k] % width - left + 1] = 1
            dark += 1
    stack = np.empty((dark + 1, 2), np.int64)
    clumps = 0
    for y in range(1, patch.shape[0] - 1):
        for x in range(1, patch.shape[1] - 1):
            if patch[y, x] == 0:
                continue
            patch[y, x] = 0
            stack[0, 0], stack[0, 1] = y, x
            waiting, size = 1, 0
            while waiting:
                waiting -= 1
                size += 1
                v, u = stack[waiting, 0], stack[waiting, 1]
                for b in range(v - 1, v + 2):
                    for a in range(u - 1, u + 2):
                        if patch[b, a]:
                            patch[b, a] = 0
                            stack[waiting, 0], stack[waiting, 1] = b, a
                            waiting += 1
            clumps += size >= SMALLEST_CLUMP_PX
    return dark / len(pixels), clumps
