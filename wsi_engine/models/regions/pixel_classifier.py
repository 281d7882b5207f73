"""A pixel classifier: multi-scale features, a forest, and the file that holds both as data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from wsi_engine.errors import ModelError
from wsi_engine.models.regions.features import Features
from wsi_engine.models.regions.forest import Forest
from wsi_engine.models.regions.protocol import RegionsSpec

KEY = "wsi_engine.regions"
FORMAT = 1
FINEST_MPP, COARSEST_MPP = 0.1, 50.0


@dataclass(frozen=True, eq=False)
class PixelClassifier:
    """What `wsi-engine regions-train` learns; a `RegionsModel`.

    Attributes
    ----------
    spec
        Facts about it.
    features
        What it looks at.
    forest
        What it makes of that.
    training
        What it was trained on, for people.
    """

    spec: RegionsSpec
    features: Features
    forest: Forest
    training: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        name: str,
        mpp: float,
        classes: tuple[str, ...],
        features: Features,
        forest: Forest,
        training: Mapping[str, Any],
    ) -> Self:
        """Put a classifier together."""
        return cls(RegionsSpec(name, mpp, classes, features.margin_px), features, forest, training)

    def to(self, device: str) -> Self:
        """Return the classifier, which computes on the processor."""
        del device
        return self

    def probabilities(self, window: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return the probabilities, as `RegionsModel` has them."""
        features = self.features.of(window)
        height, width, count = features.shape
        said = self.forest.predict(features.reshape(-1, count))
        return said.reshape(height, width, -1).astype(np.float32)

    def write(self, path: Path) -> None:
        """Write the classifier as safetensors with a description in JSON; no code is in it."""
        description = {
            "format": FORMAT,
            "mpp": self.spec.mpp,
            "classes": self.spec.classes,
            "features": asdict(self.features),
            "training": dict(self.training),
        }
        text = json.dumps(description, sort_keys=True)
        path.write_bytes(save(self.forest.arrays(), metadata={KEY: text}))


_NO_CLASSIFIER = (
    *(OSError, SafetensorError, MemoryError, RecursionError),
    *(AttributeError, KeyError, TypeError, ValueError),
)
"""What a file that is none leads to; its description may say anything."""


def read_pixel_classifier(path: Path) -> PixelClassifier:
    """Read what `PixelClassifier.write` wrote.

    Raises
    ------
    ModelError
        When the file is missing, or holds something else.
    """
    if not path.is_file():
        raise ModelError(f"there is no regions model {path}")
    try:
        with safe_open(str(path), framework="np") as file:
            written = (file.metadata() or {}).get(KEY)
            if written is None:
                raise ValueError("it was not written by `wsi-engine regions-train`")
            description = json.loads(written)
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return _described(path.name, description, arrays)
    except _NO_CLASSIFIER as error:
        why = f"it lacks {error}" if isinstance(error, KeyError) else error
        raise ModelError(f"{path} holds no regions model: {why}") from error


def _described(
    name: str, description: dict[str, Any], arrays: dict[str, npt.NDArray[Any]]
) -> PixelClassifier:
    if description["format"] != FORMAT:
        raise ValueError(f"it is of format {description['format']}, this version reads {FORMAT}")
    mpp, classes = float(description["mpp"]), tuple(description["classes"])
    if not FINEST_MPP <= mpp <= COARSEST_MPP:
        raise ValueError(f"its pixels of {mpp} µm are none")
    if len(set(classes)) < max(2, len(classes)) or not all(
        isinstance(each, str) and each for each in classes
    ):
        raise ValueError(f"its classes are {classes}")
    features = Features(**description["features"])
    forest = Forest.of_arrays(arrays, features.count, len(classes))
    return PixelClassifier.of(name, mpp, classes, features, forest, description["training"])
