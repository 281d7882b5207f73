"""Slides for tests: real ones from the shared folder, and synthetic ones."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


def real_slide(name: str) -> Path:
    """Path of a real slide; without it the test is skipped, but fails in CI."""
    path = SHARED / "data" / "slides" / name
    if not path.exists():
        if os.environ.get("CI"):
            pytest.fail(f"{name} is missing from the shared folder")
        pytest.skip(f"{name} is not here")
    return path
