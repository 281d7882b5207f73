"""What slides look like, by method, and the way from one look to another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Protocol, cast, get_args

import numpy as np
import numpy.typing as npt

from wsi_engine.errors import SettingsError
from wsi_engine.slide.normalisation.histogram import HistogramLook
from wsi_engine.slide.normalisation.methods import Method
from wsi_engine.slide.normalisation.reinhard import ReinhardLook
from wsi_engine.slide.normalisation.stain_matrix import StainLook
from wsi_engine.slide.protocol import RGB

MOST_PIXELS = 1_000_000
"""So many are looked at, evenly spread; more change nothing."""

ColourMap = Callable[[RGB], RGB]
"""Maps an image or a batch, uint8, shape (..., 3)."""


class Look(Protocol):
    """What a slide looks like, in the terms of one method."""

    def towards(self, target: Any) -> ColourMap:
        """Return what makes a slide of this look one of the target's, of the same method."""
        ...


_CLASSES: dict[Method, type[ReinhardLook | HistogramLook | StainLook]] = {
    "reinhard": ReinhardLook,
    "histogram": HistogramLook,
    "macenko": StainLook,
    "vahadane": StainLook,
}

_SHAPES: dict[type, dict[str, tuple[int, ...]]] = {
    ReinhardLook: {"means": (3,), "spreads": (3,)},
    HistogramLook: {"counts": (3, 256)},
    StainLook: {"stains": (2, 3), "strengths": (2,)},
}

_LOOKS: dict[Method, Callable[[RGB], Look]] = {
    "reinhard": ReinhardLook.of,
    "histogram": HistogramLook.of,
    "macenko": StainLook.macenko,
    "vahadane": StainLook.vahadane,
}


def look_of(fields: npt.NDArray[np.uint8], method: Method) -> Look:
    """Find out what a slide, or a reference image, looks like.

    Parameters
    ----------
    fields
        Tissue sampled from all of the slide, or one image; uint8, shape (..., height, width, 3).

    Raises
    ------
    SettingsError
        When there is no such method.
    SlideError
        When the pixels do not show two stains, and the method needs them.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> slide, reference = rng.integers(0, 200, (2, 64, 64, 3), np.uint8)
    >>> to_reference = look_of(slide, "histogram").towards(look_of(reference, "histogram"))
    >>> to_reference(slide).shape
    (64, 64, 3)
    """
    if method not in _LOOKS:
        known = ", ".join(get_args(Method))
        raise SettingsError(f"unknown normalisation {method!r}: there are {known}")
    pixels = fields.reshape(-1, 3)
    every = max(1, -(-len(pixels) // MOST_PIXELS))
    # Not a divisor of a field's side, or whole columns would be left out.
    every += every > 1 and every % 2 == 0
    return _LOOKS[method](np.ascontiguousarray(pixels[::every]))


def describe_look(look: Look) -> dict[str, Any]:
    """Return a look as a model's card keeps it: numbers by name, ready for JSON."""
    return asdict(cast("Any", look))


def read_look(description: Mapping[str, Any], method: Method) -> Look:
    """Rebuild a look from its description, which may have been written by anybody.

    Raises
    ------
    SettingsError
        When it is none of that method.
    """
    kind = _CLASSES[method]
    try:
        parts = {}
        for name, shape in _SHAPES[kind].items():
            numbers = np.asarray(description[name], np.float64)
            if numbers.shape != shape or not np.isfinite(numbers).all():
                raise ValueError(f"{name} must be {shape} numbers")  # noqa: TRY301
            # As they were: counts are whole numbers, rows are tuples.
            values = numbers.astype(np.int64) if kind is HistogramLook else numbers
            parts[name] = _as_tuples(values.tolist())
        return kind(**parts)
    except (KeyError, TypeError, ValueError) as error:
        raise SettingsError(f"this is no look for {method}: {error}") from None


def _as_tuples(values: Any) -> Any:
    return tuple(map(_as_tuples, values)) if isinstance(values, list) else values
