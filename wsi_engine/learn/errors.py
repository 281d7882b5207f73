"""Errors of training and evaluation that a user can act on."""

from __future__ import annotations

from wsi_engine.errors import EngineError


class DatasetError(EngineError):
    """An annotated image cannot be used: unreadable, mismatched, or without nuclei."""


class TrainingError(EngineError):
    """Training cannot start or go on. Checkpoints on disk are never touched by it."""
