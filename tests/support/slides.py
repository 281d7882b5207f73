"""Slides for tests: real ones from the shared folder, and synthetic ones."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile

SHARED = Path(__file__).resolve().parents[3] / "shared"

CMU = "CMU-1-Small-Region.svs"
"""Aperio JPEG, 0.499 µm, one level."""
TCGA_CR = "TCGA-CR-7395-01A-01-TS1_crop.svs"
"""Aperio JPEG 2000 without pixel size; level 1 was halved from odd sides (OpenSlide: 2.0005)."""
TCGA_V5 = "TCGA-V5-A7RE_stitched_0.2485mpp.tif"
"""Generic TIFF, 0.2485 µm, five levels."""
MOSAIC = "mosaic_tnbc.tif"
"""Fifty pale fields on a glass-coloured ground, 0.25 µm, with the truth beside it."""


def real_slide(name: str) -> Path:
    """Path of a real slide; without it the test is skipped, but fails in CI."""
    path = SHARED / "data" / "slides" / name
    if not path.exists():
        if os.environ.get("CI"):
            pytest.fail(f"{name} is missing from the shared folder")
        pytest.skip(f"{name} is not here")
    return path


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    """An image without two equal pixels side by side: a shift by one pixel changes it all."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def dots(height: int, width: int, centres: np.ndarray, sigma: float = 3.0) -> np.ndarray:
    """Dark Gaussian dots on white, at (x, y) in pixel corners, none near another."""
    darkness = np.zeros((height, width))
    reach = int(6 * sigma)
    for x, y in centres:
        top, left = max(0, int(y) - reach), max(0, int(x) - reach)
        rows, columns = np.mgrid[top : min(height, top + 2 * reach), left : left + 2 * reach]
        keep = columns[0] < width
        rows, columns = rows[:, keep], columns[:, keep]
        distance = (columns + 0.5 - x) ** 2 + (rows + 0.5 - y) ** 2
        darkness[rows, columns] += 200 * np.exp(-distance / (2 * sigma**2))
    grey = np.rint(255 - darkness).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def dot_centre(image: np.ndarray, x: float, y: float, reach: int) -> tuple[float, float]:
    """Centre of mass of the darkness around a place, in pixel corners."""
    left, top = round(x) - reach, round(y) - reach
    darkness = 255.0 - image[top : top + 2 * reach, left : left + 2 * reach].mean(axis=2)
    assert darkness.sum() > 0, f"there is no dot at {x}, {y}"
    columns = left + np.arange(darkness.shape[1]) + 0.5
    rows = top + np.arange(darkness.shape[0]) + 0.5
    total = darkness.sum()
    return float(darkness.sum(0) @ columns / total), float(darkness.sum(1) @ rows / total)


GLASS = (242, 240, 243)
EOSIN, NUCLEUS = (228, 165, 200), (95, 60, 130)


