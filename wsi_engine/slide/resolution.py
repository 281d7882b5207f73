"""Pixel size: found, checked against the objective, never guessed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from wsi_engine.errors import ResolutionError
from wsi_engine.slide.frames import Mpp
from wsi_engine.slide.protocol import SlideInfo

SMALLEST_MPP, LARGEST_MPP = 0.05, 2.0
"""Outside this range (µm per pixel) no microscope slide shows nuclei that can be segmented."""

OBJECTIVE_TOLERANCE = 1.5
"""A scanner's pixel at power P is 10/P µm (40x: 0.25 µm), within this factor."""

CM_PER_INCH = 2.54
USUAL_MPP = (0.25, 0.5)
"""What most scanners have at 40x and 20x, in µm."""


def mpp_from_properties(properties: Mapping[str, str]) -> tuple[Mpp | None, str]:
    """Read the pixel size from OpenSlide properties.

    Returns
    -------
    mpp, source
        ``None`` with the reason where the file states none, or states a nonsensical one (a
        printer's 72 dpi gives 352.8 µm).
    """
    x = _positive_float(properties.get("openslide.mpp-x"))
    y = _positive_float(properties.get("openslide.mpp-y"))
    if x is None or y is None:
        return None, "the file states none"
    mpp, why_not = usable_mpp(x, y)
    return mpp, "openslide.mpp-x/-y" if mpp is not None else why_not


def usable_mpp(x: float, y: float) -> tuple[Mpp | None, str]:
    """Return a pixel size in µm that a file states, or ``None`` and why no slide has it."""
    if not (SMALLEST_MPP <= x <= LARGEST_MPP and SMALLEST_MPP <= y <= LARGEST_MPP):
        return None, f"the file states {x:g} x {y:g} µm, which no slide of tissue has"
    return Mpp(x, y), ""


def with_resolution(info: SlideInfo, stated: float | None) -> SlideInfo:
    """Return the slide's facts with a pixel size that can be relied on.

    Parameters
    ----------
    info
        What the file says.
    stated
        Pixel size in µm that the user states (``--mpp``); it wins over the file's.

    Raises
    ------
    ResolutionError
        When neither the file nor the user states a usable pixel size.
    """
    if stated is not None:
        if not (math.isfinite(stated) and SMALLEST_MPP <= stated <= LARGEST_MPP):
            raise ResolutionError(
                f"--mpp {stated:g} is not a usable pixel size: give µm per full-resolution "
                f"pixel, between {SMALLEST_MPP} and {LARGEST_MPP} (40x is about 0.25)"
            )
        return replace(info, mpp=Mpp(stated, stated), mpp_source="--mpp")
    if info.mpp is None:
        raise ResolutionError(
            f"{info.path.name}: the pixel size is unknown ({info.mpp_source}); state it in µm "
            "per pixel with --mpp, for example --mpp 0.25 for a 40x scan"
        )
    return info


def resolution_warnings(info: SlideInfo, stated: float | None) -> list[str]:
    """Say what contradicts the pixel size that will be used, if anything does.

    Parameters
    ----------
    info
        What the file says, before ``with_resolution``.
    stated
        Pixel size in µm that the user states.
    """
    if stated is not None:
        if info.mpp is None or _agree(stated, info.mpp.mean, 1.05):
            return []
        return [f"--mpp {stated:g} replaces the file's {info.mpp.mean:.4g} µm"]
    if info.mpp is None:
        return []
    if info.objective_power is None or info.objective_power <= 0:
        return _exchanged_unit_warnings(info.mpp.mean)
    expected = 10.0 / info.objective_power
    if _agree(info.mpp.mean, expected, OBJECTIVE_TOLERANCE):
        return []
    return [
        f"{info.mpp.mean:.4g} µm per pixel does not go with a {info.objective_power:g}x objective "
        f"(about {expected:.3g} µm); the file's pixel size is used, --mpp overrides it"
    ]


def _exchanged_unit_warnings(mpp: float) -> list[str]:
    """Say that a pixel size would be a scanner's if it were not for inches or centimetres."""
    for factor in (CM_PER_INCH, 1 / CM_PER_INCH):
        if any(_agree(mpp * factor, usual, 1.05) for usual in USUAL_MPP):
            return [
                f"{mpp:.4g} µm per pixel is {CM_PER_INCH} times off the usual {mpp * factor:.3g} "
                "µm, as where pixels per inch and per centimetre are exchanged; the file's pixel "
                "size is used, --mpp overrides it"
            ]
    return []


def filling_in_warnings(info: SlideInfo, stated: float) -> list[str]:
    """Say that a slide keeps the pixel size that it states, where the user states another."""
    if info.mpp is None or _agree(stated, info.mpp.mean, 1.05):
        return []
    return [
        f"the file states {info.mpp.mean:.4g} µm, which is used: of several slides, --mpp "
        f"{stated:g} is for those that state none; --override-mpp replaces what they state"
    ]


def _agree(one: float, other: float, factor: float) -> bool:
    return abs(math.log(one / other)) <= math.log(factor)


def _positive_float(text: str | None) -> float | None:
    try:
        value = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) and value > 0 else None
