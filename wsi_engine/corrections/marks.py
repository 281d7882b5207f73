"""What a person gives to an object in QuPath beside class, name and shape."""

from __future__ import annotations

import json

from wsi_engine.nuclei.labels import OWN_KEYS
from wsi_engine.qupath.objects import PathObject

IMPORT_KEY = "_wsi_engine"
"""Under which ``import_results.groovy`` notes what an object was like when it came in."""


def notes_of(item: PathObject) -> dict[str, str]:
    """Return the metadata of an object that a person gave to it."""
    known = (*OWN_KEYS, IMPORT_KEY)
    return {key: text for key, text in item.metadata.items() if key not in known}


def look_text(item: PathObject) -> str | None:
    """Return the lock and the own colour of an object as one text; ``None`` for neither."""
    return f"{item.is_locked} {item.colour}" if item.is_locked or item.colour else None


def notes_text(item: PathObject) -> str | None:
    """Return the metadata that a person gave to an object as one text; ``None`` for none."""
    notes = notes_of(item)
    return json.dumps(notes, sort_keys=True) if notes else None
