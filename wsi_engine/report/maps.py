"""Maps of a slide: its tissue, how dense nuclei lie, of which class they are."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import shapely
from markupsafe import Markup
from scipy import ndimage

from wsi_engine.report import svg
from wsi_engine.report.colours import INK, OKABE_ITO, TISSUE, UNCLASSIFIED, rgb, viridis
from wsi_engine.report.colours import viridis_stops as stops
from wsi_engine.report.map_frame import MapFrame
from wsi_engine.report.pictures import data_uri, png
from wsi_engine.slide.quality.flag import Flag
from wsi_engine.slide.quality.overview import raster

DENSITY_SIDE_PX = 500
CLASS_SIDE_PX = 1500
KERNEL_UM = 50.0
"""Standard deviation of the Gaussian by which density is estimated."""

FLAG_COLOURS = {
    "blur": "#0072b2",
    "pen": "#000000",
    "folds": "#d55e00",
    "nuclei": "#cc79a7",
    "density": "#009e73",
}
FLAG_DASHES = {"blur": "", "pen": "10 6", "folds": "3 5", "nuclei": "16 5 3 5", "density": "5 5"}


def tissue_map(
    frame: MapFrame, tissue: shapely.Geometry, photograph: bytes | None, flags: Sequence[Flag]
) -> Markup:
    """Draw the slide with its tissue outlined and doubtful places marked.

    Parameters
    ----------
    frame
        Frame of the slide.
    tissue
        Area in which nuclei were looked for, QuPath pixels.
    photograph
        The slide as JPEG; ``None`` where the slide is not at hand.
    flags
        Flags whose places are marked, each kind by colour and by dashes.
    """
    ground = [svg.picture(data_uri(photograph), frame.width, frame.height)] if photograph else []
    outline = frame.outline((tissue,), fill="none", stroke=TISSUE, stroke_width=3)
    marks = [
        frame.outline(
            flag.where,
            fill=FLAG_COLOURS[flag.name],
            fill_opacity=0.12,
            stroke=FLAG_COLOURS[flag.name],
            stroke_width=3.5,
            stroke_dasharray=FLAG_DASHES[flag.name],
        )
        for flag in flags
        if flag.where and flag.name in FLAG_COLOURS
    ]
    title = "Overview of the slide with the outline of the tissue"
    return svg.drawing(
        title, frame.width, frame.height, *ground, outline, *marks, frame.scale_bar(), class_="map"
    )


def flag_key(name: str) -> Markup:
    """Draw how the places of a flag are marked on the map."""
    colour = FLAG_COLOURS[name]
    mark = svg.box(
        2, 2, 30, 12, fill=colour, fill_opacity=0.12, stroke=colour, stroke_width=2,
        stroke_dasharray=FLAG_DASHES[name].replace("16 5 3 5", "8 3 2 3"),
    )  # fmt: skip
    return svg.drawing(f"marked on the map: {name}", 34, 16, mark, class_="key")


def density(
    frame: MapFrame, anchors: npt.NDArray[np.float64], searched: shapely.Geometry
) -> npt.NDArray[np.float32]:
    """Estimate nuclei per mm² by a Gaussian of 50 µm, as if there were no border.

    Nuclei and searched area are smoothed alike and divided, so that density does not fall
    towards the edge of the tissue.

    Parameters
    ----------
    frame
        Frame of the slide.
    anchors
        float64, shape (n, 2), QuPath pixels; on the slide.
    searched
        Area in which nuclei were looked for, QuPath pixels.

    Returns
    -------
    ndarray
        float32, shape (height, width), longer side up to 500; NaN outside of ``searched``.
    """
    scale = DENSITY_SIDE_PX / max(frame.width, frame.height)
    height, width = (max(1, math.ceil(side * scale)) for side in (frame.height, frame.width))
    x, y = (frame.to_units(anchors) * scale).T
    counts = np.zeros((height, width), np.float32)
    columns, rows = (np.clip(v.astype(int), 0, side - 1) for v, side in ((x, width), (y, height)))
    np.add.at(counts, (rows, columns), 1)
    area = shapely.transform(searched, lambda points: frame.to_units(points) * scale)
    inside = raster(area, (height, width))
    pixel_um = frame.unit_um / scale
    sigma = KERNEL_UM / pixel_um
    covered = ndimage.gaussian_filter(inside.astype(np.float32), sigma) * (pixel_um**2 / 1e6)
    found = ndimage.gaussian_filter(counts, sigma)
    return np.where(inside, found / np.maximum(covered, 1e-9), np.nan).astype(np.float32)


def density_map(
    frame: MapFrame, per_mm2: npt.NDArray[np.float32], searched: shapely.Geometry
) -> Markup:
    """Draw a density in the colours of viridis, with a colour bar."""
    known = per_mm2[np.isfinite(per_mm2)]
    # Where nuclei lie in less than a hundredth of the area, its 99th percentile is 0.
    top = float(np.percentile(known, 99) or known.max()) if len(known) else 0.0
    top = _round_up(top) if top > 0 else 1.0
    pixels = np.zeros((*per_mm2.shape, 4), np.uint8)
    inside = np.isfinite(per_mm2)
    pixels[inside, :3] = viridis(per_mm2[inside] / top)
    pixels[inside, 3] = 255
    outline = frame.outline((searched,), fill="none", stroke=INK, stroke_width=1.5)
    return svg.drawing(
        f"Density of nuclei on the slide, from 0 to {top:,.0f} per mm²",
        frame.width,
        frame.height + 100,
        svg.picture(data_uri(png(pixels)), frame.width, frame.height),
        outline,
        frame.scale_bar(),
        _colour_bar(frame, top),
        class_="map",
    )


def _colour_bar(frame: MapFrame, top: float) -> Markup:
    y, left, width = frame.height + 14, 20.0, frame.width - 40
    colours = stops()
    ramp = [
        svg.tag("stop", offset=k / (len(colours) - 1), stop_color=colour)
        for k, colour in enumerate(colours)
    ]
    parts = [
        svg.tag("defs", svg.tag("linearGradient", *ramp, id="viridis")),
        svg.box(left, y, width, 26, fill="url(#viridis)"),
    ]
    labels = ("0", f"{top / 2:,.0f} per mm²", f"≥ {top:,.0f}")
    anchors = ("start", "middle", "end")
    for share, anchor, label in zip((0.0, 0.5, 1.0), anchors, labels, strict=True):
        parts.append(svg.text(left + share * width, y + 64, label, anchor, font_size=32, fill=INK))
    return svg.tag("g", *parts)


def _round_up(value: float) -> float:
    step = 10 ** math.floor(math.log10(value)) / 2
    return float(math.ceil(value / step) * step)


def class_colours(classes: Sequence[str]) -> dict[str, str]:
    """Give each class a colour; from the ninth on they share that of the unclassified."""
    return {
        name: OKABE_ITO[k] if k < len(OKABE_ITO) else UNCLASSIFIED for k, name in enumerate(classes)
    }


def class_map(
    frame: MapFrame,
    anchors: npt.NDArray[np.float64],
    labels: npt.NDArray[np.int16],
    classes: Sequence[str],
    searched: shapely.Geometry,
) -> Markup:
    """Draw every nucleus as a dot in the colour of its class.

    Parameters
    ----------
    frame
        Frame of the slide.
    anchors
        float64, shape (n, 2), QuPath pixels; on the slide.
    labels
        Index into ``classes``, -1 for none, shape (n,).
    classes
        Names.
    searched
        Area in which nuclei were looked for, QuPath pixels.
    """
    scale = CLASS_SIDE_PX / max(frame.width, frame.height)
    height, width = (max(1, math.ceil(side * scale)) for side in (frame.height, frame.width))
    palette = [rgb(colour) for colour in class_colours(classes).values()]
    colours = np.array([*palette, rgb(UNCLASSIFIED)], np.uint8)[labels]
    pixels = np.full((height, width, 3), 255, np.uint8)
    x, y = (frame.to_units(anchors) * scale).astype(int).T
    # Few nuclei are drawn larger. Those of rare classes are on top.
    reach = 1 if len(anchors) > 40_000 else 2 if len(anchors) > 4_000 else 4
    counts = np.bincount(labels + 1, minlength=len(classes) + 1)
    order = np.argsort(-counts[labels + 1], kind="stable")
    for down in range(-reach + 1, reach + 1):
        for right in range(-reach + 1, reach + 1):
            rows, columns = np.clip(y + down, 0, height - 1), np.clip(x + right, 0, width - 1)
            pixels[rows[order], columns[order]] = colours[order]
    outline = frame.outline((searched,), fill="none", stroke=INK, stroke_width=1.5)
    return svg.drawing(
        "Every nucleus as a dot in the colour of its class",
        frame.width,
        frame.height,
        svg.picture(data_uri(png(pixels)), frame.width, frame.height),
        outline,
        frame.scale_bar(),
        class_="map",
    )
