"""Slides to measure on: drawn tissue, or pixels of a slide, laid side by side."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from wsi_engine.phantom import RepeatedBlock, lay_out_tissue, render_tissue, scatter_nuclei
from wsi_engine.slide.frames import Mpp
from wsi_engine.slide.pyramid import write_pyramid

SIDE_PX = 1024


def drawn_tissue(mpp: float) -> RepeatedBlock:
    """Draw one block of tissue, the same every time."""
    rng = np.random.default_rng(0)
    tissue = lay_out_tissue((SIDE_PX, SIDE_PX), mpp, rng)
    nuclei = scatter_nuclei(tissue, rng)
    return RepeatedBlock(render_tissue((SIDE_PX, SIDE_PX), nuclei, mpp, rng, tissue), nuclei, 1, 1)


def write_repeated(path: Path, block: RepeatedBlock, times: int, mpp: float | Mpp) -> Path:
    """Write a slide that shows a block so many times in both directions."""
    write_pyramid(path, replace(block, down=times, across=times), mpp)
    return path
