"""Polygons to label images."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from wsi_engine.nuclei.raster import draw


def rasterise(
    xy: npt.NDArray[np.float64], offsets: npt.NDArray[np.int64], shape: tuple[int, int]
) -> npt.NDArray[np.int32]:
    """Draw rings into a label image: the pixels whose centres they hold (even-odd rule).

    Parameters
    ----------
    xy, offsets
        Rings as in `wsi_engine.models.protocol.Predictions`, pixel corners of the image.
        Where rings overlap, the later one is on top.
    shape
        Height and width.

    Returns
    -------
    numpy.ndarray
        int32, 0 for background and k + 1 for ring k.

    Examples
    --------
    >>> square = np.array([[1.0, 0.0], [3.0, 0.0], [3.0, 2.0], [1.0, 2.0]])
    >>> rasterise(square, np.array([0, 4]), (3, 4))
    array([[0, 1, 1, 0],
           [0, 1, 1, 0],
           [0, 0, 0, 0]], dtype=int32)
    """
    labels = np.zeros(shape, np.int32)
    each = np.arange(len(offsets))
    draw(xy, offsets, each, each[1:], labels)
    return labels
