"""Warm-up: what is compiled on first use is compiled before there is a slide."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from wsi_engine.engine.run import run
from wsi_engine.sample import write_sample

FIELD_PX = 512
"""Side of the tissue: enough that every kernel has nuclei to work on."""


def warm_up(config: Path | None, **settings: Any) -> None:
    """Run through a small generated slide, and forget it.

    The kernels that decode and measure are compiled for this processor when they are first
    called, and kept beside the package or in the user's cache folder.

    Parameters
    ----------
    config, **settings
        Settings, as for `run`.

    Raises
    ------
    EngineError
        When no run with these settings is possible.
    """
    with tempfile.TemporaryDirectory(prefix="wsi-engine-") as scratch:
        sample = write_sample(Path(scratch) / "sample.tif", field_px=FIELD_PX)
        run(sample.slide_path, scratch, config=config, **settings)
