"""Time the star-convex network's three steps on this machine: maps, decoding, suppression.

    python benchmarks/model_speed.py [--tile 1248] [--batch 1] [--repeat 9] [--slide FILE]
    python benchmarks/model_speed.py --recipe configs/train_student.yaml [--repeat 9]

The network runs as it is and compiled by turns, so that other load meets both alike. With
``--slide`` whole runs with and without compiling are timed by turns, too, each in a process of
its own. With ``--recipe`` the network that a training file asks for, untrained, is timed by turns
with the shipped one, on the same tissue at each one's own pixel size.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from wsi_engine.models.devices import resolve_devices, reuse_freed_memory
from wsi_engine.models.starconvex.model import (
    StarConvexModel,
    load_starconvex,
)
from wsi_engine.models.suppression import suppress
from wsi_engine.training.config import TrainConfig


def seconds(action: Callable[[], object], repeats: int = 5) -> float:
    """Return the best of some runs, after one that warms up."""
    action()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return min(times)


def by_turns(actions: list[Callable[[], object]], repeats: int) -> list[list[float]]:
    """Return the seconds of each run of each action, one after the other in every round."""
    times: list[list[float]] = [[] for _ in actions]
    for round_ in range(repeats + 1):
        for action, taken in zip(actions, times, strict=True):
            start = time.perf_counter()
            action()
            if round_:  # the first warms up
                taken.append(time.perf_counter() - start)
    return times


def report(what: str, megapixels: float, eager: list[float], compiled: list[float]) -> None:
    """Print medians, and the median of the ratios of the runs that followed each other."""
    gains = [one / other for one, other in zip(eager, compiled, strict=True)]
    speeds = [f"{megapixels / statistics.median(times):.2f}" for times in (eager, compiled)]
    print(
        f"{what:<11} {speeds[0]} Mpx/s eager, {speeds[1]} compiled, "
        f"ratio {statistics.median(gains):.2f} ({min(gains):.2f} to {max(gains):.2f})"
    )


def run_slide(slide: Path, mode: str) -> tuple[float, float]:
    """Run the command line once; return megapixels, and seconds of the tiles."""
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "wsi_engine", "run", str(slide), "-o", scratch]
        subprocess.run([*command, "--compile", mode], check=True, capture_output=True)
        record = json.loads((Path(scratch) / slide.stem / "run.json").read_text("utf-8"))
    return record["tiles"]["megapixels"], record["tiles"]["seconds"]


def compare_network(model: StarConvexModel, batch: np.ndarray, repeats: int) -> None:
    """Time the network as it is and compiled; compile it where that was not done before."""
    compilation = model.compilation(len(batch), batch.shape[1])
    if compilation is None:
        return
    start = time.perf_counter()
    network = compilation.load()
    print(f"loading     {time.perf_counter() - start:.2f} s")
    if network is None:
        start = time.perf_counter()
        network = compilation.build()
        print(f"compiling   {time.perf_counter() - start:.0f} s")
    compiled = model.with_network(network)
    same = model.maps(batch).tobytes() == compiled.maps(batch).tobytes()
    print(f"same bytes  {same}")
    actions = [lambda: model.maps(batch), lambda: compiled.maps(batch)]
    report("maps", batch[..., 0].size / 1e6, *by_turns(actions, repeats))


def compare_runs(slide: Path, repeats: int) -> None:
    """Time whole runs without and with the compiled network."""
    megapixels, times = 0.0, {"never": [], "always": []}
    for _ in range(repeats):
        for mode, taken in times.items():
            megapixels, seconds = run_slide(slide, mode)
            taken.append(seconds)
    report("end to end", megapixels, times["never"], times["always"])


def compare_recipe(model: StarConvexModel, recipe: Path, tile_um: float, repeats: int) -> None:
    """Time the network of a training file and a model's, on windows of the same tiles."""
    config = TrainConfig.load(recipe)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "untrained.safetensors"
        config.learner.write(path, config.learner.network(), threshold=0.5)
        other = config.learner.model(path).to(model.device)
        megabytes = path.stat().st_size / 1e6
    rng = np.random.default_rng(0)
    actions: list[Callable[[], object]] = []
    for each in (model, other):
        core = round(tile_um / each.spec.mpp / each.spec.stride) * each.spec.stride
        batch = tissue(core + 2 * each.spec.halo_px, rng)[None]
        actions.append(partial(each.maps, batch))
    own, its = by_turns(actions, repeats)
    gains = [one / two for one, two in zip(own, its, strict=True)]
    mpp = other.spec.mpp
    halos = (
        f"{model.spec.halo_px * model.spec.mpp:g} and {other.spec.halo_px * other.spec.mpp:g} µm"
    )
    print(
        f"{recipe.stem}: {megabytes:.2f} MB; with their halos ({halos}) on tiles of {tile_um:g} µm "
        f"{statistics.median(gains):.2f} ({min(gains):.2f} to {max(gains):.2f}) times as fast"
    )
    sides = [action.args[0].shape[1] for action in actions]  # type: ignore[attr-defined]
    windows = (sides[1] * mpp / (sides[0] * model.spec.mpp)) ** 2
    print(f"the network alone, by area: {statistics.median(gains) * windows:.2f}")


def tissue(side: int, rng: np.random.Generator) -> np.ndarray:
    """Draw pink ground with as many dark discs as dense tissue has nuclei."""
    image = np.full((side, side, 3), (228, 180, 208), np.float32)
    rows, columns = np.mgrid[-8:9, -8:9]
    for y, x in rng.integers(8, side - 9, (side * side // 400, 2)):
        disc = np.hypot(rows, columns) < rng.uniform(3.5, 8)
        image[y - 8 : y + 9, x - 8 : x + 9][disc] = (95, 65, 145)
    return np.clip(image + rng.normal(0, 6, image.shape), 0, 255).astype(np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tile", type=int, default=1248, help="with its halo")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=9)
    parser.add_argument("--slide", type=Path)
    parser.add_argument("--recipe", type=Path, help="compare with this network, and end")
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    device = resolve_devices("auto")[0]
    model = load_starconvex().to(device)
    if arguments.recipe is not None:
        reuse_freed_memory()
        compare_recipe(model, arguments.recipe, 512.0, arguments.repeat)
        return
    batch = np.stack([tissue(arguments.tile, rng) for _ in range(arguments.batch)])
    megapixels = batch[..., 0].size / 1e6
    print(f"{device}, {model.dtype}, {torch.get_num_threads()} threads, batch {batch.shape}")
    reuse_freed_memory()
    compare_network(model, batch, arguments.repeat)
    if arguments.slide is not None:
        compare_runs(arguments.slide, min(arguments.repeat, 3))
    maps = model.maps(batch)[0]
    nuclei = len(model.decode(maps))
    took = seconds(lambda: model.decode(maps))
    print(f"decoding    {megapixels / arguments.batch / took:.2f} Mpx/s ({nuclei} nuclei)")

    count, crowd = 1_000_000, 20
    centres = np.repeat(rng.uniform(0, 9000, (count // crowd, 2)), crowd, axis=0)
    centres += rng.normal(0, 1.5, (count, 2))
    radii = np.repeat(rng.uniform(4, 9, count // crowd), crowd)[:, None]
    distances = (radii * rng.uniform(0.8, 1.2, (count, 32))).astype(np.float32)
    scores = rng.random(count).astype(np.float32)
    took = seconds(lambda: suppress(centres, distances, scores, 0.3), repeats=1)
    print(f"suppression {took:.1f} s for 1 M candidates")


if __name__ == "__main__":
    main()
