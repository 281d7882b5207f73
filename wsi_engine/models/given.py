"""Models that are given as objects, in place of a name."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from multiprocessing.reduction import ForkingPickler
from typing import Any

from wsi_engine.digests import digest
from wsi_engine.errors import ModelError
from wsi_engine.models.protocol import Declaring, Model, ModelSpec
from wsi_engine.models.registry import package_of

METHODS = ("calibrate", "settings", "to", "maps", "decode")
"""What an object must have besides its spec to be a model."""


def require_model(given: object) -> None:
    """Raise `ModelError` if an object is no model at all."""
    missing = [name for name in METHODS if not callable(getattr(given, name, None))]
    if not isinstance(getattr(given, "spec", None), ModelSpec):
        missing.insert(0, "a ModelSpec as spec")
    if missing:
        raise ModelError(
            f"an object of type {type(given).__name__} is no model: it lacks {', '.join(missing)}; "
            "give a name, or an object as wsi_engine.Model describes it"
        )


def require_picklable(model: Model) -> None:
    """Raise `ModelError` if a model cannot be sent to other processes."""
    try:
        ForkingPickler.dumps(model)
    # Objects raise what they like.
    except Exception as error:
        raise ModelError(
            f"model {model.spec.name!r} cannot be sent to other processes ({error}): leave jobs "
            "and executor out, or make it picklable"
        ) from None


def model_basis(name: str, given: Model | None = None) -> dict[str, Any]:
    """Describe a model, as far as a result rests on it and not on its name alone.

    Returns
    -------
    dict
        Nothing for a model of this package; the version of another package for its model; for an
        object, under ``model``, a digest of its class and the source of that, its spec and
        settings, and what it declares (`Declaring`).
    """
    if given is None:
        package = package_of(name)
        return {} if package is None else {"package of the model": package}
    kind = type(given)
    spec = asdict(given.spec)
    del spec["bytes_per_px"]  # no nucleus depends on it
    described = {
        "class": f"{kind.__module__}.{kind.__qualname__}",
        "source": _source(kind),
        "spec": spec,
        "settings": given.settings(),
        "declared": dict(given.basis()) if isinstance(given, Declaring) else _own_values(given),
    }
    try:
        return {"model": f"object {digest(described)[:16]}"}
    except TypeError as error:
        raise ModelError(
            f"model {given.spec.name!r}: settings and basis must hold plain numbers and texts "
            f"({error})"
        ) from None


def _source(kind: type) -> str | None:
    try:
        return inspect.getsource(kind)
    except (OSError, TypeError):  # typed into a console
        return None


def _own_values(model: Model) -> Mapping[str, Any]:
    """Return the numbers and texts that a model holds, if it does not say what counts."""
    names = [field.name for field in fields(model)] if is_dataclass(model) else vars(model)
    values = {name: getattr(model, name) for name in names}
    plain = (bool, int, float, str, type(None))
    return {name: value for name, value in values.items() if isinstance(value, plain)}
