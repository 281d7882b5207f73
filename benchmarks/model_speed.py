"""Time the star-convex network's three steps on this machine: maps, decoding, suppression.

python benchmarks/model_speed.py [--tile 1024] [--batch 1]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch

from wsi_engine.models.devices import resolve_devices
from wsi_engine.models.starconvex import load_starconvex
from wsi_engine.models.suppression import suppress


def seconds(action: Callable[[], object], repeats: int = 5) -> float:
    """Return the best of some runs, after one that warms up."""
    action()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return min(times)


def tissue(side: int, rng: np.random.Generator) -> np.ndarray:
    """Draw pink ground with as many dark discs as dense tissue has nuclei."""
    image = np.full((side, side, 3), (228, 180, 208), np.float32)
    rows, columns = np.mgrid[-8:9, -8:9]
    for y, x in rng.integers(8, side - 9, (side * side // 400, 2)):
        disc = np.hypot(rows, columns) < rng.uniform(3.5, 8)
        image[y - 8 : y + 9, x - 8 : x + 9][disc] = (95, 65, 145)
    return np.clip(image + rng.normal(0, 6, image.shape), 0, 255).astype(np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tile", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=1)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    device = resolve_devices("auto")[0]
    model = load_starconvex().to(device)
    batch = np.stack([tissue(arguments.tile, rng) for _ in range(arguments.batch)])
    megapixels = batch[..., 0].size / 1e6
    print(f"{device}, {model.dtype}, {torch.get_num_threads()} threads, batch {batch.shape}")
    print(f"maps        {megapixels / seconds(lambda: model.maps(batch)):.2f} Mpx/s")
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
