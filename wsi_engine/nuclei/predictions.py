"""The nuclei of one tile, as a model gives them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Predictions:
    """The nuclei of one tile as columns, in model pixels from the tile's own corner.

    Attributes
    ----------
    xy
        Vertices of all exterior rings one after the other, float64, shape (v, 2). Rings are
        open (the first vertex is not repeated); coordinates are pixel corners.
    offsets
        Ring k is ``xy[offsets[k]:offsets[k + 1]]``; int64, shape (n + 1,).
    anchors
        One point per nucleus that decides which tile owns it; float64, shape (n, 2).
    scores
        float32 in [0, 1], shape (n,).
    classes
        Index into ``ModelSpec.classes``, -1 for none; int16, shape (n,).
    probabilities
        float32, shape (n, len(classes)), or ``None`` where the model gives none.
    """

    xy: npt.NDArray[np.float64]
    offsets: npt.NDArray[np.int64]
    anchors: npt.NDArray[np.float64]
    scores: npt.NDArray[np.float32]
    classes: npt.NDArray[np.int16]
    probabilities: npt.NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.scores)
