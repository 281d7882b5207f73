"""Pairing predicted with true nuclei."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import shapely

from wsi_engine.nuclei.polygons import Polygons


@dataclass(frozen=True)
class Matching:
    """Pairs of predicted and true nuclei of one image.

    Attributes
    ----------
    predicted, true
        Positions of the paired nuclei; int64, shape (number of pairs,).
    iou
        Intersection over union of each pair, float64.
    n_predicted, n_true
        All nuclei, paired or not.
    """

    predicted: npt.NDArray[np.int64]
    true: npt.NDArray[np.int64]
    iou: npt.NDArray[np.float64]
    n_predicted: int
    n_true: int

    @property
    def precision(self) -> float:
        """Share of predicted nuclei that are paired; NaN if there are none."""
        return len(self.iou) / self.n_predicted if self.n_predicted else float("nan")

    @property
    def recall(self) -> float:
        """Share of true nuclei that are paired; NaN if there are none."""
        return len(self.iou) / self.n_true if self.n_true else float("nan")

    @property
    def f1(self) -> float:
        """F1 = 2 TP / (2 TP + FP + FN); NaN without any nuclei."""
        total = self.n_predicted + self.n_true
        return 2 * len(self.iou) / total if total else float("nan")


def match_polygons(predicted: Polygons, true: Polygons, min_iou: float = 0.5) -> Matching:
    """Pair nuclei one to one, the best overlap first.

    Above an IoU of 0.5 a nucleus of disjoint truth can be paired in one way only; below, and
    where nuclei overlap, pairs are taken greedily by falling IoU.

    Parameters
    ----------
    predicted, true
        Valid shapely polygons in one frame, shapes (n,) and (m,).
    min_iou
        Pairs need more than this.
    """
    p, t = shapely.STRtree(true).query(predicted, predicate="intersects")
    shared = shapely.area(shapely.intersection(predicted[p], true[t]))
    iou = shared / (shapely.area(predicted)[p] + shapely.area(true)[t] - shared)
    order = np.lexsort((t, p, -iou))
    order = order[iou[order] > min_iou]
    taken_p, taken_t = np.zeros(len(predicted), bool), np.zeros(len(true), bool)
    pairs = []
    for k in order:
        if not taken_p[p[k]] and not taken_t[t[k]]:
            taken_p[p[k]] = taken_t[t[k]] = True
            pairs.append(k)
    kept = np.array(pairs, np.int64)
    return Matching(p[kept], t[kept], iou[kept], len(predicted), len(true))
