"""The numbers of regions: counts, densities, classes, distributions, arrangement.

A nucleus counts in every region that holds its anchor; one that another program has put outside of
the slide counts in none. Nuclei are taken in the order of their
places and values in theirs, so that no number depends on how the slide was tiled. Memory: the
anchors and one column of the nuclei at a time, and 4 bytes per nucleus and region.
"""

from __future__ import annotations

import cmath
import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import combinations_with_replacement

import numpy as np
import numpy.typing as npt
import shapely

from wsi_engine.nuclei.measure.adjacency import neighbour_pairs
from wsi_engine.nuclei.measure.columns import Column
from wsi_engine.regions.positive import intensity_figures
from wsi_engine.regions.spatial import clark_evans, neighbourhood_enrichment, ripley_l
from wsi_engine.results.finished import SlideResult
from wsi_engine.results.region import Region, areal
from wsi_engine.slide.frames import Mpp

log = logging.getLogger(__name__)

Figures = dict[Column, float]
"""Values by what they mean, in the order of the table; NaN is missing."""

Members = npt.NDArray[np.uint32]

RIPLEY_RADII_UM = (10.0, 25.0, 50.0, 100.0)
PERCENTILES = {"P5": 5, "P25": 25, "Median": 50, "P75": 75, "P95": 95}
PERMUTATIONS, PERMUTATIONS_OF_MANY, MANY = 999, 199, 200_000

AREAS = 2
"""So many columns at the beginning do not speak of nuclei."""

_AREA, _CIRCULARITY, _ORIENTATION = "Area µm^2", "Circularity", "Orientation °"
_ENGINE = "this engine"


def summarise(result: SlideResult, regions: Sequence[Region]) -> list[Figures]:
    """Compute all numbers of some regions.

    Parameters
    ----------
    result
        The result whose nuclei count.
    regions
        Regions that may overlap, be nested, or hold no nuclei.

    Returns
    -------
    list of dict
        Figures of each region; the same columns for all. Those of a missing core are NaN.
    """
    anchors, mpp = result.anchors, result.mpp
    order = np.lexsort((anchors[:, 0], anchors[:, 1]))
    order = order[result.on_slide[order]]
    members = members_of(regions, anchors, order)
    windows = [areal(region.geometry & result.searched) for region in regions]
    figures: list[Figures] = []
    for region, window, inside in zip(regions, windows, members, strict=True):
        counted = _amounts(region.geometry, window, len(inside), mpp)
        composed = _composition(result.labels[inside], result.classes)
        figures.append(counted | composed | _intensities(result, inside))
    for name in result.measurements:
        values = result.column(name)
        for found, inside in zip(figures, members, strict=True):
            found |= _distribution(name, result.unit(name), values[inside])
    pairs = neighbour_pairs(anchors[order], mpp) if len(result.classes) > 1 else None
    if pairs is not None:
        pairs = order[pairs]
    for found, window, inside in zip(figures, windows, members, strict=True):
        found |= _arrangement(anchors[inside], window, mpp)
        if pairs is not None:
            found |= _arrangement_by_class(result, inside, window)
            found |= _neighbourhoods(result, inside, pairs)
    for region, window, found in zip(regions, windows, figures, strict=True):
        if region.is_missing:
            found |= dict.fromkeys(found, math.nan)
        elif window.area == 0:
            log.warning(
                "%s: nuclei were not looked for in region %r, so it has an area only",
                result.name,
                region.name,
            )
            found |= dict.fromkeys([*found][AREAS:], math.nan)
    return _named_apart(figures)


def _named_apart(figures: Sequence[Figures]) -> list[Figures]:
    """Give columns of one name a number: a class may be called "unclassified", or "Tumor %"."""
    names: set[str] = set()
    apart: dict[Column, Column] = {}
    for column in all_columns(figures):
        name, number = column.name, 1
        while name in names:
            number += 1
            name = f"{column.name} ({number})"
        names.add(name)
        apart[column] = replace(column, name=name)
    return [{apart[column]: value for column, value in row.items()} for row in figures]


def members_of(
    regions: Sequence[Region], anchors: npt.NDArray[np.float64], order: npt.NDArray[np.int64]
) -> list[Members]:
    """Find the nuclei of each region.

    Parameters
    ----------
    regions
        QuPath pixels; a nucleus on the border counts. The slide has all that are listed,
        also one that the rounded outline of its tissue leaves out.
    anchors
        float64, shape (n, 2), QuPath pixels.
    order
        int64, shape (k,): how members are listed, and which nuclei count at all.
    """
    sorted_anchors = anchors[order]
    tops = sorted_anchors[:, 1]
    members = []
    for region in regions:
        if region.kind == "slide":
            members.append(order.astype(np.uint32))
            continue
        left, top, right, bottom = region.geometry.bounds
        first, stop = np.searchsorted(tops, top), np.searchsorted(tops, bottom, "right")
        x, y = sorted_anchors[first:stop].T
        near = np.flatnonzero((x >= left) & (x <= right))
        shapely.prepare(region.geometry)
        inside = near[shapely.intersects_xy(region.geometry, x[near], y[near])]
        members.append(order[first + inside].astype(np.uint32))
    return members


