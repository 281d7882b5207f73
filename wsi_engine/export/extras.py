"""Packages that some exports need and the engine does not."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from wsi_engine.errors import ExportError
from wsi_engine.installing import install_command


def extra(module: str, name: str | None = None) -> Any:
    """Import a module of an extra, which has the name of the package unless another is given.

    Raises
    ------
    ExportError
        When it is not installed, or cannot be imported.
    """
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ExportError(
            f"this export needs {package}, which cannot be imported ({error}): "
            f"{install_command(name or package)}"
        ) from None
