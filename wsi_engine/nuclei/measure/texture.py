"""Texture of the haematoxylin in each nucleus: Haralick's features, gradient, dark clumps."""

from __future__ import annotations

import math

import numba
import numpy as np
import numpy.typing as npt

from wsi_engine.nuclei.measure.columns import Column
from wsi_engine.nuclei.measure.pixels import Field, PixelSets
from wsi_engine.slide.stain_vectors import Stains

LEVELS = 32
DARKEST_OD = 1.6
"""Optical densities from 0 to this are cut in `LEVELS` equal steps; what lies outside counts as
the first or the last. Fixed, so that nuclei of all tiles and slides compare."""

CLUMP_FACTOR = 1.2
"""A pixel is dark when it has this many times the mean of its nucleus."""
SMALLEST_CLUMP_PX = 2

HARALICK = (
    ("Angular second moment (F0)", "", "Σ p²"),
    ("Contrast (F1)", "", "Σ (i - j)² p"),
    ("Correlation (F2)", "", "(Σ i j p - μ²) / σ²"),
    ("Sum of squares (F3)", "", "Σ (i - μ)² p"),
    ("Inverse difference moment (F4)", "", "Σ p / (1 + (i - j)²)"),
    ("Sum average (F5)", "", "mean of i + j"),
    ("Sum variance (F6)", "", "variance of i + j"),
    ("Sum entropy (F7)", "bit", "entropy of i + j"),
    ("Entropy (F8)", "bit", "-Σ p log₂ p"),
    ("Difference variance (F9)", "", "variance of |i - j|"),
    ("Difference entropy (F10)", "bit", "entropy of |i - j|"),
    ("Information measure of correlation 1 (F11)", "", "(HXY - HXY1) / HX"),
    ("Information measure of correlation 2 (F12)", "", "√(1 - exp(-2 (HXY2 - HXY)))"),
)

_GLCM = (
    f"; p: co-occurrence of {LEVELS} levels from 0 to {DARKEST_OD:g} OD at 1 px in the nucleus, "
    "symmetric; mean of 4 directions"
)
_HARALICK = "Haralick et al., IEEE Trans SMC-3:610 (1973); names: QuPath"
_YOUNG = "after Young, Verbeek & Mayall, Cytometry 7:467 (1986)"


def texture_columns(stains: Stains) -> tuple[Column, ...]:
    """Describe the columns of texture."""
    stain = stains.channels[0]
    dark = f"{stain} at least {CLUMP_FACTOR:g} times the mean of the nucleus"
    haralick = [
        Column(f"{stain}: Haralick {name}", unit, formula + _GLCM, _HARALICK)
        for name, unit, formula in HARALICK
    ]
    gradient = f"length of the gradient of {stain}, by central differences"
    return (
        *haralick,
        Column(f"{stain}: Gradient mean", "OD/µm", f"mean {gradient}", "central differences"),
        Column(
            f"{stain}: Gradient Std.Dev.",
            "OD/µm",
            f"sample standard deviation of the {gradient}",
            "central differences",
        ),
        Column("Chromatin: Dark fraction", "", f"share of pixels with {dark}", _YOUNG),
        Column(
            "Chromatin: Dark clumps",
            "",
            f"number of groups of at least {SMALLEST_CLUMP_PX} adjoining pixels with {dark}",
            _YOUNG,
        ),
    )


def measure_texture(
    field: Field, sets: PixelSets, amounts: npt.NDArray[np.float32], stains: Stains
) -> npt.NDArray[np.float32]:
    """Measure the texture of the first stain.

    Parameters
    ----------
    field
        For the pixels around a nucleus, where the gradient needs them.
    sets, amounts
        Pixels of the nuclei, and the amount of the first stain in each, shape (p,).
    stains
        By which those were found.

    Returns
    -------
    ndarray
        float32, shape (n, len(texture_columns)); NaN where a value is not defined: without
        pixels, or of a correlation where all pixels are the same.
    """
    slide = field.inside
    edges = (slide.x, slide.y, slide.x_stop - 1, slide.y_stop - 1)
    return _texture(
        field.rgb.reshape(-1, 3), field.window.width, edges,
        sets.index, sets.offsets, amounts, stains.table[0], field.grid.mpp,
    )  # fmt: skip


