"""From annotations of QuPath to a pixel classifier that finds such regions on any slide."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely

from wsi_engine.digests import digest, digest_of
from wsi_engine.errors import TrainingError
from wsi_engine.installing import install_command
from wsi_engine.models.regions.features import Features
from wsi_engine.models.regions.forest import Forest
from wsi_engine.models.regions.pixel_classifier import COARSEST_MPP, FINEST_MPP, PixelClassifier
from wsi_engine.models.regions.protocol import IGNORED
from wsi_engine.nuclei.raster import draw_polygons
from wsi_engine.qupath.objects import PathObject
from wsi_engine.qupath.problems import Problem
from wsi_engine.qupath.regions import read_annotations
from wsi_engine.slide.fingerprint import fingerprint
from wsi_engine.slide.frames import ModelBox
from wsi_engine.slide.grid_reader import GridReader, make_grid
from wsi_engine.slide.opening import open_slide
from wsi_engine.slide.resolution import with_resolution
from wsi_engine.writing import atomic_path, clear_write_errors

log = logging.getLogger(__name__)

BLOCK_PX = 512
MOST_FOLDS = 5
REGION_CLASS = "Region*"
"""QuPath's class of what a classifier is shown on; no classifier learns from it."""

PACKAGES = ("wsi-engine", "numpy", "scipy", "scikit-image", "scikit-learn")


@dataclass(frozen=True, slots=True)
class RegionsTraining:
    """What a pixel classifier is to be.

    Attributes
    ----------
    mpp
        Side in µm of the pixels that it looks at.
    sigma_min_px, sigma_max_px
        Smallest and largest scale of its features, in those pixels.
    trees, fewest_pixels_in_leaf
        Size of the forest.
    most_pixels_per_class
        So many pixels of a class are learnt from, spread evenly over all that was drawn.
    seed
        The same seed gives the same file.
    """

    mpp: float = 2.0
    sigma_min_px: float = 1.0
    sigma_max_px: float = 16.0
    trees: int = 50
    fewest_pixels_in_leaf: int = 5
    most_pixels_per_class: int = 20_000
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Drawn:
    """What was drawn of a class, and how well it is found where it was not learnt from.

    Attributes
    ----------
    annotations
        Number of annotations.
    area_mm2
        Their area, overlaps counted once.
    iou
        Intersection over union of drawn and found, over annotations that were left out in turn;
        ``None`` where the class has only one annotation.
    """

    annotations: int
    area_mm2: float
    iou: float | None


@dataclass
class _Pixels:
    """Pixels that are learnt from: features, and the number of the annotation of each."""

    features: list[npt.NDArray[np.float32]] = field(default_factory=list)
    owners: list[npt.NDArray[np.int64]] = field(default_factory=list)


