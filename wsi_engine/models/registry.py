"""Models by name: their facts at hand, their networks (and torch with them) when loaded."""

from __future__ import annotations

import difflib
import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from wsi_engine.errors import ModelError
from wsi_engine.models import hovernet_spec, starconvex_spec, watershed
from wsi_engine.models.protocol import Model, ModelSpec
from wsi_engine.plugins import Plugins, plugins

log = logging.getLogger(__name__)

GROUP = "wsi_engine.models"
"""Entry points of other packages; each is a `ModelEntry` under the name of its model."""


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A model that can be asked for by name.

    Attributes
    ----------
    spec
        Facts about it, to be had without what it computes with.
    load
        Loads it, ready for the CPU; takes a file of weights, or ``None`` for the published or
        embedded ones. Raises `ModelError` where a file does not fit.
    weights
        File of the embedded weights, if there is one: results rest on its content.

    Examples
    --------
    >>> import wsi_engine as we
    >>> we.available_models()["watershed"].spec.mpp
    0.5
    """

    spec: ModelSpec
    load: Callable[[Path | None], Model]
    weights: Path | None = None

    @property
    def name(self) -> str:
        """Name by which the model is asked for."""
        return self.spec.name


def available_models() -> dict[str, ModelEntry]:
    """Return every model by name: those of this package, then those of other packages.

    Nothing is loaded. A model of another package that cannot be used is left out, and logged as
    a warning.

    Returns
    -------
    dict of str to ModelEntry
        Facts of each model (``spec``) and the function that loads it.

    Examples
    --------
    >>> import wsi_engine as we
    >>> "starconvex" in we.available_models()
    True
    """
    others = _of_other_packages()
    for problem in others.problems.values():
        log.warning(problem)
    return BUILT_IN | dict(others.found)


def find_model(name: str) -> ModelEntry:
    """Return the entry of a model.

    Raises
    ------
    ModelError
        When there is none of that name (the message suggests the nearest), or its package is
        broken.
    """
    if name in BUILT_IN:
        return BUILT_IN[name]
    others = _of_other_packages()
    if name in others.found:
        return others.found[name]
    if name in others.problems:
        raise ModelError(others.problems[name])
    models = BUILT_IN | dict(others.found)
    near = difflib.get_close_matches(name.lower(), models, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(models)}"
    raise ModelError(f"unknown model {name!r}: {hint}")


def package_of(name: str) -> str | None:
    """Return name and version of the package that brings a model; ``None`` for this one's own."""
    return None if name in BUILT_IN else _of_other_packages().packages.get(name)


def _of_other_packages() -> Plugins[ModelEntry]:
    return plugins(GROUP, ModelEntry, frozenset(BUILT_IN))


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


BUILT_IN = {
    entry.name: entry
    for entry in (
        ModelEntry(starconvex_spec.SPEC, _load_starconvex, starconvex_spec.WEIGHTS),
        ModelEntry(watershed.SPEC, _load_watershed),
        *(
            ModelEntry(spec, functools.partial(_load_hovernet, name))
            for name, spec in hovernet_spec.SPECS.items()
        ),
    )
}
"""The models of this package; the first is the default."""
