"""Models by name: their facts at hand, their networks (and torch with them) when loaded."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from wsi_engine.errors import ModelError
from wsi_engine.models import hovernet_spec, starconvex_spec, watershed
from wsi_engine.models.protocol import Model, ModelSpec


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A model that can be asked for: its facts, and how to load it.

    ``load`` takes a file of weights, or ``None`` for the published or embedded ones; ``weights``
    is the file of the latter, if there is one: results rest on its content.
    """

    spec: ModelSpec
    load: Callable[[Path | None], Model]
    weights: Path | None = None


def available_models() -> dict[str, ModelEntry]:
    """Return every model by name; none is loaded.

    Returns
    -------
    dict of str to ModelEntry
        Facts of each model (``spec``) and the function that loads it.

    Examples
    --------
    >>> import wsi_engine as we
    >>> we.available_models()["watershed"].spec.mpp  # its pixels, in µm
    0.5
    """
    entries = [
        ModelEntry(starconvex_spec.SPEC, _load_starconvex, starconvex_spec.WEIGHTS),
        ModelEntry(watershed.SPEC, _load_watershed),
    ]
    entries += [
        ModelEntry(spec, functools.partial(_load_hovernet, name))
        for name, spec in hovernet_spec.SPECS.items()
    ]
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


def _load_hovernet(name: str, weights: Path | None) -> Model:
    from wsi_engine.models.tiatoolbox import load_hovernet

    return load_hovernet(name, weights)


def _load_watershed(weights: Path | None) -> Model:
    if weights is not None:
        raise ModelError("the watershed model has no weights: leave --weights out")
    return watershed.Watershed()