def _amounts(region: shapely.Geometry, window: shapely.Geometry, count: int, mpp: Mpp) -> Figures:
    area, searched = (float(g.area * mpp.pixel_area_um2 / 1e6) for g in (region, window))
    density = count / searched if searched > 0 else math.nan
    return {
        Column("Area mm^2", "mm^2", "area of the region", _ENGINE): area,
        Column(
            "Searched area mm^2",
            "mm^2",
            "part of it where nuclei were looked for and the slide could be read: tissue, within "
            "the region of interest",
            _ENGINE,
        ): searched,
        Column(
            "Nuclei", "", "whose anchor is in the region; missing where none were looked for",
            _ENGINE,
        ): count,
        Column("Nuclei per mm^2", "1/mm^2", "Nuclei / Searched area", _ENGINE): density,
    }  # fmt: skip


def _composition(labels: npt.NDArray[np.int16], classes: Sequence[str]) -> Figures:
    """Count the classes; nothing for a model that has none."""
    if not classes:
        return {}
    counts = np.bincount(labels[labels >= 0], minlength=len(classes))
    figures: Figures = {}
    for name, count in zip([*classes, None], [*counts, np.sum(labels < 0)], strict=True):
        of = f"of class {name}" if name is not None else "without class"
        title = name if name is not None else "unclassified"
        figures[Column(f"Nuclei: {title}", "", f"nuclei {of}", _ENGINE)] = float(count)
        share = 100 * float(count) / len(labels) if len(labels) else math.nan
        figures[Column(f"Nuclei: {title} %", "%", f"share of nuclei {of}", _ENGINE)] = share
    return figures


def _intensities(result: SlideResult, inside: Members) -> Figures:
    """Return the scores of immunohistochemistry, where nuclei are positive or negative."""
    counts = np.bincount(result.labels[inside] + 1, minlength=len(result.classes) + 1).tolist()
    named = dict(zip((None, *result.classes), counts, strict=True))
    return intensity_figures(named, result.intensities)


def _distribution(name: str, unit: str, values: npt.NDArray[np.floating]) -> Figures:
    """Describe one measurement; missing values are left out, and how many are not is stated."""
    # In the order of the values, a sum has the same bits whatever the order of the nuclei.
    known = np.sort(values[np.isfinite(values)].astype(np.float64))
    if name == _ORIENTATION:
        return _direction(known)
    n = len(known)
    mean = float(known.mean()) if n > 0 else math.nan
    deviation = float(known.std(ddof=1)) if n > 1 else math.nan
    figures = {
        Column(f"{name}: N", "", f"nuclei that have {name}", _ENGINE): float(n),
        Column(f"{name}: Mean", unit, f"mean of {name}", _ENGINE): mean,
        Column(
            f"{name}: Std.Dev.", unit, f"standard deviation of {name}, n - 1", _ENGINE
        ): deviation,
    }
    ranks = np.percentile(known, [*PERCENTILES.values()]) if n > 0 else [math.nan] * 5
    for (title, percent), value in zip(PERCENTILES.items(), ranks, strict=True):
        formula = f"{percent}th percentile of {name}, between values linearly"
        figures[Column(f"{name}: {title}", unit, formula, _ENGINE)] = float(value)
    if name == _AREA:
        figures |= _area_heterogeneity(known, mean, deviation)
    if name == _CIRCULARITY:
        figures |= _entropy("Circularity: Entropy bits", np.floor(known / 0.05), "0.05 wide")
    return figures


def _direction(angles: npt.NDArray[np.float64]) -> Figures:
    """Describe axes, of which 1° and 179° are neighbours: doubled, they are directions."""
    n, name, source = len(angles), _ORIENTATION, "Mardia & Jupp, Directional Statistics, 2000"
    resultant = complex(np.exp(2j * np.radians(angles)).mean()) if n > 0 else complex(math.nan)
    mean = math.degrees(cmath.phase(resultant)) / 2 % 180
    length = Column(
        f"{name}: Resultant length",
        "",
        "of the mean of the doubled angles on the unit circle: 1 all alike, 0 no direction",
        source,
    )
    return {
        Column(f"{name}: N", "", f"nuclei that have {name}", _ENGINE): float(n),
        Column(f"{name}: Mean", "°", "half the mean direction of the doubled angles", source): mean,
        length: abs(resultant),
    }


def _area_heterogeneity(areas: npt.NDArray[np.float64], mean: float, deviation: float) -> Figures:
    column = Column(
        f"{_AREA}: CV", "", "Std.Dev. / Mean: how unlike in size nuclei are", "Pearson 1896"
    )
    classes = np.floor(4 * np.log2(areas[areas > 0]))
    name = f"{_AREA}: Entropy bits"
    return {column: deviation / mean} | _entropy(name, classes, "a quarter of an octave wide")


