"""Errors of conversion that a user can act on."""

from __future__ import annotations

from wsi_engine.errors import EngineError


class ConversionError(EngineError):
    """A file cannot be converted: its kind is unknown, or its content is not of that kind."""
