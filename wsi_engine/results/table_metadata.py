"""What a Parquet file says of itself: where its geometry is, and facts of this engine."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

KEY = "wsi_engine"
"""Key of the metadata that holds the facts, as JSON."""


def table_metadata(facts: Mapping[str, object]) -> dict[str, str]:
    """Return the metadata of a table without geometry."""
    return {KEY: json.dumps(facts)}


def geo_metadata(
    facts: Mapping[str, object],
    geometry_types: Sequence[str] = ("Polygon",),
    column: Mapping[str, object] | None = None,
) -> dict[str, str]:
    """Return the metadata of GeoParquet 1.1 whose column ``geometry`` holds WKB.

    It has no coordinate reference system of the earth: ``crs`` is null.

    Parameters
    ----------
    facts
        Facts of this engine, such as the pixel size.
    geometry_types
        Those that occur; none where they are not known.
    column
        What else there is to say of the column.
    """
    geometry = {"encoding": "WKB", "geometry_types": [*geometry_types], "crs": None}
    geo = {
        "version": "1.1.0",
        "primary_column": "geometry",
        "columns": {"geometry": geometry | dict(column or {})},
    }
    return {"geo": json.dumps(geo), **table_metadata(facts)}


def facts_of(schema: pa.Schema) -> dict[str, Any]:
    """Return the facts of this engine in the metadata of a table.

    Raises
    ------
    KeyError, TypeError, ValueError
        When there are none.
    """
    facts = json.loads((schema.metadata or {})[KEY.encode()])
    if not isinstance(facts, dict):
        raise TypeError(f"{KEY} holds no facts")
    return facts
