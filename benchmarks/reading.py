"""Measure what it costs to read what the default network sees, by turns with and without OpenSlide.

    python benchmarks/reading.py SLIDE... [--windows 8] [--repeat 5]

Prints seconds of the processor per Mpx of the level that is read: windows of a tile with its
halo, read by OpenSlide alone and with JPEG tiles decoded past it, checked to be the same; and the
decoding of those tiles alone, at full scale and at half, with how far the half is from the mean of
2 x 2 pixels. benchmarks/reading.md keeps the table.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import simplejpeg

from wsi_engine.models.registry import available_models
from wsi_engine.slide.frames import LevelBox
from wsi_engine.slide.grid_reader import GridReader
from wsi_engine.slide.jpeg_tiles import JpegTiles, find_jpeg_tiles
from wsi_engine.slide.openslide_slide import OpenSlideSlide
from wsi_engine.slide.resampling import mean_of_boxes
from wsi_engine.slide.whole_pixels import make_model_grid

CORE_PX = 1024


class WithoutTiles(OpenSlideSlide):
    """A slide that OpenSlide alone reads."""

    def _has_proof(self, level: int) -> bool:
        return False


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("slides", type=Path, nargs="+")
    parser.add_argument("--windows", type=int, default=8)
    parser.add_argument("--repeat", type=int, default=5)
    arguments = parser.parse_args()
    print("| slide | level | Mpx | OpenSlide, s/Mpx | here, s/Mpx | ratio "
          "| decoding | at half scale | half - mean of 2 x 2: mean, largest |")  # fmt: skip
    print("|---" * 9 + "|")
    for slide in arguments.slides:
        print(row(slide, arguments.windows, arguments.repeat), flush=True)


def row(path: Path, count: int, repeat: int) -> str:
    with WithoutTiles(path) as slide:
        spec = next(iter(available_models().values())).spec
        level = GridReader(slide, make_model_grid(slide.info, spec.mpp)).level
        boxes = windows(level.width, level.height, CORE_PX + 2 * spec.halo_px, count)
        tiles = find_jpeg_tiles(path, slide.info.vendor, slide.info.levels)
    megapixels = sum(box.width * box.height for box in boxes) / 1e6
    spent: dict[str, list[float]] = {"OpenSlide": [], "here": []}
    for _ in range(repeat):
        images = {}
        for name, kind in (("OpenSlide", WithoutTiles), ("here", OpenSlideSlide)):
            with kind(path) as slide:
                images[name], seconds = timed(
                    lambda slide=slide: [slide.read(level.index, box) for box in boxes]
                )
            spent[name].append(seconds / megapixels)
        for one, other in zip(*images.values(), strict=True):
            np.testing.assert_array_equal(one, other)
    before, now = (statistics.median(seconds) for seconds in spent.values())
    cells = [path.name, str(level.index), f"{megapixels:.1f}", f"{before:.4f}", f"{now:.4f}"]
    cells += [f"{now / before:.2f}", *scales(tiles, level.index, repeat)]
    return f"| {' | '.join(cells)} |"


def windows(width: int, height: int, side: int, count: int) -> list[LevelBox]:
    """Spread windows over the middle of a level, as far as it has room."""
    side = min(side, width, height)
    corners = np.linspace(0, 1, count + 2)[1:-1]
    return [
        LevelBox(round(share * (width - side)), round(share * (height - side)), side, side)
        for share in corners
    ]


def scales(tiles: JpegTiles | None, level: int, repeat: int) -> Iterator[str]:
    """Yield what decoding alone costs at full and half scale, and how the two differ."""
    if tiles is None or level not in tiles.pages:
        yield from ("", "", "")
        return
    with tiles:
        page, jpegs = tiles.pages[level], []
        for box, _ in zip(tiles.some(level), range(60), strict=False):
            index = page.index_at(box.x, box.y)
            tiles._stream.seek(page.offsets[index])
            jpegs.append(page.as_jpeg(tiles._stream.read(page.counts[index])))
    sides = (page.tile_height, page.tile_width)
    megapixels = len(jpegs) * sides[0] * sides[1] / 1e6
    half = {"min_height": sides[0] // 2, "min_width": sides[1] // 2, "min_factor": 2}
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(repeat):
        for scale, how in ((1, {}), (2, half)):
            _, spent = timed(lambda how=how: [simplejpeg.decode_jpeg(j, **how) for j in jpegs])
            seconds[scale].append(spent / megapixels)
    for times in seconds.values():
        yield f"{statistics.median(times):.4f}"
    differences = [
        np.abs(
            simplejpeg.decode_jpeg(jpeg, **half).astype(int)
            - mean_of_boxes(simplejpeg.decode_jpeg(jpeg), 2, 2)
        )
        for jpeg in jpegs
    ]
    yield f"{np.mean(differences):.2f}, {np.max(differences)}"


def timed(work: Callable[[], list[np.ndarray]]) -> tuple[list[np.ndarray], float]:
    start = time.process_time()
    done = work()
    return done, time.process_time() - start


if __name__ == "__main__":
    main()
