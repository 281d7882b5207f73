"""Measure how fast slides in OME-Zarr are read, beside a TIFF of the same pixels, by turns.

    python benchmarks/ome_zarr.py SLIDE.tif [--windows 8] [--repeat 5]

The slide's pixels are written as a tiled TIFF (deflate) and as OME-Zarr of several kinds, and
windows of a tile with its halo are read from each, cold of decoded tiles, as the default network
reads them; they are checked to be the same. Prints Mpx per second of the processor, of all
threads, and per second of the clock with one reader and with four. benchmarks/ome_zarr.md keeps
the table.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import zarr
from numcodecs import Blosc
from reading import CORE_PX, windows

from wsi_engine.models.registry import available_models
from wsi_engine.slide.frames import LevelBox
from wsi_engine.slide.grid_reader import GridReader
from wsi_engine.slide.opening import open_slide
from wsi_engine.slide.pyramid import write_pyramid
from wsi_engine.slide.whole_pixels import make_model_grid

LZ4 = Blosc("lz4", 5, Blosc.SHUFFLE)
KINDS: dict[str, dict[str, Any]] = {
    "0.4, blosc lz4, chunks of 512 px": {"zarr_format": 2, "side": 512, "compressors": LZ4},
    "0.4, blosc lz4, 1024 px, a chunk per colour": {
        "zarr_format": 2, "side": 1024, "compressors": LZ4, "colours": 1,
    },
    "0.5, zstd, chunks of 512 px": {"zarr_format": 3, "side": 512},
    "0.5, zstd, chunks of 256 px in shards of 2048": {"zarr_format": 3, "side": 256, "shard": 2048},
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("slide", type=Path)
    parser.add_argument("--windows", type=int, default=8)
    parser.add_argument("--repeat", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        slides = written(arguments.slide, Path(scratch))
        print("| slide | MB | files | Mpx/s of CPU | Mpx/s | Mpx/s, 4 threads |")
        print("|---" * 6 + "|")
        for name, found in measured(slides, arguments.windows, arguments.repeat).items():
            files = [file for file in (slides[name], *slides[name].rglob("*")) if file.is_file()]
            size = sum(file.stat().st_size for file in files) / 1e6
            cells = [name, f"{size:,.0f}", f"{len(files):,}", *(f"{each:.0f}" for each in found)]
            print(f"| {' | '.join(cells)} |")


def written(slide: Path, folder: Path) -> dict[str, Path]:
    """Write the pixels of a slide in each kind; return the paths."""
    with open_slide(slide) as source:
        info = source.info
        image = source.read(0, LevelBox(0, 0, info.width, info.height))
    assert info.mpp is not None
    slides = {"TIFF, deflate, tiles of 256 px": folder / "slide.tif"}
    write_pyramid(folder / "slide.tif", image, info.mpp)
    with tifffile.TiffFile(folder / "slide.tif") as tiff:
        levels = [page.asarray() for page in tiff.pages]
    for number, (name, kind) in enumerate(KINDS.items()):
        slides[name] = folder / f"{number}.ome.zarr"
        write_zarr(slides[name], levels, info.mpp.x, **kind)
    return slides


def write_zarr(
    path: Path,
    levels: list[np.ndarray],
    mpp: float,
    zarr_format: int,
    side: int,
    shard: int | None = None,
    colours: int = 3,
    **codecs: Any,
) -> None:
    group = zarr.create_group(path, zarr_format=zarr_format)
    datasets = []
    for level, image in enumerate(levels):
        extra = dict(codecs) | ({"shards": (3, shard, shard)} if shard else {})
        if zarr_format == 2:
            extra["chunk_key_encoding"] = {"name": "v2", "separator": "/"}
        array = group.create_array(
            str(level),
            shape=(3, *image.shape[:2]),
            dtype="u1",
            chunks=(colours, side, side),
            **extra,
        )
        array[...] = np.moveaxis(image, -1, 0)
        scale = {"type": "scale", "scale": [1.0, mpp * 2**level, mpp * 2**level]}
        datasets.append({"path": str(level), "coordinateTransformations": [scale]})
    axes = [{"name": "c", "type": "channel"}]
    axes += [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    multiscale = {"axes": axes, "datasets": datasets}
    if zarr_format == 2:
        group.attrs["multiscales"] = [multiscale | {"version": "0.4"}]
    else:
        group.attrs["ome"] = {"version": "0.5", "multiscales": [multiscale]}


def measured(slides: dict[str, Path], count: int, repeat: int) -> dict[str, list[float]]:
    """Read the same windows of each slide by turns; return medians of Mpx per second."""
    spec = next(iter(available_models().values())).spec
    with open_slide(next(iter(slides.values()))) as slide:
        level = GridReader(slide, make_model_grid(slide.info, spec.mpp)).level
    boxes = windows(level.width, level.height, CORE_PX + 2 * spec.halo_px, count)
    megapixels = sum(box.width * box.height for box in boxes) / 1e6
    found: dict[str, list[list[float]]] = {name: [[], [], []] for name in slides}
    for _ in range(repeat):
        images = {}
        for name, path in slides.items():
            for column, threads in enumerate((1, 4)):
                with open_slide(path) as slide, ThreadPoolExecutor(threads) as pool:
                    busy, start = time.process_time(), time.perf_counter()
                    read = pool.map(lambda box, s=slide: s.read(level.index, box), boxes)
                    images[name] = list(read)
                    spent = time.perf_counter() - start
                    if threads == 1:
                        found[name][0].append(megapixels / (time.process_time() - busy))
                    found[name][column + 1].append(megapixels / spent)
        first, *others = images.values()
        for other in others:
            np.testing.assert_array_equal(other, first)
    return {name: [statistics.median(each) for each in columns] for name, columns in found.items()}


if __name__ == "__main__":
    main()