def train_regions(
    pairs: Sequence[tuple[Path, Path]],
    output: Path,
    training: RegionsTraining | None = None,
    *,
    slide_mpp: float | None = None,
) -> dict[str, Drawn]:
    """Learn a pixel classifier from annotations, and write it.

    What QuPath learns from is learnt from: annotations with a class that are not locked, but for
    ``Region*``. Classes that end with ``*``, such as ``Ignore*``, are learnt and never become
    regions. Where annotations overlap, the smaller is on top.

    Parameters
    ----------
    pairs
        Slides, each with the GeoJSON file of its annotations.
    output
        File that the classifier is written to.
    slide_mpp
        Pixel size of slides in µm, in place of what they state.

    Returns
    -------
    dict of str to Drawn
        What was drawn of each class, and how well it is found.

    Raises
    ------
    EngineError
        When a slide or its annotations cannot be read, or too little is drawn.
    """
    chosen = RegionsTraining() if training is None else training
    features = _features(chosen)
    _require_sklearn()
    drawn = [_trainable(path) for _, path in pairs]
    classes = tuple(sorted({str(item.class_name) for items in drawn for item in items}))
    _require_classes(classes)
    owners = np.array([classes.index(str(item.class_name)) for items in drawn for item in items])
    counts = np.zeros(len(owners), np.int64)
    for _, owned, _ in _blocks(pairs, drawn, chosen, slide_mpp):
        counts += np.bincount(owned[owned > 0] - 1, minlength=len(owners))
    per_class = np.bincount(owners, counts, minlength=len(classes))
    if (per_class == 0).any():
        lacking = classes[int(np.argmin(per_class))]
        raise TrainingError(
            f"no pixel of a slide lies in an annotation of class {lacking!r}: are the annotations "
            "those of these slides, and not smaller than a pixel?"
        )
    rates = np.minimum(1.0, chosen.most_pixels_per_class / per_class)
    pixels = _Pixels()
    for place, owned, window in _blocks(pairs, drawn, chosen, slide_mpp, features.margin_px):
        kept = owned > 0
        chance = np.random.default_rng([chosen.seed, *place]).random(owned.shape)
        kept[kept] = chance[kept] < rates[owners[owned[kept] - 1]]
        if kept.any():
            pixels.features.append(features.of(window)[kept])
            pixels.owners.append(owned[kept].astype(np.int64) - 1)
    x, of_annotation = np.concatenate(pixels.features), np.concatenate(pixels.owners)
    y = owners[of_annotation]
    iou = _held_out(x, y, of_annotation, owners, counts, 1 / rates, chosen)
    forest = _grow(x, y, chosen, chosen.trees)
    area = per_class * chosen.mpp**2 / 1e6
    found = {
        name: Drawn(int((owners == k).sum()), round(float(area[k]), 6), iou[k])
        for k, name in enumerate(classes)
    }
    described = _described(pairs, chosen, found)
    classifier = PixelClassifier.of(output.name, chosen.mpp, classes, features, forest, described)
    with clear_write_errors(output), atomic_path(output) as partial:
        classifier.write(partial)
    return found


def _features(training: RegionsTraining) -> Features:
    if not FINEST_MPP <= training.mpp <= COARSEST_MPP:
        raise TrainingError(
            f"pixels of {training.mpp:g} µm show no regions: give from {FINEST_MPP} to "
            f"{COARSEST_MPP:g}"
        )
    if min(training.trees, training.fewest_pixels_in_leaf, training.most_pixels_per_class) < 1:
        raise TrainingError("a forest has at least one tree, and learns from at least one pixel")
    try:
        return Features(training.sigma_min_px, training.sigma_max_px)
    except ValueError as error:
        raise TrainingError(str(error)) from None


def _require_sklearn() -> None:
    try:
        import sklearn  # noqa: F401
    except ImportError as error:
        raise TrainingError(
            f"learning regions needs scikit-learn, which cannot be imported ({error}): "
            f"{install_command('regions')}"
        ) from None


def _require_classes(classes: Sequence[str]) -> None:
    if len(classes) < 2 or all(name.endswith(IGNORED) for name in classes):
        there = f"there is only {classes[0]}" if classes else "there are none"
        raise TrainingError(
            f"unlocked annotations of at least two classes are needed, {there}: draw some of what "
            "is wanted, and some of all else, as Ignore* if need be"
        )


def _trainable(path: Path) -> list[PathObject]:
    """Return the annotations that QuPath would learn from, the largest first."""
    problems: list[Problem] = []
    every = [*read_annotations(path, problems).values()]
    for problem in problems:
        log.warning("%s", problem)
    kept = [
        item
        for item in every
        if item.object_type == "annotation"
        and item.classification is not None
        and item.class_name != REGION_CLASS
        and not item.is_locked
    ]
    if len(kept) < len(every):
        log.warning(
            "%s: %d of %d regions are locked, without a class or Region*: nothing is learnt from "
            "them",
            path.name,
            len(every) - len(kept),
            len(every),
        )
    return sorted(kept, key=lambda item: (-item.geometry.area, str(item.id)))


