"""Errors of exports that a user can act on."""

from __future__ import annotations

import importlib
from typing import Any

from wsi_engine.errors import EngineError


class ExportError(EngineError):
    """A result cannot be exported as it is asked for."""


def extra(package: str) -> Any:
    """Import a package that an export needs and the engine does not.

    Raises
    ------
    ExportError
        When it is not installed, or cannot be imported.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ExportError(
            f"this export needs {package}, which cannot be imported ({error}): "
            f'pip install "wsi-engine[{package.partition(".")[0]}]"'
        ) from None
