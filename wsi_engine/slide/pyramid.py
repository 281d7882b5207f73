"""Writing a tiled, pyramidal TIFF that OpenSlide and QuPath open, however large the image."""

from __future__ import annotations

import math
import os
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import tifffile

from wsi_engine.errors import ResolutionError, SettingsError
from wsi_engine.slide.frames import Mpp
from wsi_engine.slide.protocol import RGB
from wsi_engine.writing import atomic_path, clear_write_errors

# Slides are noisy: higher levels of deflate cost several times more and gain a few per cent.
_DEFLATE_LEVEL = 1
_UM_PER_CM = 10_000.0
# A classic TIFF addresses 4 GiB. Deflate may expand noise a little, so switch early.
_CLASSIC_TIFF_BYTES = 3 * 2**30


class RowSource(Protocol):
    """An image that is never held whole: it hands out bands of full rows, top to bottom."""

    @property
    def height(self) -> int:
        """Number of rows."""
        ...

    @property
    def width(self) -> int:
        """Number of columns."""
        ...

    def rows(self, start: int, stop: int) -> RGB:
        """Return rows ``start`` to ``stop - 1``, shape (stop - start, width, 3), uint8."""
        ...


def write_pyramid(
    path: Path,
    source: RGB | RowSource,
    mpp: float | Mpp,
    tile_size: int = 256,
    levels: int | None = None,
) -> None:
    """Write an image as a generic pyramidal TIFF (lossless: deflate with predictor).

    The file appears under its name only when it is complete. Memory holds a few rows of
    tiles, never the image; coarser levels wait compressed in temporary files beside the
    slide. The same pixels give the same bytes, whether handed over whole or in bands.

    Parameters
    ----------
    path
        The slide to write; an existing file is replaced.
    source
        The image, shape (height, width, 3), dtype uint8, or anything that hands out its rows.
    mpp
        Pixel size at full resolution in µm; a number stands for square pixels.
    tile_size
        Side of the square tiles in pixels, a multiple of 16 (as TIFF demands).
    levels
        Number of levels, full resolution included; by default halved until one tile holds
        the whole image. Each level is the mean of 2 x 2 pixels of the one before; a last odd
        row or column is dropped.

    Raises
    ------
    ResolutionError
        If ``mpp`` is not a positive number.
    SettingsError
        If the tile size, the number of levels or the shape of the image cannot work.
    OutputError
        If the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> import openslide
    >>> from wsi_engine.slide.pyramid import write_pyramid
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "grey.tif"
    ...     write_pyramid(path, np.full((600, 800, 3), 128, np.uint8), mpp=0.25)
    ...     with openslide.OpenSlide(path) as slide:
    ...         slide.level_dimensions
    ((800, 600), (400, 300), (200, 150))
    """
    pixel = mpp if isinstance(mpp, Mpp) else Mpp(mpp, mpp)
    if not all(math.isfinite(side) and side > 0 for side in (pixel.x, pixel.y)):
        raise ResolutionError(f"The pixel size must be a positive number of µm, not {mpp}.")
    if tile_size < 16 or tile_size % 16:
        raise SettingsError(f"The tile size must be a multiple of 16 pixels, not {tile_size}.")
    rows = _HeldImage(source) if isinstance(source, np.ndarray) else source
    sizes = _level_sizes(rows.height, rows.width, tile_size, levels)

    with clear_write_errors(path), atomic_path(path) as partial:
        _write_tiff(partial, rows, sizes, pixel, tile_size)


@dataclass(frozen=True, slots=True)
class _HeldImage:
    """An image in memory as a source of rows."""

    pixels: RGB

    @property
    def height(self) -> int:
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        return int(self.pixels.shape[1])

    def rows(self, start: int, stop: int) -> RGB:
        return self.pixels[start:stop]


class _Spool:
    """The encoded tiles of one coarser level, on disk until it is their turn in the file."""

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        self._sizes: list[int] = []

    def __enter__(self) -> _Spool:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __iter__(self) -> Iterator[bytes]:
        self._file.seek(0)
        for size in self._sizes:
            yield self._file.read(size)

    def extend(self, tiles: Iterable[bytes]) -> None:
        for tile in tiles:
            self._file.write(tile)
            self._sizes.append(len(tile))


