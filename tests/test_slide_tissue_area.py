"""The area of drawn pieces of known size, whatever glass, light, stain and dirt are like."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shapely
from scipy import ndimage

from wsi_engine.slide.frames import Mpp
from wsi_engine.slide.opening import open_slide
from wsi_engine.slide.pyramid import write_pyramid
from wsi_engine.slide.tissue import Tissue, find_tissue

Image = np.ndarray

SIDE = 800
GLASS, STROMA, NUCLEUS = (242, 240, 243), (226, 168, 202), (105, 70, 140)
PALE = {"stroma": (237, 228, 236), "nucleus": (205, 190, 215)}
H_DAB = {"stroma": (236, 232, 238), "nucleus": (125, 135, 180)}


def disc(radius_px: float, centre: tuple[float, float] = (400.0, 400.0)) -> np.ndarray:
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    return (x - centre[0]) ** 2 + (y - centre[1]) ** 2 < radius_px**2


def drawn(
    piece: np.ndarray,
    mpp: float,
    stroma: tuple[int, int, int] = STROMA,
    nucleus: tuple[int, int, int] = NUCLEUS,
) -> Image:
    """Draw stroma with a nucleus of 6.5 µm every 12 µm, in either direction at random."""
    image = np.empty((SIDE, SIDE, 3), np.float32)
    image[:] = GLASS
    image[piece] = stroma
    rng = np.random.default_rng(3)
    count = int(piece.sum() * mpp**2 / 12**2)
    rows, columns = np.nonzero(piece)
    chosen = rng.integers(0, len(rows), count)
    seeds = np.ones(piece.shape, bool)
    seeds[rows[chosen], columns[chosen]] = False
    image[piece & (ndimage.distance_transform_edt(seeds) * mpp < 3.25)] = nucleus
    return image


def tissue_of(image: Image, folder: Path, mpp: float) -> Tissue:
    noise = np.random.default_rng(0).normal(0, 2, image.shape)
    pixels = np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)
    write_pyramid(folder / "slide.tif", pixels, mpp)
    with open_slide(folder / "slide.tif") as slide:
        return find_tissue(slide, replace(slide.info, mpp=Mpp(mpp, mpp)))


def assert_area(tissue: Tissue, piece: np.ndarray, mpp: float) -> None:
    assert tissue.area_mm2 == pytest.approx(piece.sum() * mpp**2 / 1e6, rel=0.03)
    area = shapely.union_all(tissue.pieces).buffer(6 / mpp)
    rows, columns = np.nonzero(piece)
    assert shapely.contains_xy(area, columns[::97] + 0.5, rows[::97] + 0.5).all()


@pytest.mark.parametrize("mpp", [1.0, 4.0])
@pytest.mark.parametrize("diameter_um", [250, 600])
def test_pieces_of_any_size_at_any_resolution(tmp_path: Path, mpp: float, diameter_um: float):
    """The slide of 4 µm is 3.2 mm wide."""
    piece = disc(diameter_um / 2 / mpp)
    assert_area(tissue_of(drawn(piece, mpp), tmp_path, mpp), piece, mpp)


def test_several_pieces_and_a_square(tmp_path: Path):
    piece = disc(130, (180, 180)) | disc(125, (600, 200)) | disc(170, (250, 600))
    piece[450:700, 500:750] = True
    tissue = tissue_of(drawn(piece, 1.0), tmp_path, 1.0)
    assert len(tissue.pieces) == 4
    assert_area(tissue, piece, 1.0)


def test_a_piece_on_the_largest_mask_of_eight_microns(tmp_path: Path):
    """8 mm wide: a piece of 250 µm has 31 pixels across."""
    piece = disc(15) | disc(12.5, (200, 200))
    assert_area(tissue_of(drawn(piece, 10.0), tmp_path, 10.0), piece, 10.0)


@pytest.mark.parametrize(
    "tint",
    [
        (238, 230, 212), (235, 215, 160), (230, 200, 120), (160, 200, 235), (205, 235, 205),
        (240, 215, 225),
    ],
)  # fmt: skip
@pytest.mark.parametrize("brightness", [1.0, 0.7])
def test_tinted_and_dim_light(tmp_path: Path, tint: tuple[int, int, int], brightness: float):
    piece = disc(180)
    image = drawn(piece, 1.0) / np.array(GLASS) * np.array(tint) * brightness
    assert_area(tissue_of(image, tmp_path, 1.0), piece, 1.0)


@pytest.mark.parametrize("tint", [(242, 240, 243), (238, 220, 180)])
@pytest.mark.parametrize("fall", [0.2, 0.5])
def test_light_that_falls_off_to_the_corners(
    tmp_path: Path, tint: tuple[int, int, int], fall: float
):
    piece = disc(180) | disc(125, (140, 140))
    y, x = np.mgrid[:SIDE, :SIDE]
    light = 1 - fall * np.hypot(x - 400, y - 400) / np.hypot(400, 400)
    image = drawn(piece, 1.0) / np.array(GLASS) * np.array(tint) * light[..., None]
    assert_area(tissue_of(image, tmp_path, 1.0), piece, 1.0)


@pytest.mark.parametrize("tint", [(242, 240, 243), (238, 220, 180)])
@pytest.mark.parametrize("stain", [PALE, H_DAB], ids=["pale", "H-DAB"])
def test_pale_stain(tmp_path: Path, stain: dict[str, tuple[int, int, int]], tint):
    piece = disc(180)
    image = drawn(piece, 0.5, **stain) / np.array(GLASS) * np.array(tint)
    assert_area(tissue_of(image, tmp_path, 0.5), piece, 0.5)


def _ring(image: Image, colour: tuple[int, int, int], width: float) -> None:
    image[disc(320 + width) & ~disc(320)] = colour


def _beyond_a_circle(image: Image, colour: tuple[int, int, int], width: float) -> None:
    image[~disc(390)] = colour


def _edges(image: Image, colour: tuple[int, int, int], width: float) -> None:
    image[:, : int(width)], image[-int(width) :] = colour, tuple(c + 12 for c in colour)


def _lines(image: Image, colour: tuple[int, int, int], width: float) -> None:
    image[:, 100 : 100 + int(width)], image[130 : 130 + int(width)] = colour, colour


DARK: list[Callable[[Image, tuple[int, int, int], float], None]] = [
    _ring, _beyond_a_circle, _edges, _lines,
]  # fmt: skip


@pytest.mark.parametrize("dark", DARK)
@pytest.mark.parametrize("colour", [(5, 5, 8), (30, 30, 32), (120, 118, 124)])
@pytest.mark.parametrize("width", [4, 30])
@pytest.mark.parametrize("tint", [(242, 240, 243), (238, 220, 180)])
def test_what_is_dark_and_grey_is_no_tissue(tmp_path: Path, dark, colour, width: float, tint):
    """A ring of the mount, a black border, the edge of the coverslip, a scratch."""
    piece = disc(180)
    # Nothing that is between the lamp and the glass changes how that is tinted.
    image = drawn(piece, 1.0) / np.array(GLASS) * np.array(tint)
    shade = np.array(colour) / np.array(GLASS) * np.array(tint)
    dark(image, tuple(np.rint(shade).astype(int)), width)
    image = ndimage.gaussian_filter(image, 0.7, axes=(0, 1))
    assert_area(tissue_of(image, tmp_path, 1.0), piece, 1.0)


@pytest.mark.parametrize("tint", [(238, 230, 212), (235, 215, 160), (160, 200, 235)])
def test_tinted_glass_alone_has_no_tissue(tmp_path: Path, tint: tuple[int, int, int]):
    image = np.broadcast_to(np.array(tint, np.float32), (SIDE, SIDE, 3))
    assert tissue_of(image, tmp_path, 1.0).pieces == ()


def test_what_was_never_scanned_beside_tinted_glass(tmp_path: Path):
    """Readers show it as pure white, which the glass is not."""
    piece = disc(180)
    image = drawn(piece, 1.0) / np.array(GLASS) * np.array((235, 215, 160))
    image[:, :150] = 1000
    image[:150] = 1000
    assert_area(tissue_of(image, tmp_path, 1.0), piece, 1.0)
