"""Class colours as QuPath's default classes have them."""

from __future__ import annotations

import colorsys
import hashlib

Colour = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""

ColourAlpha = tuple[int, int, int, int]
"""The same, and the opacity."""

QUPATH_COLOURS: dict[str, Colour] = {
    "Tumor": (200, 0, 0),
    "Stroma": (150, 200, 150),
    "Immune cells": (160, 90, 160),
    "Necrosis": (50, 50, 50),
    "Other": (255, 200, 0),
    "Region": (0, 0, 180),
    "Ignore": (180, 180, 180),
    "Positive": (250, 62, 62),
    "Negative": (112, 112, 225),
    "Tissue": (0, 140, 130),
    "Nucleus": (40, 90, 220),
}


def class_colour(name: str) -> Colour:
    """Return QuPath's own colour of a class, else one that depends on the name alone."""
    known = QUPATH_COLOURS.get(name.rstrip("*"))
    if known is not None:
        return known
    hue = hashlib.sha1(name.encode(), usedforsecurity=False).digest()[0] / 256
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.75, 0.85)
    return round(red * 255), round(green * 255), round(blue * 255)
