"""Files that QuPath itself wrote, shared beside the project."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

EXPORTS = Path(__file__).resolve().parents[2] / "shared" / "qupath" / "exports"


def shared_export(name: str) -> Path:
    """Return one of QuPath's exports; without it the test is skipped, in CI it fails."""
    path = EXPORTS / name
    if not path.exists():
        if os.environ.get("CI"):
            pytest.fail(f"CI must have QuPath's export {name} in {EXPORTS}")
        pytest.skip(f"QuPath's export {name} is not there")
    return path
