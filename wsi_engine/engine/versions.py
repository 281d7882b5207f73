"""Versions of everything that takes part in a result."""

from __future__ import annotations

import platform
from functools import cache
from importlib import metadata

import openslide

from wsi_engine.version import __version__

PACKAGES = (
    "numpy",
    "torch",
    "openvino",
    "shapely",
    "scikit-image",
    "scipy",
    "numba",
    "pillow",
    "pyarrow",
)

ONLY_WRITING = ("wsi-engine", "python", "pyarrow")
"""No digit depends on them: what this package computes is told by the version of results."""


def versions() -> dict[str, str]:
    """Return the versions of everything that takes part in a result, by name."""
    known = {"wsi-engine": __version__, "python": platform.python_version()}
    known |= {name: _version(name) for name in PACKAGES}
    known["openslide"] = openslide.__library_version__
    return known


@cache
def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:  # OpenVINO is not made for every platform
        return "absent"


def versions_of_computing() -> dict[str, str]:
    """Return the versions of what computes nuclei, and of what decodes the pixels."""
    return {name: version for name, version in versions().items() if name not in ONLY_WRITING}
