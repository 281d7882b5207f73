"""Networks that take images of one size only, run over tiles of any."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Run = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]


def in_patches(
    run: Run, image: npt.NDArray[np.uint8], side: int, step: int
) -> npt.NDArray[np.float32]:
    """Run a network over an image patch by patch, and put together the middles.

    Patches begin at multiples of the step, which a model has for its stride: so they lie at the
    same places of the slide whatever the tiling. What is beyond the image is mirrored.

    Parameters
    ----------
    run
        From a patch, uint8, shape (side, side, 3), to its maps, shape (side, side, k).
    image
        Shape (height, width, 3), height and width multiples of the step.
    side, step
        Side of a patch and of its middle; their difference is even.

    Returns
    -------
    numpy.ndarray
        float32, shape (height, width, k).
    """
    height, width = image.shape[:2]
    margin = (side - step) // 2
    around = ((margin, margin), (margin, margin), (0, 0))
    padded = np.pad(image, around, mode="symmetric")
    middle = slice(margin, margin + step)
    rows = [
        np.concatenate(
            [
                run(padded[y : y + side, x : x + side])[middle, middle]
                for x in range(0, width, step)
            ],
            axis=1,
        )
        for y in range(0, height, step)
    ]
    return np.concatenate(rows)
