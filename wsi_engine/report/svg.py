"""SVG elements as text; what comes from outside is escaped."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import shapely
from markupsafe import Markup, escape

from wsi_engine.nuclei.polygons import polygon_parts


def tag(name: str, *children: str, **attributes: str | float) -> Markup:
    """Return an element.

    Parameters
    ----------
    name
        Name of the element.
    children
        Text is escaped, ``Markup`` is not.
    attributes
        An underscore stands for a hyphen, and one at the end for nothing (``class_``); numbers
        are written with at most two decimals.
    """
    pairs = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_text(value)}"'
        for key, value in attributes.items()
    )
    content = "".join(escape(child) for child in children)
    return Markup(f"<{name}{pairs}>{content}</{name}>")


def drawing(title: str, width: float, height: float, *children: str, class_: str = "") -> Markup:
    """Return an image of a size in its own units, with a title for those who cannot see it."""
    return tag(
        "svg",
        tag("title", title),
        *children,
        viewBox=f"0 0 {_text(width)} {_text(height)}",
        role="img",
        class_=class_,
    )


def text(
    x: float, y: float, content: str, anchor: str = "start", **attributes: str | float
) -> Markup:
    """Return text at a place; ``anchor`` is start, middle or end."""
    return tag("text", content, x=x, y=y, text_anchor=anchor, **attributes)


def line(x1: float, y1: float, x2: float, y2: float, **attributes: str | float) -> Markup:
    """Return a line."""
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, **attributes)


def box(x: float, y: float, width: float, height: float, **attributes: str | float) -> Markup:
    """Return a rectangle."""
    return tag("rect", x=x, y=y, width=width, height=height, **attributes)


def picture(uri: str, width: float, height: float) -> Markup:
    """Return an image that fills a drawing."""
    return tag("image", href=uri, x=0, y=0, width=width, height=height, preserveAspectRatio="none")


def shapes(polygons: Iterable[shapely.Geometry], **attributes: str | float) -> Markup:
    """Return the outlines of polygons, holes included, as one path."""
    rings = [
        ring
        for polygon in polygons
        for part in polygon_parts(polygon)
        for ring in (part.exterior, *part.interiors)
    ]
    steps = ["M" + " ".join(_text(v) for v in np.asarray(r.coords)[:-1].ravel()) for r in rings]
    return tag("path", d="z".join([*steps, ""]), fill_rule="evenodd", **attributes)


def _text(value: str | float) -> str:
    """Write a number briefly; escape a text."""
    if isinstance(value, str):
        return escape(value)
    return f"{value:.2f}".rstrip("0").rstrip(".") if value % 1 else f"{value:.0f}"
