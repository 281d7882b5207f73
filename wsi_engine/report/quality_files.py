"""The flags of a slide as files: for QuPath, and for the page of a cohort."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wsi_engine.nuclei.polygons import mended
from wsi_engine.qupath.features import annotation_feature
from wsi_engine.qupath.writer import write_features
from wsi_engine.regions.finished import FinishedResult
from wsi_engine.slide.quality.flag import Flag
from wsi_engine.version import __version__
from wsi_engine.writing import atomic_path

FLAGS_FILE, PLACES_FILE = "quality.json", "quality.geojson"
CLASSES = {"blur": "Blur", "pen": "Pen", "folds": "Fold", "nuclei": "No nuclei"}


@dataclass(frozen=True)
class ShownFlag:
    """A flag as it was kept, without its places."""

    name: str
    level: str
    value: float | None
    unit: str
    sentence: str


def write_flags(result: FinishedResult, flags: Sequence[Flag]) -> None:
    """Write ``quality.json``, and ``quality.geojson`` with the places that flags name.

    The second is left out, and an earlier one removed, where no flag names a place.
    """
    kept = [
        {
            "name": flag.name,
            "level": flag.level,
            "value": flag.value,
            "unit": flag.unit,
            "sentence": flag.sentence,
        }
        for flag in flags
    ]
    facts = {"version": __version__, "run_finished": result.record["finished"], "flags": kept}
    with atomic_path(result.folder / FLAGS_FILE) as partial:
        partial.write_text(json.dumps(facts, indent=1, ensure_ascii=False), encoding="utf-8")
    namespace = uuid.uuid5(uuid.NAMESPACE_OID, f"quality {result.name}")
    places = [
        annotation_feature(
            str(uuid.uuid5(namespace, f"{flag.name} {k}")),
            place,
            name=f"{CLASSES[flag.name]} {k}",
            classification=CLASSES[flag.name],
            locked=True,
        )
        for flag in flags
        for k, place in enumerate(mended(np.array(flag.where, object))[0], start=1)
    ]
    if places:
        write_features(result.folder / PLACES_FILE, places)
    else:
        (result.folder / PLACES_FILE).unlink(missing_ok=True)


def read_flags(result: FinishedResult) -> list[ShownFlag] | None:
    """Read the flags of a result; ``None`` where there are none of this run."""
    try:
        facts: Any = json.loads((result.folder / FLAGS_FILE).read_text(encoding="utf-8"))
        if facts["run_finished"] != result.record["finished"]:
            return None
        return [ShownFlag(**flag) for flag in facts["flags"]]
    except (OSError, ValueError, KeyError, TypeError):
        return None  # no flag is better than one of unknown origin
