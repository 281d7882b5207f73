"""Classes by other names and in other colours around any model, such as QuPath's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from wsi_engine.errors import ModelError
from wsi_engine.models.protocol import Model, ModelSpec
from wsi_engine.models.wrapper import Wrapper
from wsi_engine.nuclei.predictions import Predictions

Colour = tuple[int, int, int]


def with_class_names(
    model: Model, names: Mapping[str, str], colours: Mapping[str, Colour]
) -> Model:
    """Let a model call its classes by other names, and say in which colours they are shown.

    Parameters
    ----------
    names
        New names by the model's own. Classes that get one name become one.
    colours
        Red, green and blue by new name.

    Raises
    ------
    ModelError
        When the model has no class of a name.
    """
    if not names and not colours:
        return model
    spec = model.spec
    _require(names, spec.classes, "class_names", spec)
    renamed = [names.get(each, each) for each in spec.classes]
    classes = tuple(dict.fromkeys(renamed))
    _require(colours, classes, "class_colours", spec)
    own = dict(zip(renamed, spec.colours or [None] * len(renamed), strict=True))
    shown = tuple(colours.get(each, own[each]) for each in classes)
    places = tuple(classes.index(each) for each in renamed)
    return NamedClasses(model, replace(spec, classes=classes, colours=shown), places)


def _require(
    table: Mapping[str, object], known: tuple[str, ...], field: str, spec: ModelSpec
) -> None:
    for name in table:
        if name not in known:
            there = ", ".join(known) or "none"
            raise ModelError(f"{field}: {spec.name} has no class {name!r}: it has {there}")


@dataclass(frozen=True)
class NamedClasses(Wrapper):
    """A model whose classes have other names.

    Attributes
    ----------
    facts
        Those of the model, with the new classes and their colours.
    places
        Index of the new class, for each of the model's own.
    """

    facts: ModelSpec
    places: tuple[int, ...]

    @property
    def spec(self) -> ModelSpec:
        """The facts of the model, with the new classes."""
        return self.facts

    def decode(self, maps: npt.NDArray[np.generic]) -> Predictions:
        """Decode as the model does; the probability of what became one class is the sum."""
        found = self.model.decode(maps)
        # The last place is for none: -1 finds it, and is what stands there.
        classes = np.array([*self.places, -1], np.int16)[found.classes]
        shares = None
        if found.probabilities is not None:
            shares = np.zeros((len(found), len(self.facts.classes)), np.float32)
            for own, new in enumerate(self.places):
                shares[:, new] += found.probabilities[:, own]
            np.minimum(shares, 1, out=shares)
        return replace(found, classes=classes, probabilities=shares)
