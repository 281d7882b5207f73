"""Reading ``run.json`` back, which anybody may have written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wsi_engine.engine.output import RECORD
from wsi_engine.errors import ResultError
from wsi_engine.export.record import Kind, untold

COUNTED: Mapping[str, Kind] = {"nuclei": dict, "nuclei.count": int}
"""What every record tells."""


def read_record(folder: Path, facts: Mapping[str, Kind] = COUNTED) -> dict[str, Any]:
    """Return the content of ``run.json`` in a result folder.

    Parameters
    ----------
    facts
        What it has to tell: names, those within others after a dot, and types of the values.

    Raises
    ------
    ResultError
        When it cannot be read, or does not tell all of it.
    """
    try:
        record = json.loads((folder / RECORD).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ResultError(f"{folder / RECORD} cannot be read: {error}") from None
    if (name := untold(record, facts)) is not None:
        raise ResultError(
            f"{folder / RECORD} is not the record of a run of this version: it does not tell {name}"
        )
    assert isinstance(record, dict)
    return record
