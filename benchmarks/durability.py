"""What it costs to lose nothing, and how soon a run goes on.

    python benchmarks/durability.py cost SLIDE [--repeat 3] [--model watershed] [--tile-size 1024]
    python benchmarks/durability.py resume [--nuclei 1000000] [--model watershed]

``cost`` runs a slide with and without storing its tiles, by turns, each in a process of its own,
and prints medians. ``resume`` makes a slide and, of most of its tiles, what a run would have left
on so many nuclei; then it goes on, and tells when the first tile was at the model.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import shapely
from slides import drawn_tissue, write_repeated

import wsi_engine
from wsi_engine.config import make_settings
from wsi_engine.engine import tile_flow as flow
from wsi_engine.engine.basis import basis_of, basis_of_tiles
from wsi_engine.engine.plan import Plan, make_plan
from wsi_engine.engine.provenance import peak_rss_mb
from wsi_engine.models.devices import CPU, arithmetic_of
from wsi_engine.nuclei.measure.context import CONTEXT_COLUMNS
from wsi_engine.nuclei.nuclei import Nuclei
from wsi_engine.results.layout import TILES
from wsi_engine.results.verify import problems_of
from wsi_engine.schedule.clock import StageClock
from wsi_engine.schedule.tiles import Tile
from wsi_engine.slide.opening import open_slide
from wsi_engine.store.tile_store import TileStore

RUN = """
import sys, time
from pathlib import Path
from wsi_engine.cli import main
from wsi_engine.store.tile_store import TileStore

stored, times, spent = sys.argv.pop(1) == "True", Path(sys.argv.pop(1)), [0.0, 0.0]
save = TileStore._save

def timed(store, *tiles):
    wall, cpu = time.perf_counter(), time.thread_time()
    if stored:
        save(store, *tiles)
    spent[0] += time.perf_counter() - wall
    spent[1] += time.thread_time() - cpu
    times.write_text(f"{spent[0]} {spent[1]}")

TileStore._save = timed
main()
"""
"""A run that notes how long parts and journal take, or leaves them out."""

NUCLEI_PER_TILE = 2500
LEFT_OUT = 16
"""Tiles that are still to be computed."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    cost = commands.add_parser("cost")
    cost.set_defaults(call=print_cost)
    cost.add_argument("slide", type=Path)
    cost.add_argument("--repeat", type=int, default=3)
    cost.add_argument("--tile-size", type=int, default=1024)
    resume = commands.add_parser("resume")
    resume.set_defaults(call=print_resume)
    resume.add_argument("--nuclei", type=int, default=1_000_000)
    for command in (cost, resume):
        command.add_argument("--model", default="watershed")
    options = parser.parse_args()
    options.call(options)


# --- cost ---------------------------------------------------------------------------------------


def print_cost(options: argparse.Namespace) -> None:
    seconds: dict[bool, list[float]] = {True: [], False: []}
    shares = []
    with tempfile.TemporaryDirectory() as scratch:
        for _ in range(options.repeat):
            for stored in seconds:
                whole, wall, cpu = run_once(options, Path(scratch), stored)
                seconds[stored].append(whole)
                if stored:
                    shares.append(wall / whole)
                    print(f"{whole:.2f} s, in parts and journal {wall:.3f} s ({cpu:.3f} s CPU)")
                else:
                    print(f"{whole:.2f} s without them")
    with_store, without = (statistics.median(seconds[stored]) for stored in (True, False))
    print(f"medians: {with_store:.2f} s, without {without:.2f} s")
    print(f"parts and journal take {statistics.median(shares):.2%} of the run")


def run_once(
    options: argparse.Namespace, scratch: Path, stored: bool
) -> tuple[float, float, float]:
    """Return seconds of the run, and wall and processor seconds of saving."""
    times = scratch / "times"
    command = [sys.executable, "-c", RUN, str(stored), str(times), "run", str(options.slide)]
    command += ["-o", str(scratch), "--force"]
    command += ["--tile-size", str(options.tile_size), "--model", options.model]
    subprocess.run(command, check=True, capture_output=True)
    record = json.loads((scratch / options.slide.stem / "run.json").read_text(encoding="utf-8"))
    wall, cpu = map(float, times.read_text().split())
    return record["tiles"]["seconds"], wall, cpu


