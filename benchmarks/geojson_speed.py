"""How fast a million detections are written for QuPath and read back, and in how much memory.

    python benchmarks/geojson_speed.py [--count N] [--folder DIR]

Each line is a process of its own, so that its peak of memory is its own.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import shapely

from wsi_engine.qupath.features import detection_features
from wsi_engine.qupath.reader import iter_objects
from wsi_engine.qupath.writer import GeoJSONWriter, write_objects

CORNERS = 32
CLASSES = ("Tumor", "Stroma", "Immune cells")
MEASUREMENTS = (
    *("Area µm^2", "Length µm", "Circularity", "Solidity", "Max diameter µm", "Min diameter µm"),
    *("Hematoxylin: Mean", "Hematoxylin: Std.Dev.", "Eosin: Mean", "Detection score"),
)
CHUNK = 8192


def nuclei(count: int) -> Iterator[tuple]:
    """Give ids, polygons, classes and measurements of made-up nuclei, in chunks."""
    random = np.random.default_rng(0)
    angle = np.linspace(0, 2 * np.pi, CORNERS - 1, endpoint=False)
    for start in range(0, count, CHUNK):
        n = min(CHUNK, count - start)
        radius = random.uniform(8, 16, (n, 1)) * random.uniform(0.9, 1.1, (n, CORNERS - 1))
        centre = random.uniform(0, 1e5, (n, 2))
        x = centre[:, :1] + radius * np.cos(angle)
        y = centre[:, 1:] + radius * np.sin(angle)
        yield (
            [str(uuid.UUID(bytes=random.bytes(16), version=4)) for _ in range(n)],
            shapely.polygons(np.stack([x, y], axis=-1).round(2)),
            np.array(CLASSES)[random.integers(0, len(CLASSES), n)].tolist(),
            {name: random.uniform(0, 100, n).astype(np.float32) for name in MEASUREMENTS},
        )


def write_columns(path: Path, count: int) -> float:
    seconds = 0.0
    with GeoJSONWriter(path) as writer:
        for columns in nuclei(count):
            started = time.perf_counter()
            writer.write(detection_features(*columns))
            seconds += time.perf_counter() - started
    return seconds


def read(path: Path, count: int) -> float:
    started = time.perf_counter()
    if sum(1 for _ in iter_objects(path, strict=True)) != count:
        raise SystemExit(f"{path.name} does not hold {count} objects")
    return time.perf_counter() - started


def copy(path: Path, count: int) -> float:
    started = time.perf_counter()
    if write_objects(path.with_name("copy.geojson"), iter_objects(path)) != count:
        raise SystemExit(f"{path.name} does not hold {count} objects")
    return time.perf_counter() - started


def measured(queue, task: Callable[[Path, int], float], path: Path, count: int) -> None:
    began = time.process_time()
    seconds = task(path, count)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    queue.put((seconds, time.process_time() - began, peak))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="where to write; default: a temporary folder")
    options = parser.parse_args()
    tasks = [
        ("write from columns", write_columns, "x.geojson"),
        ("write from columns", write_columns, "x.geojson.gz"),
        ("read one by one", read, "x.geojson"),
        ("read one by one", read, "x.geojson.gz"),
        ("read and write objects", copy, "x.geojson"),
    ]
    context = multiprocessing.get_context("spawn")
    print(f"{options.count} detections of {CORNERS} points, {len(MEASUREMENTS)} measurements")
    print(f"{'':24}{'file':16}{'MB':>8}{'seconds':>9}{'CPU s':>8}{'MB/s':>7}{'peak MB':>9}")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for label, task, name in tasks:
            path = Path(folder) / name
            queue = context.Queue()
            process = context.Process(target=measured, args=(queue, task, path, options.count))
            process.start()
            seconds, cpu, peak = queue.get()
            process.join()
            size = path.stat().st_size / 1e6
            print(
                f"{label:24}{name:16}{size:8.0f}{seconds:9.1f}{cpu:8.1f}"
                f"{size / seconds:7.0f}{peak:9.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
