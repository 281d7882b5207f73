"""Evaluation of segmentations on disk: one pair of files, or two folders."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely

from wsi_engine.errors import DatasetError
from wsi_engine.evaluation.images import is_image, read_image
from wsi_engine.evaluation.metrics import (
    Evaluation,
    ImageScore,
    centroids,
    detections,
    overlaps,
    present,
    score,
)
from wsi_engine.evaluation.pairing import files_by_stem, is_segmentation, paired, stem_of
from wsi_engine.evaluation.polygons import Polygons
from wsi_engine.evaluation.segmentations import Segmentation, polygon_overlaps, read_segmentation
from wsi_engine.nuclei.redness import red_labels


@dataclass(frozen=True)
class Report:
    """An evaluation, of all nuclei and of the nuclei of each class.

    Attributes
    ----------
    by_class
        Empty unless both sides are GeoJSON with classifications. In the evaluation of a
        class only the nuclei count that have it on either side.
    """

    overall: Evaluation
    by_class: dict[str, Evaluation]

    def figures(self) -> dict[str, Any]:
        """Return all measures, pooled and by image, as JSON has them."""
        return {
            "overall": self.overall.pooled(),
            **self.overall.details().figures(),
            "by_class": {name: found.pooled() for name, found in self.by_class.items()},
            "images": [_of_image(image) for image in self.overall.images],
        }


def _of_image(image: ImageScore) -> dict[str, Any]:
    """Return the measures of an image; details are told of all images together."""
    figures = asdict(image)
    del figures["details"]
    return figures


def pair_segmentations(prediction: Path, truth: Path) -> list[tuple[Path, Path]]:
    """Pair two files, or the files of two folders by name: (prediction, truth).

    Raises
    ------
    DatasetError
        If a path does not exist, or a truth has no prediction.
    """
    for path in (prediction, truth):
        if not path.exists():
            raise DatasetError(f"{path} does not exist")
    if prediction.is_dir() != truth.is_dir():
        raise DatasetError("prediction and truth must be two files or two folders")
    if truth.is_file():
        return [(prediction, truth)]
    wanted, found = (files_by_stem(folder, is_segmentation) for folder in (truth, prediction))
    pairs = paired(wanted, found, where=prediction, what="prediction")
    return [(predicted, true) for true, predicted in pairs]


def score_pair(
    name: str,
    prediction: Segmentation,
    truth: Segmentation,
    mpp: float,
    pixels: npt.NDArray[np.uint8] | None = None,
) -> ImageScore:
    """Measure one prediction. Where one side is a label image, the other is drawn like it.

    Where the truth states in which field it was annotated, only predictions whose centroid
    lies there are judged. Which predictions are red is told where the image's pixels are given.

    Raises
    ------
    DatasetError
        If label images and pixels differ in size.
    """
    scores, red = None, None
    if isinstance(prediction, Polygons) and isinstance(truth, Polygons):
        judged = prediction if truth.field is None else prediction.within(truth.field)
        found = detections(truth.centroids, judged.centroids, mpp)
        if pixels is not None:
            red = _are_red(judged, pixels)
        return score(
            name, polygon_overlaps(truth.shapes, judged.shapes), found, mpp,
            scores=judged.scores, red=red, left_out=len(prediction) - len(judged),
        )  # fmt: skip
    if isinstance(prediction, Polygons):
        assert isinstance(truth, np.ndarray)
        parts = prediction.parts()
        prediction = parts.draw((truth.shape[0], truth.shape[1]))
        if parts.scores is not None:
            scores = parts.scores[present(prediction) - 1]
    elif isinstance(truth, Polygons):
        truth = truth.draw((prediction.shape[0], prediction.shape[1]))
    found = detections(centroids(truth), centroids(prediction), mpp)
    if pixels is not None:
        if pixels.shape[:2] != prediction.shape:
            raise DatasetError(
                f"the image of {name} has {pixels.shape[1]} x {pixels.shape[0]} pixels, its labels "
                f"{prediction.shape[1]} x {prediction.shape[0]}: give the image that was segmented"
            )
        number = int(prediction.max(initial=0))
        red = red_labels(prediction, number, pixels)[present(prediction) - 1]
    return score(name, overlaps(truth, prediction), found, mpp, scores=scores, red=red)


def _are_red(prediction: Polygons, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Tell which polygons are red, shape (n,): those of which any part is."""
    _, owner = shapely.get_parts(prediction.shapes, return_index=True)
    drawn = prediction.draw((pixels.shape[0], pixels.shape[1]))
    red = np.zeros(len(prediction), bool)
    red[owner[red_labels(drawn, len(owner), pixels)]] = True
    return red


def evaluate(prediction: Path, truth: Path, *, mpp: float, images: Path | None = None) -> Report:
    """Measure predictions against the truth.

    Parameters
    ----------
    prediction, truth
        GeoJSON or label images (PNG, TIFF, npy): two files, or two folders whose files have
        the same names.
    mpp
        Size in µm of the full-resolution pixels that labels and polygons refer to.
    images
        The image, or a folder of images with the same names: where they are given, the report
        says how many predictions are red.

    Raises
    ------
    DatasetError
        If a file cannot be read, or prediction and truth do not belong together.
    """
    sources = files_by_stem(images, is_image) if images and images.is_dir() else {}

    def pixels_of(name: str) -> npt.NDArray[np.uint8] | None:
        return None if images is None else read_image(sources.get(name, images))

    overall: list[ImageScore] = []
    by_class: dict[str, list[ImageScore]] = {}
    for predicted_path, true_path in pair_segmentations(prediction, truth):
        name = stem_of(true_path)
        predicted, true = read_segmentation(predicted_path), read_segmentation(true_path)
        try:
            overall.append(score_pair(name, predicted, true, mpp, pixels_of(name)))
        except DatasetError as error:
            raise DatasetError(f"{predicted_path}: {error}") from error
        if isinstance(predicted, Polygons) and isinstance(true, Polygons):
            if not (predicted.classes != "").any():
                continue
            for kind in sorted({*true.classes, *predicted.classes} - {""}):
                image = score_pair(name, predicted.of_class(kind), true.of_class(kind), mpp)
                by_class.setdefault(str(kind), []).append(image)
    return Report(
        Evaluation(tuple(overall)), {k: Evaluation(tuple(v)) for k, v in by_class.items()}
    )
