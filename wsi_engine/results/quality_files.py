"""The flags of a slide as files: for QuPath, and for the page of a cohort."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import shapely

from wsi_engine.errors import EngineError
from wsi_engine.nuclei.polygons import polygon_parts, repaired_on_grid
from wsi_engine.qupath.features import annotation_feature
from wsi_engine.qupath.reader import read_objects
from wsi_engine.qupath.writer import write_features
from wsi_engine.results.finished import SlideResult
from wsi_engine.results.layout import QUALITY_FILE, QUALITY_GEOJSON
from wsi_engine.slide.quality.flag import Flag, FlagLevel
from wsi_engine.version import __version__

CLASSES = {
    "blur": "Blur",
    "pen": "Pen",
    "folds": "Fold",
    "nuclei": "No nuclei",
    "density": "Crowded",
}


def write_flags(result: SlideResult, flags: Sequence[Flag], folder: Path) -> None:
    """Write ``quality.json``, and ``quality.geojson`` where flags name places, into a folder."""
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
    facts = {"version": __version__, "run_finished": result.record.finished, "flags": kept}
    text = json.dumps(facts, indent=1, ensure_ascii=False)
    (folder / QUALITY_FILE).write_text(text, encoding="utf-8")
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
        for k, place in enumerate(repaired_on_grid(np.array(flag.where, object))[0], start=1)
    ]
    if places:
        write_features(folder / QUALITY_GEOJSON, places)


def read_flags(result: SlideResult) -> list[Flag] | None:
    """Read the flags of a result and their places; ``None`` where there are none of this run."""
    try:
        facts: Any = json.loads((result.folder / QUALITY_FILE).read_text(encoding="utf-8"))
        if facts["run_finished"] != result.record.finished:
            return None
        places = _read_places(result)
        return [_flag_of(kept, places.get(kept["name"], ())) for kept in facts["flags"]]
    except (OSError, ValueError, KeyError, TypeError, EngineError):
        return None  # no flag is better than one of unknown origin


def doubts_in(folder: Path) -> list[str]:
    """Return what the checks of a result found to be bad, as warnings; none without a page."""
    try:
        facts: Any = json.loads((folder / QUALITY_FILE).read_text(encoding="utf-8"))
        bad = [str(flag["sentence"]) for flag in facts["flags"] if flag["level"] == "bad"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [sentence.rstrip(".") for sentence in bad]


def _flag_of(kept: dict[str, Any], where: tuple[shapely.Polygon, ...]) -> Flag:
    if kept["level"] not in get_args(FlagLevel):
        raise ValueError(kept["level"])
    value = kept["value"] if kept["value"] is None else float(kept["value"])
    return Flag(kept["name"], kept["level"], value, kept["unit"], kept["sentence"], where)


def _read_places(result: SlideResult) -> dict[str, tuple[shapely.Polygon, ...]]:
    """Return the places by the name of their flag."""
    path = result.folder / QUALITY_GEOJSON
    objects = read_objects(path) if path.exists() else []
    return {
        name: tuple(
            part
            for item in objects
            if item.class_name == class_name
            for part in polygon_parts(item.geometry)
        )
        for name, class_name in CLASSES.items()
    }
