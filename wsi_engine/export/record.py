"""What ``run.json`` has to tell, which anybody may have written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Kind = type | tuple[type, ...]
NUMBER: Kind = (int, float)


def untold(record: Any, facts: Mapping[str, Kind]) -> str | None:
    """Return the first fact that a record does not tell, ``None`` if it tells all.

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
