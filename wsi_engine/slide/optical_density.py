"""Three optical densities of 8-bit pixels, which differ in white and in what black counts as.

None replaces another: stains are reported as QuPath reports them, tissue and artefacts are found
with thresholds that hold for theirs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from wsi_engine.slide.protocol import RGB

WHITE = 255.0

DARKEST = 15
"""Below this intensity a camera sees noise, and JPEG invents colours: it counts as this."""


def qupath_od(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return ``log10(255 / value)``, 0 counting as 1: QuPath's ``ColorDeconvolutionHelper.makeOD``.

    The density that measurements of stains are in; float64, the shape of the values.
    """
    return np.asarray(-np.log10(np.maximum(values, 1) / WHITE))


def shifted_od(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return ``log10(256 / (value + 1))``: finite for black, and no two values are the same.

    The density that colour deconvolution for models is made of; the shape of the values.
    """
    return np.asarray(-np.log10((values + 1) / 256))


def floored_od(rgb: RGB) -> npt.NDArray[np.float32]:
    """Return the shifted density of pixels, values below `DARKEST` counting as that.

    The density that tissue, ink, folds and blur are found in; float32, the shape of the image.
    """
    return shifted_od(np.maximum(np.arange(256, dtype=np.float32), DARKEST))[rgb]
