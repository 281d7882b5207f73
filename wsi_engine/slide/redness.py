"""Yellow against blue: what tells red blood cells and debris from nuclei."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from skimage import color

from wsi_engine.slide.protocol import RGB


def lab_b(rgb: RGB) -> npt.NDArray[np.float32]:
    """Return b* of CIE 1976 L*a*b* (D65): negative where blue, positive where yellow.

    Parameters
    ----------
    rgb
        uint8, sRGB, shape (height, width, 3).

    Returns
    -------
    ndarray
        float32, shape (height, width).
    """
    return np.asarray(color.rgb2lab(rgb)[..., 2], np.float32)
