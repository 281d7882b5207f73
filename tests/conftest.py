"""Fixtures that several test files share."""

from __future__ import annotations

from pathlib import Path

import pytest

from wsi_engine.sample import SampleTruth, write_sample


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> SampleTruth:
    """The demo sample with a small generated field."""
    folder: Path = tmp_path_factory.mktemp("sample")
    return write_sample(folder / "sample.tif", seed=1, field_px=1024)
