"""How well nuclei are classified: matches counted class by class."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from wsi_engine.evaluation.metrics import Counts, Overlaps
from wsi_engine.training.classes import NO_CLASS


def class_counts(
    pairs: Overlaps,
    true: npt.NDArray[np.integer],
    predicted: npt.NDArray[np.integer],
    classes: int,
) -> list[Counts]:
    """Count matches at IoU > 0.5 class by class.

    A match of two classes is a miss of the one and an invention of the other. A prediction
    that is matched with a nucleus of unknown class is not counted, nor is that nucleus.

    Parameters
    ----------
    true, predicted
        Class index of each nucleus of the pairs, `NO_CLASS` for unknown.
    classes
        Number of classes.
    """
    matched = pairs.iou > 0.5
    one, other = true[pairs.true[matched]], predicted[pairs.predicted[matched]]
    judged = np.ones(len(predicted), bool)
    judged[pairs.predicted[matched][one == NO_CLASS]] = False
    counts = []
    for kind in range(classes):
        tp = int(((one == kind) & (other == kind)).sum())
        found, there = int((predicted[judged] == kind).sum()), int((true == kind).sum())
        counts.append(Counts(tp, found - tp, there - tp))
    return counts