def _level_sizes(
    height: int, width: int, tile_size: int, levels: int | None
) -> list[tuple[int, int]]:
    """Return (height, width) of every level, full resolution first."""
    if height < 1 or width < 1:
        raise SettingsError(f"A slide cannot be written from an image of {width} x {height} px.")
    if levels is None:
        levels = 1
        while max(height, width) >> (levels - 1) > tile_size and min(height, width) >> levels:
            levels += 1
    if levels < 1 or min(height, width) >> (levels - 1) == 0:
        raise SettingsError(
            f"An image of {width} x {height} px can have 1 to "
            f"{min(height, width).bit_length()} levels, not {levels}."
        )
    return [(height >> level, width >> level) for level in range(levels)]


def _write_tiff(
    path: Path, source: RowSource, sizes: list[tuple[int, int]], mpp: Mpp, tile_size: int
) -> None:
    raw_bytes = sum(3 * height * width for height, width in sizes)
    with ExitStack() as stack:
        tiff = stack.enter_context(
            tifffile.TiffWriter(path, bigtiff=raw_bytes > _CLASSIC_TIFF_BYTES)
        )
        spools = [stack.enter_context(_Spool(path.parent)) for _ in sizes[1:]]
        pool = stack.enter_context(ThreadPoolExecutor(min(4, os.cpu_count() or 1)))
        full = _encode_levels(source, spools, tile_size, pool)
        for level, ((height, width), tiles) in enumerate(
            zip(sizes, [full, *map(iter, spools)], strict=True)
        ):
            # Tiles are handed over as encoded bytes, so that neither speed nor content
            # depends on whether imagecodecs is installed.
            tiff.write(
                tiles,
                shape=(height, width, 3),
                dtype=np.uint8,
                tile=(tile_size, tile_size),
                photometric="rgb",
                compression="adobe_deflate",
                predictor=True,
                # OpenSlide takes a further directory as a level if it is marked reduced.
                subfiletype=1 if level else 0,
                resolution=(
                    _UM_PER_CM / (mpp.x * 2**level),
                    _UM_PER_CM / (mpp.y * 2**level),
                ),
                resolutionunit="CENTIMETER",
                software="wsi-engine",
                metadata=None,
            )


def _encode_levels(
    source: RowSource, spools: list[_Spool], tile_size: int, pool: ThreadPoolExecutor
) -> Iterator[bytes]:
    """Yield the tiles of full resolution; those of coarser levels go to their spools.

    Each level waits until its rows fill one row of tiles, then passes their half on.
    """
    waiting: list[list[RGB]] = [[] for _ in spools]
    for start in range(0, source.height, tile_size):
        stop = min(start + tile_size, source.height)
        band = source.rows(start, stop)
        if band.shape != (stop - start, source.width, 3) or band.dtype != np.uint8:
            raise SettingsError(
                f"Rows {start} to {stop} of the image should be uint8 of shape "
                f"{(stop - start, source.width, 3)}, not {band.dtype} of shape {band.shape}."
            )
        full_resolution = _encode_tile_row(band, tile_size, pool)
        # Spool first: nobody asks this generator for anything after its last tile.
        for bands, spool in zip(waiting, spools, strict=True):
            bands.append(_halved(band))
            if sum(map(len, bands)) < tile_size and stop < source.height:
                break
            band = np.concatenate(bands)
            bands.clear()
            spool.extend(_encode_tile_row(band, tile_size, pool))
        yield from full_resolution


def _encode_tile_row(band: RGB, tile_size: int, pool: ThreadPoolExecutor) -> Iterator[bytes]:
    """Cut a band of at most ``tile_size`` rows into tiles, left to right, and encode them."""
    height, width = band.shape[:2]
    if height == 0:
        return iter(())
    # Borders are repeated outwards: readers crop them, and they compress to nothing.
    band = np.pad(band, ((0, tile_size - height), (0, -width % tile_size), (0, 0)), mode="edge")
    return pool.map(_encode_tile, np.split(band, band.shape[1] // tile_size, axis=1))


def _encode_tile(tile: RGB) -> bytes:
    """Deflate a tile after horizontal differencing (TIFF 6.0, section 14, predictor 2)."""
    differences = tile.copy()
    differences[:, 1:] -= tile[:, :-1]
    return zlib.compress(differences.tobytes(), _DEFLATE_LEVEL)


def _halved(band: RGB) -> RGB:
    """Return the mean of each 2 x 2 pixels, rounded half up."""
    height, width = band.shape[0] // 2, band.shape[1] // 2
    even = band[: 2 * height, : 2 * width].astype(np.uint16)
    total = even[::2, ::2] + even[::2, 1::2] + even[1::2, ::2] + even[1::2, 1::2]
    return ((total + 2) // 4).astype(np.uint8)
