"""How to install what a command lacks, in words that work where the engine came from."""

from __future__ import annotations

from pathlib import Path

CHECKOUT = Path(__file__).parents[1]
"""Folder that holds the package: of a checkout, or of the environment's packages."""


def install_command(extra: str) -> str:
    """Return the shell command that installs the engine together with one of its extras.

    A package that is run from a checkout, as an editable installation is, is installed from there
    again: the one of that name on an index would take its place.

    Examples
    --------
    >>> from wsi_engine.installing import CHECKOUT, install_command
    >>> print(install_command("regions").replace(str(CHECKOUT), "."))
    pip install -e ".[regions]"
    """
    if not (CHECKOUT / "pyproject.toml").is_file():
        return f'pip install "wsi-engine[{extra}]"'
    place = "." if Path.cwd() == CHECKOUT else CHECKOUT
    return f'pip install -e "{place}[{extra}]"'
