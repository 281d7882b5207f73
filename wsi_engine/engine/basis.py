"""What a result rests on: on the same basis, a run finds the same nuclei."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import shapely

import wsi_engine.models
from wsi_engine.config import RunSettings
from wsi_engine.digests import digest_of
from wsi_engine.engine.plan import RESULT_VERSION, Plan
from wsi_engine.models.given import model_basis
from wsi_engine.models.protocol import Model
from wsi_engine.slide.fingerprint import fingerprint
from wsi_engine.slide.readers import reader_basis

Basis = dict[str, Any]
"""JSON-like; what differs is shown to the user by the names in it."""

_WEIGHTS = Path(wsi_engine.models.__file__).parent / "weights"


def basis_of(slide: Path, settings: RunSettings, given: Model | None = None) -> Basis:
    """Describe what the user gave: the slide, the settings, the files that they name, the model.

    Files count by their content, wherever they lie. This takes milliseconds.
    """
    described = {"slide": fingerprint(slide)} | reader_basis(slide)
    return described | basis_of_settings(settings, given)


def basis_of_settings(settings: RunSettings, given: Model | None = None) -> Basis:
    """Describe what `basis_of` does but for the slide."""
    described = settings.result_settings()
    embedded = _WEIGHTS / f"{settings.model}.safetensors"
    weights = settings.weights or (embedded if embedded.exists() else None)
    for name, path in (("weights", weights), ("roi", settings.roi)):
        described[name] = _digest(path) if path is not None else None
    described |= model_basis(settings.model, given)
    return {"version of results": RESULT_VERSION} | described


def basis_of_tiles(basis: Basis, plan: Plan) -> Basis:
    """Add what was found out before the first tile: calibration, stains, where to look."""
    return basis | {
        "calibration": plan.model.settings(),
        "stain vectors": plan.measurer.stains.describe(),
        "area": hashlib.sha256(shapely.to_wkb(plan.area)).hexdigest(),
        "tiles": len(plan.tiles),
    }


def differences(
    was: Mapping[str, Any], now: Mapping[str, Any], *, whole: bool = False
) -> list[str]:
    """Say what differs between two bases, ``name: was -> is``.

    Parameters
    ----------
    whole
        Both tell everything: what is absent from one of them differs. Otherwise that is passed
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
    return f"{text[:12]}..." if len(text) > 30 else text


def _digest(path: Path) -> str:
    try:
        status = path.stat()
        return _digest_as_it_is(path, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    except OSError:
        return "unreadable"  # whoever needs it says so better


@lru_cache(maxsize=64)
def _digest_as_it_is(path: Path, size: int, modified: int, changed: int) -> str:
    """Read a file once for the thousands of slides of an archive, unless it changes meanwhile."""
    del size, modified, changed
    return digest_of(path)