def _entropy(name: str, classes: npt.NDArray[np.float64], width: str) -> Figures:
    formula = f"Shannon entropy of the histogram with classes {width} + (classes - 1) / (2 n ln 2)"
    column = Column(name, "bit", formula, "Shannon 1948; correction for few nuclei: Miller 1955")
    if len(classes) == 0:
        return {column: math.nan}
    counts = np.unique(classes, return_counts=True)[1]
    shares = counts / len(classes)
    correction = (len(counts) - 1) / (2 * len(classes) * math.log(2))
    return {column: float(-(shares * np.log2(shares)).sum() + correction)}


def _arrangement(anchors: npt.NDArray[np.float64], window: shapely.Geometry, mpp: Mpp) -> Figures:
    points, window_um = _in_um(anchors, window, mpp)
    test = clark_evans(points, window_um)
    source = "Clark & Evans, Ecology 35:445 (1954); Donnelly, in Hodder, 1978"
    figures = {
        Column(
            "Clark-Evans: R",
            "",
            "mean nearest neighbour distance / that expected at random, guard zone at the border: "
            "below 1 clustered, above 1 regular",
            source,
        ): test.ratio,
        Column("Clark-Evans: z", "", "standard score of R", source): test.z,
        Column("Clark-Evans: p", "", "two-sided p-value of z", source): test.p,
    }
    return figures | _clustering("Ripley", "nuclei", points, window_um)


def _arrangement_by_class(
    result: SlideResult, inside: Members, window: shapely.Geometry
) -> Figures:
    figures: Figures = {}
    for k, name in enumerate(result.classes):
        of_class = inside[result.labels[inside] == k]
        points, window_um = _in_um(result.anchors[of_class], window, result.mpp)
        figures |= _clustering(f"Ripley: {name}", f"nuclei of class {name}", points, window_um)
    return figures


def _in_um(
    anchors: npt.NDArray[np.float64], window: shapely.Geometry, mpp: Mpp
) -> tuple[npt.NDArray[np.float64], shapely.Geometry]:
    """Return the anchors that lie in a window, and the window, in µm."""
    shapely.prepare(window)
    scale = np.array([mpp.x, mpp.y])
    inside = anchors[shapely.intersects_xy(window, *anchors.T)]
    return inside * scale, shapely.transform(window, lambda xy: xy * scale)


def _clustering(
    title: str, of: str, points: npt.NDArray[np.float64], window_um: shapely.Geometry
) -> Figures:
    figures: Figures = {}
    lengths = ripley_l(points, window_um, RIPLEY_RADII_UM)
    for radius, length in zip(RIPLEY_RADII_UM, lengths, strict=True):
        column = Column(
            f"{title}: L-r {radius:g} µm",
            "µm",
            f"√(K(r)/π) - r of {of} at r = {radius:g} µm, border correction: above 0 clustered, "
            "below 0 regular",
            "Ripley, J Roy Stat Soc B 39:172 (1977); Besag, ibid. 193",
        )
        figures[column] = float(length) - radius
    return figures


def _neighbourhoods(result: SlideResult, inside: Members, pairs: npt.NDArray[np.int64]) -> Figures:
    position = np.full(len(result), -1, np.int64)
    position[inside] = np.arange(len(inside))
    ends = position[pairs]
    ends = ends[(ends >= 0).all(axis=1)]
    permutations = PERMUTATIONS if len(inside) <= MANY else PERMUTATIONS_OF_MANY
    found = neighbourhood_enrichment(
        result.labels[inside], ends, len(result.classes), permutations=permutations
    )
    figures: Figures = {}
    source = "histoCAT, Nat Methods 14:873 (2017); squidpy, Nat Methods 19:171 (2022)"
    for a, b in combinations_with_replacement(range(len(result.classes)), 2):
        title = f"Neighbors: {result.classes[a]} & {result.classes[b]}"
        pair = f"Delaunay neighbours of class {result.classes[a]!r} and {result.classes[b]!r}"
        permuted = (
            f"{pair} against mean and standard deviation of permuted classes "
            f"({PERMUTATIONS} times, {PERMUTATIONS_OF_MANY} from {MANY:,} nuclei on)"
        )
        p_value = f"two-sided permutation p-value of {pair}"
        figures |= {
            Column(f"{title}: Pairs", "", pair, source): float(found.observed[a, b]),
            Column(f"{title}: z", "", permuted, source): float(found.z[a, b]),
            Column(f"{title}: p", "", p_value, source): float(found.p[a, b]),
        }
    return figures


def all_columns(figures: Iterable[Figures]) -> Iterator[Column]:
    """Yield every column once, in the order in which they come."""
    yield from dict.fromkeys(column for row in figures for column in row)
