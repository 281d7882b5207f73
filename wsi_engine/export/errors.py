"""Errors of exports that a user can act on."""

from __future__ import annotations

from wsi_engine.errors import EngineError


class ExportError(EngineError):
    """A result cannot be exported as it is asked for."""
