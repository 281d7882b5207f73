"""A label image of all nuclei, as a pyramidal OME-TIFF."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import shapely
import tifffile

from wsi_engine.errors import ExportError
from wsi_engine.export.bands import Bands, Rows
from wsi_engine.export.options import Options
from wsi_engine.nuclei.identity import namespace_of
from wsi_engine.nuclei.raster import draw
from wsi_engine.results.finished import SlideResult
from wsi_engine.version import __version__
from wsi_engine.writing import atomic_path

TILE = 256
FINEST = 4
"""Label pixels across one of the slide's, at most: more would show nothing but the corners."""
_DEFLATE_LEVEL = 1
_CLASSIC_TIFF_BYTES = 2**32
_UM_PER_CM = 10_000.0

Labels = npt.NDArray[np.uint32]
Size = tuple[int, int]
"""Height and width."""


def write(run: SlideResult, path: Path, options: Options) -> list[Path]:
    """Write the label pyramid: uint32, 0 for background, k + 1 for the nucleus in row k.

    It covers the slide as QuPath shows it. A pixel belongs to the nucleus that holds its centre,
    to the last one where several do. Coarser levels are drawn from the outlines, too, each at
    its own pixel centres: the nearest sample there is, without the shift of half a pixel that
    picking every second pixel has. One row of tiles and a few row groups are in memory at a time.
    """
    mpp = np.array([run.mpp.x, run.mpp.y])
    step = np.ones(2) if options.mpp is None else options.mpp / mpp
    sizes = level_sizes(run, step)
    bands = Bands(run.table)
    with (
        atomic_path(path) as partial,
        tifffile.TiffWriter(partial, bigtiff=_may_be_large(sizes), ome=True) as tiff,
    ):
        for level, size in enumerate(sizes):
            um = mpp * step * 2**level
            tiff.write(
                _tiles(bands, size, step * 2**level),
                shape=size,
                dtype=np.uint32,
                tile=(TILE, TILE),
                photometric="minisblack",
                # Encoded here, so that nothing depends on whether imagecodecs is installed.
                compression="adobe_deflate",
                subifds=0 if level else len(sizes) - 1,
                subfiletype=1 if level else 0,
                resolution=tuple(_UM_PER_CM / um),
                resolutionunit="CENTIMETER",
                software=f"wsi-engine {__version__}",
                metadata=None if level else _ome(run, um),
            )
    return [path]


def level_sizes(run: SlideResult, step: npt.NDArray[np.float64]) -> list[Size]:
    """Return the size of each level, halved until one tile holds it.

    Parameters
    ----------
    step
        Slide pixels per label pixel, x and y.

    Raises
    ------
    ExportError
        When the slide is smaller than a label pixel, or has far fewer pixels than there would be.
    """
    um = step * [run.mpp.x, run.mpp.y]
    if step.min() * FINEST < 1 - 1e-5:  # what the message says may be rounded down
        finest = max(run.mpp.x, run.mpp.y) / FINEST
        raise ExportError(
            f"mpp {um[0]:g}: the slide has {run.mpp.x:g} x {run.mpp.y:g} µm; give {finest:g} or "
            "more"
        )
    bounds = run.record.slide.bounds
    # A pixel that a rounding error misses counts as whole.
    width, height = (int(side / s + 1e-6) for side, s in
                     zip((bounds.width, bounds.height), step, strict=True))  # fmt: skip
    if width < 1 or height < 1:
        raise ExportError(f"mpp {um[0]:g}: one label pixel would be larger than {run.name}")
    sizes = [(height, width)]
    while max(sizes[-1]) > TILE and min(sizes[-1]) > 1:
        sizes.append((sizes[-1][0] // 2, sizes[-1][1] // 2))
    return sizes


def _tiles(bands: Bands, size: Size, step: npt.NDArray[np.float64]) -> Iterator[bytes]:
    """Yield the packed tiles of one level, row by row."""
    height, width = size
    row = np.empty((TILE, -(-width // TILE) * TILE), np.uint32)
    for top in range(0, height, TILE):
        row[:] = 0
        for rows in bands.at(top * step[1], (top + TILE) * step[1]):
            draw_rows(rows, step, (0, top), row[:, :width])
        for tile in np.split(row, row.shape[1] // TILE, axis=1):
            yield _packed(tile) if tile.any() else _nothing()


def draw_rows(
    rows: Rows, step: npt.NDArray[np.float64], corner: tuple[int, int], labels: Labels
) -> None:
    """Draw nuclei into a part of a level, each as the number of its row plus one.

    Parameters
    ----------
    step
        Slide pixels per label pixel, x and y.
    corner
        Where the part begins, x and y in label pixels.
    labels
        The part, shape (height, width); changed in place.
    """
    if len(rows.polygons):
        _, xy, (rings, polygons) = shapely.to_ragged_array(rows.polygons, include_z=False)
        draw(xy / step - corner, rings, polygons, rows.numbers + 1, labels)


@cache
def _nothing() -> bytes:
    """Return the tile that most of a slide consists of."""
    return _packed(np.zeros((TILE, TILE), np.uint32))


def _packed(labels: Labels) -> bytes:
    return zlib.compress(labels.tobytes(), _DEFLATE_LEVEL)


def _may_be_large(sizes: list[Size]) -> bool:
    return sum(4 * height * width for height, width in sizes) > _CLASSIC_TIFF_BYTES


def _ome(run: SlideResult, um: npt.NDArray[np.float64]) -> dict[str, object]:
    """Return what OME-XML says of the image; its unit of length is µm."""
    # Left alone, tifffile makes a UUID of the time and of the machine.
    identity = namespace_of(run.record.slide.fingerprint, f"labels {um}")
    return {
        "axes": "YX",
        "UUID": str(identity),
        "Name": f"{run.name}: labels of nuclei",
        "PhysicalSizeX": float(um[0]),
        "PhysicalSizeY": float(um[1]),
    }
