"""Predictions of a model on annotated images, and the threshold that suits it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from wsi_engine.evaluation.images import UNKNOWN
from wsi_engine.evaluation.metrics import (
    Counts,
    Evaluation,
    Labels,
    matches,
    overlaps,
    panoptic_quality,
    present,
    score_image,
)
from wsi_engine.models.learning import THRESHOLDS, TrainedModel
from wsi_engine.models.protocol import Model
from wsi_engine.nuclei.predictions import Predictions
from wsi_engine.nuclei.raster import rasterise
from wsi_engine.training.class_counts import class_counts
from wsi_engine.training.classes import NO_CLASS, Classes
from wsi_engine.training.fields import Field

M = TypeVar("M", bound=TrainedModel)

FEWEST_NUCLEI = 100
"""Fewer held-out nuclei than this say nothing of a threshold: F1 is 4 % off or more by chance."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """The maps of one image and the way from them to its pixels."""

    maps: npt.NDArray[np.generic]
    scale: npt.NDArray[np.float64]
    shape: tuple[int, int]

    def labels(self, model: Model) -> npt.NDArray[np.int32]:
        """Decode the maps to a label image of the annotated image; better scores on top."""
        return self.labels_and_classes(model)[0]

    def labels_and_classes(self, model: Model) -> tuple[npt.NDArray[np.int32], Classes]:
        """Decode the maps to a label image and the class index by label."""
        nuclei = by_score(model.decode(self.maps))
        labels = rasterise(nuclei.xy * self.scale, nuclei.offsets, self.shape)
        return labels, np.concatenate([np.array([NO_CLASS], np.int16), nuclei.classes])


def by_score(nuclei: Predictions) -> Predictions:
    """Order nuclei by rising score."""
    order = np.argsort(nuclei.scores, kind="stable")
    lengths = np.diff(nuclei.offsets)[order]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    # Each vertex from where its ring was, to where its ring is.
    moved = np.repeat(nuclei.offsets[:-1][order] - offsets[:-1], lengths)
    return replace(
        nuclei,
        xy=nuclei.xy[np.arange(offsets[-1]) + moved],
        offsets=offsets,
        anchors=nuclei.anchors[order],
        scores=nuclei.scores[order],
        classes=nuclei.classes[order],
        probabilities=None if nuclei.probabilities is None else nuclei.probabilities[order],
    )


MapsOf = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.generic]]
"""From a batch of pixels to maps."""


def predict(
    model: Model, image: npt.NDArray[np.uint8], mpp: float, *, maps_of: MapsOf | None = None
) -> Prediction:
    """Run a model on one image.

    The image is shrunk to the model's mpp by averaging over areas, and mirrored at its
    border to whole strides and some context.

    Parameters
    ----------
    maps_of
        Another way than the model's own from pixels to its maps.
    """
    height, width = image.shape[:2]
    stride, context = model.spec.stride, 4 * model.spec.stride
    inner = [max(1, round(side * mpp / model.spec.mpp)) for side in (height, width)]
    resample = Image.Resampling.BOX if mpp < model.spec.mpp else Image.Resampling.BICUBIC
    shrunk = np.asarray(Image.fromarray(image).resize((inner[1], inner[0]), resample))
    padding = [(context, context + -side % stride) for side in inner]
    padded = np.pad(shrunk, [*padding, (0, 0)], mode="reflect" if min(inner) > 48 else "edge")
    maps = (maps_of or model.maps)(padded[None])[0]
    step = padded.shape[0] // maps.shape[0]
    grid = [slice(context // step, context // step + -(-side // step)) for side in inner]
    scale = np.array([width / inner[1], height / inner[0]])
    return Prediction(maps[grid[0], grid[1]], scale, (height, width))


def evaluate_fields(
    model: Model,
    fields: Sequence[Field],
    predictions: Sequence[Prediction],
) -> Evaluation:
    """Measure predictions against annotations. Pixels of unknown truth are left out."""
    return Evaluation(
        tuple(
            score_image(field.name, *_known(field, prediction.labels(model)), field.mpp)
            for field, prediction in zip(fields, predictions, strict=True)
        )
    )


def _known(field: Field, prediction: npt.NDArray[np.int32]) -> tuple[Labels, Labels]:
    """Return truth and prediction without what lies where the truth is unknown.

    A predicted nucleus of which less than half is known is left out as a whole, unless it meets
    a true one: what is left of it would count as found in vain.
    """
    known = field.labels != UNKNOWN
    if known.all():
        return field.labels, prediction
    count = int(prediction.max(initial=0)) + 1
    areas, seen, met = (
        np.bincount(labels.ravel(), minlength=count)
        for labels in (prediction, prediction[known], prediction[known & (field.labels > 0)])
    )
    judged = (2 * seen >= areas) | (met > 0)
    return np.where(known, field.labels, 0), np.where(known & judged[prediction], prediction, 0)


@dataclass(frozen=True, slots=True)
class ValidationSet:
    """Fields of one set that are held out."""

    name: str
    fields: tuple[Field, ...]


def calibrated(
    model: M, held_out: Sequence[ValidationSet], usual: float | None = None
) -> tuple[M, dict[str, float]]:
    """Set the threshold that suits held-out images, and measure the model with it.

    The threshold is the one with the highest F1 at IoU 0.5; each set weighs the same,
    however many images it has.

    Parameters
    ----------
    usual
        A threshold that has proved good. Of fewer than `FEWEST_NUCLEI` held-out nuclei nothing
        overrules it; of more, of all thresholds whose F1 is within a standard error of the
        highest, the nearest to it is taken (the rule of one standard error of Breiman et al.,
        "Classification and regression trees", 1984).

    Returns
    -------
    model, figures
        Figures are ``threshold``, ``f1`` and ``pq`` (means over sets of the pooled F1 and
        of the mean PQ), and ``f1/<set>``, ``pq/<set>``. Where the model classifies, and any
        held-out nucleus has a class, also ``class_f1`` (mean over classes) and
        ``class_f1/<class>``; see `wsi_engine.training.class_counts`.
    """
    predictions = [
        [predict(model, field.image, field.mpp) for field in part.fields] for part in held_out
    ]
    tried: list[tuple[M, dict[str, float]]] = []
    nuclei = 0
    for threshold in THRESHOLDS:
        candidate = model.with_threshold(threshold)
        figures = {"threshold": threshold}
        nuclei = 0
        for part, maps in zip(held_out, predictions, strict=True):
            pairs = [
                overlaps(*_known(field, prediction.labels(candidate)))
                for field, prediction in zip(part.fields, maps, strict=True)
            ]
            counts = sum((matches(pair) for pair in pairs), Counts(0, 0, 0))
            nuclei += counts.tp + counts.fn
            figures[f"f1/{part.name}"] = counts.f1
            figures[f"pq/{part.name}"] = float(np.mean([panoptic_quality(p)[0] for p in pairs]))
        for measure in ("f1", "pq"):
            values = [figures[f"{measure}/{part.name}"] for part in held_out]
            figures[measure] = float(np.mean(values))
        tried.append((candidate, figures))
    best, figures = max(tried, key=lambda each: each[1]["f1"])
    if usual is not None:
        good = tried
        if nuclei >= FEWEST_NUCLEI:
            error = math.sqrt(figures["f1"] * (1 - figures["f1"]) / nuclei)
            good = [each for each in tried if each[1]["f1"] >= figures["f1"] - error]
        best, figures = min(good, key=lambda each: abs(each[0].threshold - usual))
    figures.update(_class_figures(best, held_out, predictions))
    return best, figures


def _class_figures(
    model: Model,
    held_out: Sequence[ValidationSet],
    predictions: Sequence[Sequence[Prediction]],
) -> dict[str, float]:
    """Return F1 by class and its mean, over all fields that have nuclei of known class."""
    names = model.spec.classes
    counts = [Counts(0, 0, 0)] * len(names)
    for part, maps in zip(held_out, predictions, strict=True):
        for field, prediction in zip(part.fields, maps, strict=True):
            if (field.classes == NO_CLASS).all():
                continue
            labels, classes = prediction.labels_and_classes(model)
            truth, found = _known(field, labels)
            pairs = overlaps(truth, found)
            of_field = class_counts(
                pairs, field.classes[present(truth)], classes[present(found)], len(names)
            )
            counts = [before + more for before, more in zip(counts, of_field, strict=True)]
    f1 = {name: each.f1 for name, each in zip(names, counts, strict=True) if each.tp + each.fn}
    if not f1:
        return {}
    by_class = {f"class_f1/{name}": value for name, value in f1.items()}
    return {"class_f1": float(np.mean(list(f1.values()))), **by_class}