def _blocks(
    pairs: Sequence[tuple[Path, Path]],
    drawn: Sequence[Sequence[PathObject]],
    training: RegionsTraining,
    slide_mpp: float | None,
    margin: int | None = None,
) -> Iterator[tuple[tuple[int, int, int], npt.NDArray[np.int32], npt.NDArray[np.uint8]]]:
    """Yield the blocks in which something is drawn.

    Yields
    ------
    place
        Number of the slide, row and column.
    owned
        1 + number of the annotation of each pixel, 0 for none.
    window
        The pixels with a margin; empty where there is none.
    """
    first = 1
    for number, ((path, _), items) in enumerate(zip(pairs, drawn, strict=True)):
        with open_slide(path) as slide:
            grid = make_grid(with_resolution(slide.info, slide_mpp), training.mpp)
            reader, extent = GridReader(slide, grid), grid.extent
            shapes = np.array(
                [shapely.transform(item.geometry, grid.from_qupath) for item in items], object
            )
            tree = shapely.STRtree(shapes)
            for y in range(0, extent.height, BLOCK_PX):
                for x in range(0, extent.width, BLOCK_PX):
                    width, height = (
                        min(BLOCK_PX, extent.width - x),
                        min(BLOCK_PX, extent.height - y),
                    )
                    near = np.sort(tree.query(shapely.box(x, y, x + width, y + height)))
                    if len(near) == 0:
                        continue
                    owned = np.zeros((height, width), np.int32)
                    moved = shapely.transform(shapes[near], lambda xy: xy - (x, y))  # noqa: B023
                    draw_polygons(moved, near + first, owned)
                    window = np.empty((0, 0, 3), np.uint8)
                    if margin is not None:
                        window = reader.read(ModelBox(x, y, width, height).padded(margin))
                    yield (number, y, x), owned, window
        first += len(items)


def _grow(
    x: npt.NDArray[np.float32], y: npt.NDArray[np.int64], training: RegionsTraining, trees: int
) -> Forest:
    from sklearn.ensemble import RandomForestClassifier

    grown = RandomForestClassifier(
        trees,
        min_samples_leaf=training.fewest_pixels_in_leaf,
        class_weight="balanced",
        random_state=training.seed,
        n_jobs=-1,
    ).fit(x, y)
    return Forest.grown([tree.tree_ for tree in grown.estimators_])


def _held_out(
    x: npt.NDArray[np.float32],
    y: npt.NDArray[np.int64],
    of_annotation: npt.NDArray[np.int64],
    owners: npt.NDArray[np.int64],
    counts: npt.NDArray[np.int64],
    weights: npt.NDArray[np.float64],
    training: RegionsTraining,
) -> list[float | None]:
    """Return how well each class is found in annotations that a forest has not seen.

    Neighbouring pixels are alike, so annotations are left out whole, some of each class at a time;
    never the only one of its class.
    """
    folds = np.full(len(owners), -1)
    for k in range(len(weights)):
        own = np.flatnonzero(owners == k)
        if len(own) > 1:
            largest_first = own[np.argsort(-counts[own], kind="stable")]
            folds[largest_first] = np.arange(len(own)) % min(MOST_FOLDS, len(own))
    confusion = np.zeros((len(weights), len(weights)))
    for fold in range(folds.max() + 1):
        out = folds[of_annotation] == fold
        forest = _grow(x[~out], y[~out], training, training.trees)
        said = forest.predict(x[out]).argmax(axis=1)
        np.add.at(confusion, (y[out], said), weights[y[out]])
    both = np.diag(confusion)
    either = confusion.sum(axis=0) + confusion.sum(axis=1) - both
    left_out = {int(k) for k in owners[folds >= 0]}
    return [
        round(float(both[k] / either[k]), 4) if k in left_out else None for k in range(len(weights))
    ]


def _described(
    pairs: Sequence[tuple[Path, Path]], training: RegionsTraining, found: dict[str, Drawn]
) -> dict[str, Any]:
    """Describe a training without the names of slides, which may name patients."""
    settings = asdict(training)
    learnt = Counter(f"{fingerprint(slide)} {digest_of(drawn)}" for slide, drawn in pairs)
    return {
        "settings": settings,
        "digest": digest({"settings": settings, "learnt from": dict(learnt)}),
        "slides": len(pairs),
        "classes": {name: asdict(drawn) for name, drawn in found.items()},
        "versions": {name: metadata.version(name) for name in PACKAGES},
    }