# --- resume -------------------------------------------------------------------------------------


def print_resume(options: argparse.Namespace) -> None:
    settings = {"model": options.model, "tile_size": 512, "tissue": False}
    side = int(np.ceil(np.sqrt(options.nuclei / NUCLEI_PER_TILE + LEFT_OUT)))
    with tempfile.TemporaryDirectory() as scratch:
        # A tile of 512 px at 0.5 µm is a block.
        slide = write_repeated(Path(scratch) / "large.tif", drawn_tissue(0.25), side, 0.25)
        out = Path(scratch) / "out"
        nuclei, stored_bytes = fill_store(slide, out, settings, options.nuclei)
        print(f"{nuclei:,} nuclei are stored in {stored_bytes / 1e6:,.0f} MB")
        first = note_first_inference()
        begun = time.perf_counter()
        result = wsi_engine.run(slide, out, **settings)
        seconds = time.perf_counter() - begun
        print(f"the first tile is at the model after {first[0] - begun:.2f} s")
        print(f"all is written after {seconds:.1f} s: {result.count:,} nuclei")
        print(f"{peak_rss_mb():,.0f} MB at the peak")
        begun = time.perf_counter()
        wsi_engine.run(slide, out, **settings)
        print(f"the same run again takes {time.perf_counter() - begun:.3f} s")
        begun = time.perf_counter()
        assert result.folder is not None
        assert problems_of(result.folder) == []
        print(f"verify takes {time.perf_counter() - begun:.1f} s")


def fill_store(slide: Path, out: Path, settings: dict, nuclei: int) -> tuple[int, int]:
    chosen = make_settings(**settings)
    folder = out / slide.stem / TILES
    stored = 0
    with open_slide(slide) as opened:
        plan = make_plan(opened, chosen, CPU, StageClock())
        basis = basis_of_tiles(basis_of(slide, chosen), plan, arithmetic_of([CPU]))
        with TileStore(folder, plan.tiles, basis) as store:
            tiles = store.missing[:-LEFT_OUT]
            share = -(-nuclei // len(tiles))
            for _, found in store.complete((tile, generated(tile, plan, share)) for tile in tiles):
                stored += len(found)
    return stored, sum(path.stat().st_size for path in folder.glob("part-*"))


def generated(tile: Tile, plan: Plan, count: int) -> Nuclei:
    """Round nuclei of 24 vertices in the core of a tile, with every measurement."""
    rng = np.random.default_rng(tile.index)
    box = plan.reader.grid.box_to_qupath(tile.core)
    low, high = (box.x_min, box.y_min), (box.x_max, box.y_max)
    anchors = np.round(rng.uniform(low, high, (count, 2)), 2)
    angles = np.arange(24) * (2 * np.pi / 24)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    rings = anchors[:, None] + rng.uniform(8, 14, (count, 1, 1)) * circle
    columns = len(plan.columns) - len(CONTEXT_COLUMNS)
    return Nuclei(
        polygons=np.asarray(shapely.polygons(np.round(rings, 2)), object),
        anchors=anchors,
        scores=rng.uniform(0.5, 1, count).astype(np.float32),
        classes=np.full(count, -1, np.int16),
        probabilities=np.empty((count, 0), np.float32),
        owned=np.ones(count, bool),
        measurements=rng.normal(size=(count, columns)).astype(np.float32),
    )


def note_first_inference() -> list[float]:
    """Note when the first tile is at the model; the calibration does not count."""
    times: list[float] = []
    inference = flow.FittingInference

    class Noting(inference):  # type: ignore[misc, valid-type]
        def __call__(self, batch: np.ndarray) -> np.ndarray:
            if not times:
                assert threading.current_thread().name.startswith("infer")
                times.append(time.perf_counter())
            return super().__call__(batch)

    flow.FittingInference = Noting  # type: ignore[misc]
    return times


if __name__ == "__main__":
    main()
