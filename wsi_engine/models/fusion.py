"""One set of nuclei from several opinions on the same tile: by vote."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import shapely

from wsi_engine.nuclei.polygons import polygons_from_rings
from wsi_engine.nuclei.predictions import Predictions

SAME_NUCLEUS_IOU = 0.5


def fused(opinions: Sequence[Predictions], votes: int, max_overlap: float) -> Predictions:
    """Keep the nuclei that enough opinions agree on, each as one of them drew it.

    Greedy: the polygon of the highest score takes from each other opinion the free polygon
    with which it overlaps most, at an IoU above 0.5. With enough votes the nucleus stays, in
    the shape that agrees best with the others' of its group; its score is the mean over all
    opinions, those that did not see it counting 0. Then the next.

    Parameters
    ----------
    opinions
        What each says of the same tile, in the same pixels.
    votes
        How many opinions must see a nucleus.
    max_overlap
        Share of the smaller of two nuclei that may lie in the other; of two that overlap more,
        that with more votes stays.

    Returns
    -------
    Predictions
        In scan order of the anchors. Classes and probabilities are those of the chosen polygon.

    References
    ----------
    Vuola AO, Akram SU, Kannala J. Mask-RCNN and U-Net ensembled for nuclei segmentation.
    ISBI 2019:208-212.
    """
    polygons = np.concatenate([_polygons(opinion) for opinion in opinions])
    voter = np.repeat(np.arange(len(opinions)), [len(opinion) for opinion in opinions])
    index = np.concatenate([np.arange(len(opinion)) for opinion in opinions])
    scores = np.concatenate([opinion.scores for opinion in opinions]).astype(np.float64)
    anchors = np.concatenate([opinion.anchors for opinion in opinions])
    if len(polygons) == 0:
        return opinions[0]
    pairs = _Pairs(polygons)

    # By score, then from the top left: not by who says it.
    order = np.lexsort((voter, anchors[:, 0], anchors[:, 1], -scores))
    free = np.ones(len(polygons), bool)
    chosen: list[tuple[int, int, float]] = []
    for leader in order.tolist():
        if not free[leader]:
            continue
        group = _followers(leader, voter, free, pairs)
        free[group] = False
        if len(group) >= votes:
            best = max(group, key=lambda k: (pairs.agreement(k, group), scores[k], -voter[k]))
            chosen.append((len(group), best, scores[group].sum() / len(opinions)))

    kept: list[tuple[int, float]] = []
    taken = np.zeros(len(polygons), bool)
    for _, k, score in sorted(chosen, key=lambda c: (-c[0], -c[2], *anchors[c[1], ::-1])):
        if not any(taken[j] and share > max_overlap for j, share in pairs.shares_of(k)):
            taken[k] = True
            kept.append((k, score))
    kept.sort(key=lambda each: (anchors[each[0], 1], anchors[each[0], 0], each[0]))
    places = [(int(voter[k]), int(index[k])) for k, _ in kept]
    return _gathered(opinions, places, np.array([score for _, score in kept], np.float32))


class _Pairs:
    """Polygons that overlap: their IoU, and the share of the smaller in the other."""

    def __init__(self, polygons: npt.NDArray[np.object_]) -> None:
        areas = shapely.area(polygons)
        first, second = shapely.STRtree(polygons).query(polygons, predicate="intersects")
        first, second = (side[first < second] for side in (first, second))
        shared = shapely.area(shapely.intersection(polygons[first], polygons[second]))
        iou = shared / np.maximum(areas[first] + areas[second] - shared, 1e-9)
        share = shared / np.maximum(np.minimum(areas[first], areas[second]), 1e-9)
        self._of: list[dict[int, tuple[float, float]]] = [{} for _ in polygons]
        for a, b, i, s in zip(
            *(side.tolist() for side in (first, second, iou, share)), strict=True
        ):
            self._of[a][b] = self._of[b][a] = i, s

    def ious_of(self, k: int) -> list[tuple[int, float]]:
        """Return the neighbours of a polygon with their IoU."""
        return [(j, iou) for j, (iou, _) in self._of[k].items()]

    def shares_of(self, k: int) -> list[tuple[int, float]]:
        """Return the neighbours of a polygon with the share of the smaller in the other."""
        return [(j, share) for j, (_, share) in self._of[k].items()]

    def agreement(self, k: int, group: Sequence[int]) -> float:
        """Sum the IoU of a polygon with the others of its group."""
        return round(sum(self._of[k].get(j, (0.0, 0.0))[0] for j in group), 9)


def _followers(
    leader: int, voter: npt.NDArray[np.int64], free: npt.NDArray[np.bool_], pairs: _Pairs
) -> list[int]:
    """Return a leader and the best free match of each other voter."""
    best: dict[int, tuple[float, int]] = {}
    for k, iou in pairs.ious_of(leader):
        who = int(voter[k])
        if free[k] and who != voter[leader] and iou > SAME_NUCLEUS_IOU:
            best[who] = max(best.get(who, (0.0, -1)), (iou, k))
    return [leader, *(k for _, k in best.values())]


def _polygons(opinion: Predictions) -> npt.NDArray[np.object_]:
    polygons = polygons_from_rings(opinion.xy, opinion.offsets)
    broken = ~shapely.is_valid(polygons)
    polygons[broken] = shapely.make_valid(polygons[broken])
    return np.asarray(polygons, object)


def _gathered(
    opinions: Sequence[Predictions], places: list[tuple[int, int]], scores: npt.NDArray[np.float32]
) -> Predictions:
    """Gather nuclei, given as opinion and index, from the opinions' columns."""
    rings = [
        opinions[who].xy[opinions[who].offsets[k] : opinions[who].offsets[k + 1]]
        for who, k in places
    ]
    every = all(opinion.probabilities is not None for opinion in opinions)
    probabilities = [p[k] for who, k in places if (p := opinions[who].probabilities) is not None]
    width = 0 if (first := opinions[0].probabilities) is None else first.shape[1]
    return Predictions(
        xy=np.concatenate([np.empty((0, 2)), *rings]),
        offsets=np.concatenate([[0], np.cumsum([len(ring) for ring in rings])]).astype(np.int64),
        anchors=np.array([opinions[who].anchors[k] for who, k in places]).reshape(-1, 2),
        scores=scores,
        classes=np.array([opinions[who].classes[k] for who, k in places], np.int16),
        probabilities=np.array(probabilities, np.float32).reshape(-1, width) if every else None,
    )
