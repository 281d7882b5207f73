"""The file of an object classifier: JSON with plain numbers, in which no code can be."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import orjson

from wsi_engine.errors import ModelError, reason_for
from wsi_engine.models.objects.classifier import (
    Colour,
    Kind,
    LearntOn,
    Linear,
    ObjectClassifier,
)
from wsi_engine.models.regions.forest import Forest
from wsi_engine.writing import atomic_path, clear_write_errors

WHAT = "wsi-engine object classifier"
VERSION = 1

MOST_BYTES = 256 << 20
MOST_CLASSES = 100
MOST_MEASUREMENTS = 2_000
LONGEST_NAME = 500
LARGEST = 1e30
"""Largest score, weight and median: sums of them are finite, whatever was measured."""

_TREE_TYPES = {
    "roots": np.int64,
    "left": np.int32,
    "right": np.int32,
    "feature": np.int32,
    "threshold": np.float64,
    "probabilities": np.float64,
}


def classifier_bytes(classifier: ObjectClassifier) -> bytes:
    """Return the file of a classifier; the same classifier gives the same bytes."""
    rule = classifier.rule
    linear = isinstance(rule, Linear)
    document = {
        "what": WHAT,
        "version": VERSION,
        "kind": classifier.kind,
        "classes": [
            {"name": name, "color": list(colour)}
            for name, colour in zip(classifier.classes, classifier.colours, strict=True)
        ],
        "measurements": [
            {"name": name, "median": median}
            for name, median in zip(
                classifier.measurements, classifier.medians.tolist(), strict=True
            )
        ],
        "learnt_on": {
            "stains": list(classifier.learnt_on.stains),
            "mpp": list(classifier.learnt_on.mpp),
        },
        "training": dict(classifier.training),
        ("linear" if linear else "trees"): (
            {"weights": rule.weights, "intercepts": rule.intercepts}
            if isinstance(rule, Linear)
            else rule.arrays()
        ),
    }
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n"


def write_classifier(path: Path, classifier: ObjectClassifier) -> None:
    """Write the file of a classifier, which appears when it is whole."""
    with clear_write_errors(path), atomic_path(path) as partial:
        partial.write_bytes(classifier_bytes(classifier))


_NO_CLASSIFIER = (
    *(OSError, MemoryError, RecursionError, ArithmeticError),
    *(AttributeError, KeyError, TypeError, ValueError),
)
"""What a file that is none leads to; it may say anything."""


def read_classifier(path: Path) -> ObjectClassifier:
    """Read a file that `wsi-engine classify` wrote, whoever has had it in between.

    Raises
    ------
    ModelError
        When the file is missing, too large, or holds something else.
    """
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise ValueError(f"it has {size:,} bytes, and at most {MOST_BYTES:,} are read")
        return _described(orjson.loads(path.read_bytes()))
    except FileNotFoundError:
        raise ModelError(
            f"{path}: no such file; give one that `wsi-engine classify --examples` wrote"
        ) from None
    except _NO_CLASSIFIER as error:
        why = f"it lacks {error}" if isinstance(error, KeyError) else reason_for(error)
        raise ModelError(
            f"{path} holds no object classifier ({why}): give a file of `wsi-engine classify "
            "--examples`"
        ) from None


def _described(told: dict[str, Any]) -> ObjectClassifier:
    if told["what"] != WHAT:
        raise ValueError("it is a file of something else")
    if told["version"] != VERSION:
        raise ValueError(f"it is of version {told['version']!s:.20}, and {VERSION} is read")
    kind: Kind = told["kind"]
    if kind not in get_args(Kind):
        raise ValueError(f"its kind is {kind!s:.40}")
    classes = _names(told["classes"], "classes", 2, MOST_CLASSES)
    if any(": ".join(map(str.strip, name.split(":"))) != name for name in classes):
        raise ValueError("QuPath would spell its classes in another way")
    measurements = _names(told["measurements"], "measurements", 1, MOST_MEASUREMENTS)
    medians = _numbers([each["median"] for each in told["measurements"]], (len(measurements),))
    return ObjectClassifier(
        kind,
        classes,
        tuple(_colour(each["color"]) for each in told["classes"]),
        measurements,
        medians,
        _linear(told["linear"], len(measurements), len(classes))
        if kind == "logistic"
        else _forest(told["trees"], kind, len(measurements), len(classes)),
        _learnt_on(told["learnt_on"]),
        dict(told["training"]),
    )


def _learnt_on(told: dict[str, Any]) -> LearntOn:
    smallest, largest = _numbers(told["mpp"], (2,)).tolist()
    if not 0 < smallest <= largest:
        raise ValueError("the pixels that it learnt from have no size")
    stains = tuple(told["stains"])
    if not 0 < len(stains) <= MOST_CLASSES or not all(
        isinstance(name, str) and 0 < len(name) <= LONGEST_NAME for name in stains
    ):
        raise ValueError("the stains that it learnt from have no names")
    return LearntOn(stains, (smallest, largest))


def _names(told: list[dict[str, Any]], what: str, fewest: int, most: int) -> tuple[str, ...]:
    names = tuple(each["name"] for each in told)
    if not fewest <= len(names) <= most or len(set(names)) < len(names):
        raise ValueError(f"its {what} are {len(names)}, or not different ones")
    if not all(isinstance(name, str) and 0 < len(name) <= LONGEST_NAME for name in names):
        raise ValueError(f"one of its {what} has no name")
    return names


def _colour(told: list[int]) -> Colour:
    red, green, blue = told
    if not all(type(part) is int and 0 <= part <= 255 for part in told):
        raise ValueError("one of its colours is none")
    return red, green, blue


def _numbers(told: Any, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    numbers = np.asarray(told, np.float64)
    if numbers.shape != shape or not (np.abs(numbers) <= LARGEST).all():
        raise ValueError("its numbers are too few, too many or too large")
    return numbers


def _linear(told: dict[str, Any], measurements: int, classes: int) -> Linear:
    weights = _numbers(told["weights"], (classes, measurements))
    return Linear(weights, _numbers(told["intercepts"], (classes,)))


def _forest(told: dict[str, Any], kind: Kind, measurements: int, classes: int) -> Forest:
    arrays = {name: np.asarray(told[name], dtype) for name, dtype in _TREE_TYPES.items()}
    if kind == "forest":
        return Forest.of_arrays(arrays, measurements, classes)
    return Forest.of_arrays(arrays, measurements, classes, lowest=-LARGEST, highest=LARGEST)
