"""Runs that can be cut off: a small slide in many tiles, and processes to run it in."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from wsi_engine.phantom import RepeatedBlock, lay_out_tissue, render_tissue, scatter_nuclei
from wsi_engine.slide.pyramid import write_pyramid

SETTINGS: dict[str, Any] = {
    "model": "watershed",
    "tile_size": 96,
    "tissue": False,
    "workers": 2,
    "regions": False,
    "report": False,
}

OPTIONS = [
    "--model",
    "watershed",
    "--tile-size",
    "96",
    "--no-tissue",
    "--no-regions",
    "--no-report",
]
"""The same for the command line."""

TILES = 64
"""Number of tiles of the small slide with these settings."""

TILES_IN_PART = 3


def write_small_slide(path: Path) -> Path:
    """Write 1536 x 1536 px of tissue at 0.25 µm."""
    rng = np.random.default_rng(3)
    tissue = lay_out_tissue((512, 512), 0.25, rng)
    nuclei = scatter_nuclei(tissue, rng)
    block = render_tissue((512, 512), nuclei, 0.25, rng, tissue)
    write_pyramid(path, RepeatedBlock(block, nuclei, 3, 3), 0.25)
    return path


def outputs(folder: Path) -> dict[str, bytes]:
    """Every file of a result but the record, which holds the time; nothing else is there."""
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert [path for path in folder.iterdir() if path.is_dir()] == []
    assert files.pop("run.json")
    names = ["columns.json", "nuclei.geojson.gz", "nuclei.parquet", "tissue.geojson"]
    assert sorted(files) == names
    return files


def in_a_process(function: Callable[..., None], *arguments: object) -> int:
    """Call a function in a process of its own, which may kill itself; return its exit code.

    It is forked from a server that has imported the engine already, and runs nothing else.
    """
    process = start(function, *arguments)
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def start(function: Callable[..., None], *arguments: object) -> multiprocessing.Process:
    """Start a function in a process of its own."""
    kind = "spawn" if sys.platform == "win32" else "forkserver"
    context = multiprocessing.get_context(kind)
    context.set_forkserver_preload(["wsi_engine.engine.run", "wsi_engine.models.watershed"])
    process = context.Process(target=function, args=arguments)
    process.start()
    return process  # type: ignore[return-value]
