"""Models by name: their facts at hand, their networks (and torch with them) when loaded."""

from __future__ import annotations

import difflib
import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from wsi_engine.errors import ModelError
from wsi_engine.models import ensemble, hovernet_spec, micronet_spec, threshold, watershed
from wsi_engine.models.dense import cnn_watershed, contour_aware, fcn, two_stage, unet
from wsi_engine.models.dense.method import DenseMethod, weights_file
from wsi_engine.models.foreign.card import is_card, read_card
from wsi_engine.models.learning import Training
from wsi_engine.models.maskrcnn import spec as maskrcnn_spec
from wsi_engine.models.protocol import Model, ModelSpec
from wsi_engine.models.starconvex.spec import DEFAULT, ShippedNetwork
from wsi_engine.plugins import Plugins, plugins

log = logging.getLogger(__name__)

GROUP = "wsi_engine.models"
"""Entry points of other packages; each is a `ModelEntry` under the name of its model."""

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
    training
        Returns how it is trained, where it can be.
    card
        Card of a network of others: results rest on its content, too.

    Examples
    --------
    >>> import wsi_engine as we
    >>> we.available_models()["watershed"].spec.mpp
    0.5
    """

    spec: ModelSpec
    load: Callable[[Path | None], Model]
    weights: Path | None = None
    training: Callable[[], Training] | None = None
    card: Path | None = None

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
    """Return the entry of a model: of this package, of another, or of the card at that path.

    Raises
    ------
    ModelError
        When there is none of that name (the message suggests the nearest), its package is
        broken, or the card is none.
    """
    if name in BUILT_IN:
        return BUILT_IN[name]
    others = _of_other_packages()
    if name in others.found:
        return others.found[name]
    if name in others.problems:
        raise ModelError(others.problems[name])
    if is_card(name):
        return _of_card(Path(name))
    models = BUILT_IN | dict(others.found)
    near = difflib.get_close_matches(name.lower(), models, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(models)}"
    raise ModelError(f"unknown model {name!r}: {hint}")


def find_training(name: str) -> Training:
    """Return how a method is trained.

    Raises
    ------
    ModelError
        If there is no method of that name, or none that learns.
    """
    entry = find_model(name)
    if entry.training is None:
        learning = ", ".join(k for k, each in BUILT_IN.items() if each.training is not None)
        raise ModelError(f"{name} cannot be trained here: train one of {learning}")
    return entry.training()


def package_of(name: str) -> str | None:
    """Return name and version of the package that brings a model; ``None`` for this one's own."""
    return None if name in BUILT_IN else _of_other_packages().packages.get(name)


def _of_other_packages() -> Plugins[ModelEntry]:
    return plugins(GROUP, ModelEntry, frozenset(BUILT_IN))


def _load_starconvex(shipped: ShippedNetwork, weights: Path | None) -> Model:
    if weights is None:
        from wsi_engine.models.starconvex.shipped import load_shipped

        return load_shipped(shipped)
    from wsi_engine.models.starconvex.model import load_starconvex

    return load_starconvex(weights, shipped)


def _starconvex(shipped: ShippedNetwork) -> ModelEntry:
    load = functools.partial(_load_starconvex, shipped)
    return ModelEntry(shipped.spec, load, shipped.weights, _train_starconvex)


def _train_starconvex() -> Training:
    from wsi_engine.models.starconvex.learning import TRAINING

    return TRAINING


def _load_dense(method: DenseMethod, weights: Path | None) -> Model:
    if weights is None:
        from wsi_engine.models.dense.shipped import load_shipped

        return load_shipped(method)
    from wsi_engine.models.dense.model import load_dense

    return load_dense(method, weights)


def _train_dense(method: DenseMethod) -> Training:
    from wsi_engine.models.dense.learning import training

    return training(method)


def _load_mask_rcnn(weights: Path | None) -> Model:
    from wsi_engine.models.maskrcnn.model import load_mask_rcnn

    return load_mask_rcnn(weights)


def _train_mask_rcnn() -> Training:
    from wsi_engine.models.maskrcnn.learning import TRAINING

    return TRAINING


def _load_hovernet(name: str, weights: Path | None) -> Model:
    from wsi_engine.models.tiatoolbox import load_hovernet

    return load_hovernet(name, weights)


def _load_ensemble(weights: Path | None) -> Model:
    if weights is not None:
        raise ModelError("an ensemble has no weights of its own: leave --weights out")
    return ensemble.ensemble([find_model(name).load(None) for name in ensemble.DEFAULT_MEMBERS])


def _of_card(path: Path) -> ModelEntry:
    card, file = read_card(path)
    if card.name in BUILT_IN:
        raise ModelError(
            f"{path.name}: name = {card.name!r} is a model of this package: choose another"
        )

    def load(weights: Path | None) -> Model:
        if weights is not None:
            raise ModelError(f"{path.name} names its own file: leave --weights out")
        from wsi_engine.models.foreign.model import load_card

        return load_card(path)

    return ModelEntry(card.spec, load, file, card=path)


def _load_micronet(weights: Path | None) -> Model:
    from wsi_engine.models.micronet import load_micronet

    return load_micronet(weights)


def _weightless(model: Model) -> ModelEntry:
    """Return the entry of a model that has nothing to learn."""

    def load(weights: Path | None) -> Model:
        if weights is not None:
            raise ModelError(f"the {model.spec.name} model has no weights: leave --weights out")
        return model

    return ModelEntry(model.spec, load)


def _dense(method: DenseMethod) -> ModelEntry:
    weights = weights_file(method.spec.name) if method.spec.embedded else None
    return ModelEntry(
        method.spec,
        functools.partial(_load_dense, method),
        weights,
        # Once, for the sections of two configurations to be of one type.
        functools.cache(functools.partial(_train_dense, method)),
    )


BUILT_IN = {
    entry.name: entry
    for entry in (
        _starconvex(DEFAULT),
        _weightless(watershed.Watershed()),
        _weightless(watershed.Watershed(seeds="h-maxima")),
        _weightless(threshold.Threshold()),
        _weightless(threshold.Threshold(kind="local")),
        *map(_dense, DENSE),
        ModelEntry(
            maskrcnn_spec.SPEC,
            _load_mask_rcnn,
            maskrcnn_spec.WEIGHTS if maskrcnn_spec.SPEC.embedded else None,
            _train_mask_rcnn,
        ),
        ModelEntry(ensemble.SPEC, _load_ensemble),
        *(
            ModelEntry(spec, functools.partial(_load_hovernet, spec.name))
            for spec in (*hovernet_spec.SPECS.values(), hovernet_spec.PLUS_SPEC)
        ),
        ModelEntry(micronet_spec.SPEC, _load_micronet),
    )
}
"""The models of this package; the first is the default."""