@numba.njit(nogil=True, cache=True)
def _texture(rgb, width, edges, index, offsets, amounts, table, mpp):  # type: ignore[no-untyped-def]
    count = len(offsets) - 1
    out = np.full((count, len(HARALICK) + 4), np.nan, np.float32)
    features = np.empty(len(HARALICK))
    for i in range(count):
        pixels = index[offsets[i] : offsets[i + 1]]
        if len(pixels) == 0:
            continue
        own = amounts[offsets[i] : offsets[i + 1]]
        left, right = width, 0
        for pixel in pixels:
            left, right = min(left, pixel % width), max(right, pixel % width)
        top, bottom = pixels[0] // width, pixels[-1] // width
        # One pixel more on each side, so that no step leads out of the patch.
        levels = np.full((bottom - top + 3, right - left + 3), -1, np.int8)
        for k in range(len(pixels)):
            level = min(max(int(own[k] * (LEVELS / DARKEST_OD)), 0), LEVELS - 1)
            levels[pixels[k] // width - top + 1, pixels[k] % width - left + 1] = level
        if _haralick(levels, features):
            for f in range(len(HARALICK)):
                out[i, f] = features[f]
        tail = out[i, len(HARALICK) :]
        _gradient(rgb, width, edges, pixels, table, mpp, tail)
        tail[2], tail[3] = _clumps(levels, pixels, own, width, top, left)
    return out


@numba.njit(nogil=True, cache=True)
def _haralick(levels, out):  # type: ignore[no-untyped-def]
    """Write the mean over the four directions; return whether there are any neighbours."""
    out[:] = 0.0
    used = 0
    one = np.empty(len(HARALICK))
    for dy, dx in ((0, 1), (1, 1), (1, 0), (1, -1)):
        counts = np.zeros((LEVELS, LEVELS), np.int32)
        pairs = 0
        for y in range(1, levels.shape[0] - 1):
            for x in range(1, levels.shape[1] - 1):
                a, b = levels[y, x], levels[y + dy, x + dx]
                if a >= 0 and b >= 0:
                    # The matrix is symmetric: its upper half holds both.
                    counts[min(a, b), max(a, b)] += 1
                    pairs += 1
        if pairs:
            _features(counts, pairs, one)
            out += one
            used += 1
    out /= max(used, 1)
    return used > 0


@numba.njit(nogil=True, cache=True)
def _features(counts, pairs, out):  # type: ignore[no-untyped-def]
    """Haralick's features of a symmetric matrix, from the counts of unordered pairs."""
    marginal = np.zeros(LEVELS)
    sums = np.zeros(2 * LEVELS - 1)
    differences = np.zeros(LEVELS)
    asm = homogeneity = product = entropy = 0.0
    for i in range(LEVELS):
        for j in range(i, LEVELS):
            if counts[i, j] == 0:
                continue
            # Of the pair in either order; on the diagonal there is but one.
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
    mean, variance = _moments(marginal, 1)
    difference_mean, difference_variance = _moments(differences, 0)
    marginal_entropy = _entropy(marginal)
    # HXY1 and HXY2 are both twice the marginal entropy, the matrix being symmetric.
    information = max(2 * marginal_entropy - entropy, 0.0)
    out[0] = asm
    out[1] = difference_variance + difference_mean**2
    out[2] = (product - mean**2) / variance if variance > 0 else math.nan
    out[3] = variance
    out[4] = homogeneity
    out[5], out[6] = _moments(sums, 2)
    out[7] = _entropy(sums)
    out[8] = entropy
    out[9] = difference_variance
    out[10] = _entropy(differences)
    out[11] = -information / marginal_entropy if marginal_entropy > 0 else math.nan
    out[12] = math.sqrt(1 - math.exp(-2 * information))


@numba.njit(nogil=True, cache=True)
def _moments(p, first):  # type: ignore[no-untyped-def]
    """Mean and variance of a distribution over first, first + 1, ..."""
    mean = variance = 0.0
    for k in range(len(p)):
        mean += (k + first) * p[k]
    for k in range(len(p)):
        variance += (k + first - mean) ** 2 * p[k]
    return mean, variance


@numba.njit(nogil=True, cache=True)
def _entropy(p):  # type: ignore[no-untyped-def]
    total = 0.0
    for value in p:
        if value > 0:
            total -= value * math.log2(value)
    return total


@numba.njit(nogil=True, cache=True)
def _gradient(rgb, width, edges, pixels, table, mpp, out):  # type: ignore[no-untyped-def]
    """Write mean and standard deviation; beyond the edge of the slide its last pixel repeats."""
    total = squares = 0.0
    for pixel in pixels:
        y, x = pixel // width, pixel % width
        left = pixel - 1 if x > edges[0] else pixel
        above = pixel - width if y > edges[1] else pixel
        right = pixel + 1 if x < edges[2] else pixel
        below = pixel + width if y < edges[3] else pixel
        dx = _amount(rgb, right, table) - _amount(rgb, left, table)
        dy = _amount(rgb, below, table) - _amount(rgb, above, table)
        steep = math.hypot(dx, dy) / (2 * mpp)
        total += steep
        squares += steep * steep
    count = len(pixels)
    out[0] = total / count
    if count > 1:
        out[1] = math.sqrt(max(squares - total * total / count, 0.0) / (count - 1))


@numba.njit(nogil=True, cache=True)
def _amount(rgb, pixel, table):  # type: ignore[no-untyped-def]
    return table[0, rgb[pixel, 0]] + table[1, rgb[pixel, 1]] + table[2, rgb[pixel, 2]]


@numba.njit(nogil=True, cache=True)
def _clumps(patch, pixels, own, width, top, left):  # type: ignore[no-untyped-def]
    """Share of dark pixels and number of their groups (eight neighbours); uses up the patch."""
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
            stack[0] = y, x
            waiting, size = 1, 0
            while waiting:
                waiting -= 1
                size += 1
                v, u = stack[waiting]
                for b in range(v - 1, v + 2):
                    for a in range(u - 1, u + 2):
                        if patch[b, a]:
                            patch[b, a] = 0
                            stack[waiting] = b, a
                            waiting += 1
            clumps += size >= SMALLEST_CLUMP_PX
    return dark / len(pixels), clumps