def glass(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Empty glass with the noise of a camera."""
    grain = np.random.default_rng(seed).integers(-2, 3, (height, width, 3), dtype=np.int8)
    return (np.array(GLASS, np.int16) + grain).astype(np.uint8)


def ellipse(image: np.ndarray, centre: tuple[float, float], radii: tuple[float, float]):
    """Mask of the pixels of an image in an ellipse of (x, y) centre and radii."""
    y, x = np.ogrid[: image.shape[0], : image.shape[1]]
    return ((x - centre[0]) / radii[0]) ** 2 + ((y - centre[1]) / radii[1]) ** 2 < 1


def paint_tissue(image: np.ndarray, inside: np.ndarray) -> None:
    """Paint stroma and nuclei where a mask says."""
    y, x = np.ogrid[: image.shape[0], : image.shape[1]]
    nuclei = inside & (((x // 3 * 7 + y // 3 * 13) % 11) == 0)
    for colour, where in ((EOSIN, inside), (NUCLEUS, nuclei)):
        grain = np.random.default_rng(1).integers(-6, 7, (int(where.sum()), 3))
        image[where] = (np.array(colour) + grain).astype(np.uint8)


def overwrite_tile(path: Path, level: int, column: int, row: int) -> None:
    """Destroy the compressed bytes of one tile of a tiled TIFF, in place."""
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[level]
        across = -(-page.imagewidth // page.tilewidth)
        index = row * across + column
        offset, count = page.dataoffsets[index], page.databytecounts[index]
    with path.open("r+b") as stream:
        stream.seek(offset)
        stream.write(b"\xa5" * count)


def overwrite_place(path: Path, level: int, column: int, row: int) -> None:
    """Destroy a tile of a pyramid of halves, and those of finer levels that show the same."""
    for finer in range(level + 1):
        per_side = 2**finer
        for down in range(per_side):
            for right in range(per_side):
                overwrite_tile(
                    path, level - finer, column * per_side + right, row * per_side + down
                )


def write_aperio(path: Path, image: np.ndarray, mpp: str | None, power: str | None) -> None:
    """Write a small tiled TIFF that OpenSlide takes for an Aperio SVS.

    ``mpp`` and ``power`` are written as they are, nonsense included.
    """
    height, width = image.shape[:2]
    fields = [f"Aperio Image Library v0\r\n{width}x{height} (64x64) RAW"]
    fields += [f"AppMag = {power}"] if power is not None else []
    fields += [f"MPP = {mpp}"] if mpp is not None else []
    tifffile.imwrite(
        path,
        image,
        tile=(64, 64),
        photometric="rgb",
        description="|".join(fields),
        metadata=None,
    )


_LEICA_IMAGE = """
<image name="{name}">
  <pixels sizeX="{width}" sizeY="{height}">{dimensions}</pixels>
  <view sizeX="{nm_x}" sizeY="{nm_y}" offsetX="{nm_left}" offsetY="{nm_top}"/>
  <scanSettings>
    <objectiveSettings><objective>{power}</objective></objectiveSettings>
    <illuminationSettings><illuminationSource>brightfield</illuminationSource>
    </illuminationSettings>
  </scanSettings>
</image>"""


def write_leica(
    path: Path,
    image: np.ndarray,
    offset_px: tuple[int, int],
    mpp: float = 0.25,
    margin_px: int = 64,
    levels: int = 2,
) -> None:
    """Write a Leica SCN: the scanned area lies at an offset on a larger slide.

    OpenSlide counts pixels from the slide's corner and reports the scanned area as
    ``openslide.bounds-*``; there is nothing (transparent) around it.

    Parameters
    ----------
    path
        Should end in ``.scn``.
    image
        The scanned area; sides are multiples of ``2 ** (levels - 1)``.
    offset_px
        Place (x, y) of the image on the slide in full-resolution pixels.
    mpp
        Pixel size in µm, a whole number of nanometres.
    margin_px
        Width of the slide that is left to the right and below.
    levels
        Number of levels of the pyramid.
    """
    height, width = image.shape[:2]
    nm = round(mpp * 1000)
    nm_x = (offset_px[0] + width + margin_px) * nm
    nm_y = (offset_px[1] + height + margin_px) * nm
    dimension = '<dimension sizeX="{}" sizeY="{}" r="{}" ifd="{}"/>'
    macro = _LEICA_IMAGE.format(
        name="macro", width=64, height=64, dimensions=dimension.format(64, 64, 0, 0),
        nm_x=nm_x, nm_y=nm_y, nm_left=0, nm_top=0, power=0.6,
    )  # fmt: skip
    main = _LEICA_IMAGE.format(
        name="scan", width=width, height=height,
        dimensions="".join(
            dimension.format(width >> level, height >> level, level, level + 1)
            for level in range(levels)
        ),
        nm_x=width * nm, nm_y=height * nm,
        nm_left=offset_px[0] * nm, nm_top=offset_px[1] * nm, power=20 if mpp > 0.4 else 40,
    )  # fmt: skip
    xml = (
        '<?xml version="1.0"?><scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01">'
        f'<collection name="test" sizeX="{nm_x}" sizeY="{nm_y}">{macro}{main}</collection></scn>'
    )
    form = {
        "tile": (64, 64),
        "photometric": "rgb",
        "compression": "adobe_deflate",
        "metadata": None,
        "resolutionunit": "CENTIMETER",
    }
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        tiff.write(np.full((64, 64, 3), 200, np.uint8), description=xml, **form)
        for level in range(levels):
            side = 1 << level
            blocks = image.reshape(height // side, side, width // side, side, 3)
            tiff.write(
                np.rint(blocks.mean(axis=(1, 3))).astype(np.uint8),
                resolution=(10_000 / (mpp * side),) * 2,
                **form,
            )


def openslide_pixels(path: Path, level: int, x: int, y: int, width: int, height: int):
    """Read with bare openslide-python, position and size in pixels of a level; no alpha."""
    with openslide.OpenSlide(path) as slide:
        downsample = int(slide.level_downsamples[level])
        region = slide.read_region((x * downsample, y * downsample), level, (width, height))
    return np.asarray(region)[..., :3]
