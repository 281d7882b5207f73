"""Memory does not grow with the slide."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from wsi_engine.phantom import (
    RepeatedBlock,
    lay_out_tissue,
    render_tissue,
    scatter_nuclei,
)
from wsi_engine.slide.pyramid import write_pyramid

BLOCK_PX = 1024
MPP = 0.25


def test_sixteen_times_the_area_takes_the_same_memory(tmp_path: Path):
    small = _peak_mb(
        _slide(tmp_path / "small.tif", 5), tmp_path, "--model", "watershed", "--tile-size", "256"
    )
    large = _peak_mb(
        _slide(tmp_path / "large.tif", 20), tmp_path, "--model", "watershed", "--tile-size", "256"
    )
    assert large < 1.1 * small

    default = _peak_mb(tmp_path / "large.tif", tmp_path, "--model", "watershed", "--force")
    assert default < 1500


def _slide(path: Path, blocks: int) -> Path:
    rng = np.random.default_rng(0)
    shape = (BLOCK_PX, BLOCK_PX)
    tissue = lay_out_tissue(shape, MPP, rng)
    nuclei = scatter_nuclei(tissue, rng)
    block = render_tissue(shape, nuclei, MPP, rng, tissue)
    write_pyramid(path, RepeatedBlock(block, nuclei, blocks, blocks), MPP)
    return path


def _peak_mb(slide: Path, output: Path, *options: str) -> float:
    """Run the command line in a process of its own and return the peak of its memory."""
    command = [sys.executable, "-m", "wsi_engine", "run", str(slide), "-o", str(output), *options]
    command += ["--model", "watershed"]
    subprocess.run(command, check=True, capture_output=True)
    record = json.loads((output / slide.stem / "run.json").read_text(encoding="utf-8"))
    assert record["nuclei"]["count"] > 1000
    return float(record["peak_rss_mb"])
