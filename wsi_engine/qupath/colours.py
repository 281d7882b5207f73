"""Class colours as QuPath's default classes have them."""

from __future__ import annotations

import colorsys
import hashlib

from wsi_engine.qupath.intensity import base_of, grade_of

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


_OF_TUMOR: dict[str, Colour] = {
    "Positive": (200, 50, 50),
    "Negative": (90, 90, 180),
    "1+": (255, 215, 0),
    "2+": (225, 150, 50),
    "3+": (200, 50, 50),
}
"""Colours of intensities within ``Tumor``."""

_ALONE, _WITHIN = 1.25, {"Positive": 0.75, "Negative": 1.25, "1+": 0.9, "2+": 0.6, "3+": 0.4}
"""How bright an intensity is: by itself beside that within ``Tumor``, within any other class
beside that class (QuPath's ``PathClass.getDefaultColor``)."""


def class_colour(name: str) -> Colour:
    """Return QuPath's own colour of a class, else one that depends on the name alone."""
    known = QUPATH_COLOURS.get(name.rstrip("*"))
    if known is not None:
        return known
    grade, base = grade_of(name), base_of(name)
    if grade is not None:
        return intensity_colour(grade, base, None if base is None else class_colour(base))
    hue = hashlib.sha1(name.encode(), usedforsecurity=False).digest()[0] / 256
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.75, 0.85)
    return round(red * 255), round(green * 255), round(blue * 255)


def intensity_colour(grade: str, base: str | None, of_base: Colour | None) -> Colour:
    """Return QuPath's colour of an intensity, by itself or within a class of some colour."""
    if base is None or of_base is None:
        return _scaled(_OF_TUMOR[grade], _ALONE)
    return _OF_TUMOR[grade] if base == "Tumor" else _scaled(of_base, _WITHIN[grade])


def _scaled(colour: Colour, factor: float) -> Colour:
    red, green, blue = (min(int(part * factor), 255) for part in colour)
    return red, green, blue
