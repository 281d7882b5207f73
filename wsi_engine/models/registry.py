"""Models by name: their facts at hand, their networks (and torch with them) when loaded."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from wsi_engine.errors import ModelError
from wsi_engine.models import hovernet_spec, starconvex_spec, threshold, watershed
from wsi_engine.models.dense import cnn_watershed, contour_aware, fcn, two_stage, unet
from wsi_engine.models.dense.method import DenseMethod
from wsi_engine.models.protocol import Model, ModelSpec

DENSE = (
    fcn.METHOD,
    unet.METHOD,
    cnn_watershed.METHOD,
    two_stage.METHOD,
    contour_aware.METHOD,
)
"""Methods whose network answers for every pixel."""


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A model that can be asked for: its facts, and how to load it.

    ``load`` takes a file of weights, or ``None`` for the published or embedded ones.
    """

    spec: ModelSpec
    load: Callable[[Path | None], Model]


def available_models() -> dict[str, ModelEntry]:
    """Every model by name. Nothing is loaded."""
    entries = [
        ModelEntry(starconvex_spec.SPEC, _load_starconvex),
        ModelEntry(watershed.SPEC, _weightless(watershed.Watershed())),
        ModelEntry(watershed.HMAXIMA_SPEC, _weightless(watershed.Watershed(seeds="h-maxima"))),
        ModelEntry(threshold.SPEC, _weightless(threshold.Threshold())),
        ModelEntry(threshold.LOCAL_SPEC, _weightless(threshold.Threshold(kind="local"))),
    ]
    entries += [
        ModelEntry(spec, functools.partial(_load_hovernet, name))
        for name, spec in hovernet_spec.SPECS.items()
    ]
    entries += [ModelEntry(method.spec, functools.partial(_load_dense, method)) for method in DENSE]
    return {entry.spec.name: entry for entry in entries}


def find_model(name: str) -> ModelEntry:
    """Return the entry of a model.

    Raises
    ------
    ModelError
        When there is none of that name; the message suggests the nearest.
    """
    models = available_models()
    if name in models:
        return models[name]
    near = difflib.get_close_matches(name.lower(), models, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(models)}"
    raise ModelError(f"unknown model {name!r}: {hint}")


def _load_starconvex(weights: Path | None) -> Model:
    from wsi_engine.models.starconvex import load_starconvex

    return load_starconvex(weights)


def _load_dense(method: DenseMethod, weights: Path | None) -> Model:
    from wsi_engine.models.dense.model import load_dense

    return load_dense(method, weights)


def _load_hovernet(name: str, weights: Path | None) -> Model:
    from wsi_engine.models.tiatoolbox import load_hovernet

    return load_hovernet(name, weights)


def _weightless(model: Model) -> Callable[[Path | None], Model]:
    """Return what loads a model that has nothing to learn."""

    def load(weights: Path | None) -> Model:
        if weights is not None:
            raise ModelError(f"the {model.spec.name} model has no weights: leave --weights out")
        return model

    return load
