"""The nuclei of one tile, as a model gives them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

NO_CLASS = -1
"""Class of a nucleus of which none is known."""


@dataclass(frozen=True, slots=True)
class Predictions:
    """The nuclei of one tile as columns, in model pixels from the tile's own corner.

    Coordinates are x, y in pixel corners: pixel (3, 2) is the square from (3, 2) to (4, 3).

    Attributes
    ----------
    xy
        Vertices of all exterior rings one after the other, float64, shape (v, 2). Rings are
        open (the first vertex is not repeated) and have at least three vertices.
    offsets
        Ring k is ``xy[offsets[k]:offsets[k + 1]]``; int64, shape (n + 1,).
    anchors
        One point per nucleus that decides which tile owns it; float64, shape (n, 2).
    scores
        float32 in [0, 1], shape (n,).
    classes
        Index into ``ModelSpec.classes``, -1 for none; int16, shape (n,).
    probabilities
        float32 in [0, 1], shape (n, len(ModelSpec.classes)), or ``None`` where the model gives
        none.

    Examples
    --------
    A triangle:

    >>> import numpy as np
    >>> import wsi_engine as we
    >>> found = we.Predictions(
    ...     xy=np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]]),
    ...     offsets=np.array([0, 3]),
    ...     anchors=np.array([[1.0, 1.0]]),
    ...     scores=np.array([0.9], np.float32),
    ...     classes=np.array([-1], np.int16),
    ... )
    >>> len(found)
    1
    """

    xy: npt.NDArray[np.float64]
    offsets: npt.NDArray[np.int64]
    anchors: npt.NDArray[np.float64]
    scores: npt.NDArray[np.float32]
    classes: npt.NDArray[np.int16]
    probabilities: npt.NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def where(self, wanted: npt.NDArray[np.bool_]) -> Predictions:
        """Return the nuclei where a mask holds."""
        counts = np.diff(self.offsets)
        return Predictions(
            xy=self.xy[np.repeat(wanted, counts)],
            offsets=np.concatenate([[0], np.cumsum(counts[wanted])]).astype(np.int64),
            anchors=self.anchors[wanted],
            scores=self.scores[wanted],
            classes=self.classes[wanted],
            probabilities=None if self.probabilities is None else self.probabilities[wanted],
        )

    @classmethod
    def from_labels(
        cls,
        labels: npt.NDArray[np.integer],
        scores: npt.NDArray[np.floating] | None = None,
        classes: npt.NDArray[np.integer] | None = None,
    ) -> Self:
        """Outline a label image.

        Borders run half way between the centres of pixels; anchors are centroids of pixels. Of a
        label in several 4-connected parts the largest is outlined; holes are filled.

        Parameters
        ----------
        labels
            Shape (height, width), in model pixels; 0 for background, up to n.
        scores, classes
            Values of the labels 1 to n, shape (n,); without them scores are 1, and classes none.

        Returns
        -------
        Predictions
            One nucleus for each label that is there, by label.

        Examples
        --------
        >>> import numpy as np
        >>> import wsi_engine as we
        >>> labels = np.zeros((8, 8), int)
        >>> labels[2:6, 1:5] = 1
        >>> we.Predictions.from_labels(labels).anchors.tolist()
        [[3.0, 4.0]]
        """
        from wsi_engine.nuclei.tracing import trace_labels

        numbers = np.ascontiguousarray(labels, np.int32)
        xy, offsets, label_ids = trace_labels(numbers)
        y, x = np.nonzero(numbers)
        owners = np.searchsorted(label_ids, numbers[y, x])
        sizes = np.bincount(owners, minlength=len(label_ids))
        centres = [np.bincount(owners, axis, len(label_ids)) / sizes + 0.5 for axis in (x, y)]
        count = len(label_ids)
        return cls(
            xy=xy,
            offsets=offsets,
            anchors=np.column_stack(centres),
            scores=np.ones(count, np.float32)
            if scores is None
            else np.asarray(scores, np.float32)[label_ids - 1],
            classes=np.full(count, -1, np.int16)
            if classes is None
            else np.asarray(classes, np.int16)[label_ids - 1],
        )
