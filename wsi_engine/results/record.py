"""Reading ``run.json`` back, which anybody may have written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wsi_engine.errors import ResultError
from wsi_engine.results.layout import RECORD

COUNTED: Mapping[str, Kind] = {"nuclei": dict, "nuclei.count": int}
"""The facts in every record."""


def read_record(folder: Path, facts: Mapping[str, Kind] = COUNTED) -> dict[str, Any]:
    """Return the content of ``run.json`` in a result folder.

    Parameters
    ----------
    facts
        Facts that it must hold: names, those within others after a dot, and types of the values.

    Raises
    ------
    ResultError
        When it cannot be read, or lacks one of them.
    """
    try:
        record = json.loads((folder / RECORD).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ResultError(f"{folder / RECORD} cannot be read: {error}") from None
    if (name := missing_fact(record, facts)) is not None:
        raise ResultError(
            f"{folder / RECORD} is not the record of a run of this version: it does not tell {name}"
        )
    assert isinstance(record, dict)
    return record


Kind = type | tuple[type, ...]


NUMBER: Kind = (int, float)


def missing_fact(record: Any, facts: Mapping[str, Kind]) -> str | None:
    """Return the first fact that a record lacks, ``None`` if it has all.

    Parameters
    ----------
    record
        Content of ``run.json``, of any type.
    facts
        Names, those within others after a dot, and types of the values.
    """
    return next((name for name, kind in facts.items() if not _tells(record, name, kind)), None)


def _tells(value: Any, name: str, kind: Kind) -> bool:
    for key in name.split("."):
        if not isinstance(value, dict) or key not in value:
            return False
        value = value[key]
    return isinstance(value, kind)
