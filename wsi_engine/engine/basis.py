"""What a result rests on: on the same basis, a run finds the same nuclei."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import shapely

from wsi_engine.config import RunSettings
from wsi_engine.digests import digest, digest_of
from wsi_engine.engine.plan import RESULT_VERSION, Plan
from wsi_engine.engine.versions import versions_of_computing
from wsi_engine.models.around import members_of
from wsi_engine.models.devices import arithmetic_of
from wsi_engine.models.given import model_basis
from wsi_engine.models.objects.file import classifier_bytes, read_classifier
from wsi_engine.models.protocol import Model
from wsi_engine.models.regions.loading import is_named
from wsi_engine.results.record import Record
from wsi_engine.slide.fingerprint import fingerprint
from wsi_engine.slide.readers import reader_basis

Basis = dict[str, Any]
"""JSON-like; what differs is shown to the user by the names in it."""

CLASSES = ("classifier", "positive")
"""What `classify` changes of a finished result, whose nuclei stay."""

MACHINE = ("arithmetic", "versions", "tile_size")
"""What tiles rest on beside what the user gave and what was found on the slide."""


def basis_of(slide: Path, settings: RunSettings, given: Model | None = None) -> Basis:
    """Describe what the user gave: the slide, the settings, the files that they name, the model.

    Files count by their content, wherever they lie. This takes milliseconds.
    """
    described = {"slide": fingerprint(slide)} | reader_basis(slide)
    return described | basis_of_settings(settings, given)


def basis_of_settings(settings: RunSettings, given: Model | None = None) -> Basis:
    """Describe what `basis_of` does but for the slide.

    Raises
    ------
    ModelError
        When there is no object classifier where one is named.
    """
    described = settings.result_settings()
    if settings.tile_size == "auto":
        del described["tile_size"]  # known when it is chosen
    for name in ("class_names", "class_colours"):
        # As a list: an empty table would have no leaf that could differ.
        described[name] = [f"{key}={value}" for key, value in sorted(described[name].items())]
    described["roi"] = _digest(settings.roi)
    if settings.regions_model is not None and not is_named(settings.regions_model):
        described["regions_model"] = _digest(Path(settings.regions_model))
    described["regions_weights"] = _digest(settings.regions_weights)
    described["classifier"] = _digest_of_classifier(settings.classifier)
    if given is None:
        del described["weights"]
        described |= _described_methods(settings)
    else:
        described |= model_basis(settings.model, given)
    if settings.normalise is not None and settings.normalise_target is not None:
        described["normalise_target"] = _digest(settings.normalise_target)
    return {"version of results": RESULT_VERSION} | described


def basis_of_classes(record: Record) -> Basis:
    """Describe who gave the nuclei of a result the classes that they have, as a basis does."""
    classifier, positivity = record.classifier, record.positivity
    return {
        "classifier": None if classifier is None else classifier.sha256,
        "positive": None if positivity is None else str(positivity.rule),
    }


def _described_methods(settings: RunSettings) -> Basis:
    """Describe the methods that are asked for by name, as far as they are known unloaded."""
    described: Basis = {}
    members = members_of(settings)
    weights, looks, cards = {}, {}, {}
    for member in members:
        name, file = member.entry.name, member.weights or member.entry.weights
        if file is not None or member.entry.spec.embedded:
            weights[name] = _digest(file)  # else not known before the model has fetched them
        looks[name] = _digest(member.looks)
        described |= model_basis(name)
        if member.entry.card is not None:
            cards[name] = _digest(member.entry.card)
    if settings.normalise is not None:
        described["normalise_target"] = looks
    if len(members) > 1:
        return described | {"ensemble": list(looks), "weights": weights, "cards": cards}
    (described["model"],) = looks
    if cards:
        (described["card"],) = cards.values()
    if weights:
        (described["weights"],) = weights.values()
    return described


def basis_of_tiles(basis: Basis, plan: Plan, arithmetic: list[str]) -> Basis:
    """Add all that tiles depend on beside, whoever computes them.

    That is what was found out before the first of them (calibration, stains, where to look), and
    the `MACHINE`, whose memory may decide on the size of tiles: another would give a few nuclei
    other last digits, and some another id.

    Parameters
    ----------
    arithmetic
        Arithmetic of the devices that compute the tiles, from `models.devices.arithmetic_of`.
    """
    found = {
        "calibration": plan.model.settings(),
        "stain vectors": plan.measurer.stains.describe(),
        "tile_size": basis.get("tile_size", plan.tile_grid.core),
        "area": hashlib.sha256(shapely.to_wkb(plan.area)).hexdigest(),
        "tiles": len(plan.tiles),
        "arithmetic": arithmetic,
        "versions": versions_of_computing(),
    }
    fetched, known = getattr(plan.model, "weights", None), basis.get("weights", {})
    if isinstance(fetched, Mapping) and isinstance(known, Mapping):
        found["weights"] = {**known} | {name: _digest(path) for name, path in fetched.items()}
    elif "weights" not in basis:
        found["weights"] = _digest(fetched)
    return basis | found


def with_later_settings(was: Mapping[str, Any]) -> Basis:
    """Add the settings that there were not when a basis was written: at their defaults."""
    defaults = RunSettings().result_settings()
    del defaults["weights"]  # not known of all models
    return defaults | dict(was)


def found_regions_name(basis: Basis, devices: Sequence[str]) -> str:
    """Name the file of the regions that a model finds, by all that they depend on."""
    computing = {"arithmetic": arithmetic_of([*devices]), "versions": versions_of_computing()}
    return f"regions-{digest(basis | computing)[:16]}.geojson"


def differences(
    was: Mapping[str, Any], now: Mapping[str, Any], *, whole: bool = False
) -> list[str]:
    """Say what differs between two bases, ``name: was -> is``.

    Parameters
    ----------
    whole
        Both are complete: what is absent from one of them differs. Otherwise that is passed
        over, as it is not known to differ.
    """
    before, after = dict(_leaves(was)), dict(_leaves(now))
    names = before | after if whole else [name for name in before if name in after]

    def told(leaves: dict[str, Any], name: str) -> str:
        return _shown(leaves[name]) if name in leaves else "absent"

    return [
        f"{name}: {told(before, name)} -> {told(after, name)}"
        for name in names
        if (name in before, before.get(name)) != (name in after, after.get(name))
    ]


def _leaves(values: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{within}{name}.")
        else:
            yield f"{within}{name}", value


def _shown(value: object) -> str:
    if isinstance(value, list | tuple):
        return ",".join(map(_shown, value)) or "none"
    text = "none" if value is None else str(value)
    return f"{text[:12]}..." if _DIGEST.fullmatch(text) else text


_DIGEST = re.compile("[0-9a-f]{32,}")


def _digest(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        return _digest_as_it_is(path, _state(path))
    except OSError:
        return "unreadable"  # whoever needs it says so better


def _digest_of_classifier(path: Path | None) -> str | None:
    return None if path is None else _digest_as_kept(path, _state(path))


def _state(path: Path) -> tuple[int, ...]:
    """Tell a file from what it was, so that thousands of slides of an archive read it once."""
    try:
        status = path.stat()
    except OSError:
        return ()  # whoever reads it says why
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


@lru_cache(maxsize=64)
def _digest_as_it_is(path: Path, state: tuple[int, ...]) -> str:
    del state
    return digest_of(path)


@lru_cache(maxsize=64)
def _digest_as_kept(path: Path, state: tuple[int, ...]) -> str:
    """Digest a classifier as a result keeps it, however its file is spaced."""
    del state
    return hashlib.sha256(classifier_bytes(read_classifier(path))).hexdigest()
