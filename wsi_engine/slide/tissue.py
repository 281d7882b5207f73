"""Where there is tissue: glass, pen marks and black borders left out."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import shapely
from scipy import ndimage
from skimage import filters, measure

from wsi_engine.slide.frames import ModelBox
from wsi_engine.slide.grid_reader import GridReader, make_grid
from wsi_engine.slide.optical_density import floored_od
from wsi_engine.slide.protocol import RGB, Slide, SlideInfo

COARSEST_MASK_MPP, FINEST_MASK_MPP = 8.0, 1.0
MASK_SIDE_PX, LARGEST_MASK_SIDE_PX = 1024, 2560
"""Small images are looked at more finely, up to the first number of pixels a side. The second
bounds memory: slides of more than 20 mm are looked at more coarsely."""

BLUR_UM = 6.0
CLOSING_UM = 16.0
MARGIN_UM = 8.0
SMALLEST_PIECE_UM2 = 2_000.0
LARGEST_FILLED_HOLE_UM2 = 20_000.0
SMALLEST_INK_RADIUS_UM = 20.0
INK_MARGIN_UM = 30.0

THRESHOLD_OD = 0.02
"""Tissue has more contrast than this. Glass has up to 0.015, pale stroma and fat little more:
a threshold chosen between the dark and the pale (Otsu) loses them, and their nuclei."""

PALEST_STAIN_OD, LARGEST_TINT_OD = 0.25, 0.08
SMALLEST_GLASS_SHARE = 0.05
LARGEST_GRAIN_OD = 0.006
"""Glass is no darker, no more colourful and no more uneven than this (median; measured: glass
up to 0.004, the palest stroma from 0.011), and takes up this share of the slide."""

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Tissue:
    """Pieces of tissue.

    Attributes
    ----------
    pieces
        Valid polygons in QuPath pixels, from top to bottom.
    threshold
        Optical-density contrast above which a pixel is tissue.
    area_mm2
        Area of all pieces.
    """

    pieces: tuple[shapely.Polygon, ...]
    threshold: float
    area_mm2: float


def find_tissue(slide: Slide, info: SlideInfo) -> Tissue:
    """Outline the tissue on a slide at low resolution.

    Stain absorbs the three colour channels unequally, dust, black borders and shadows
    equally, glass by its own tint: the range over the channels of the optical density beyond
    that of the glass is thresholded, pen colours are taken out, gaps are closed, specks dropped
    and small holes filled.

    Parameters
    ----------
    slide
        Slide to read from.
    info
        Its facts, with a pixel size.
    """
    longest_um = max(info.bounds.width, info.bounds.height) * (info.mpp.mean if info.mpp else 1.0)
    mask_mpp = float(np.clip(longest_um / MASK_SIDE_PX, FINEST_MASK_MPP, COARSEST_MASK_MPP))
    mask_mpp = max(mask_mpp, longest_um / LARGEST_MASK_SIDE_PX)
    grid = make_grid(info, mask_mpp)
    density = floored_od(read_overview(GridReader(slide, grid)))
    # Blurred before the channels are compared: noise is colourful, its mean is not.
    blurred = ndimage.gaussian_filter(density, BLUR_UM / mask_mpp, axes=(0, 1))
    contrast = np.ptp(blurred - _glass(density, blurred), axis=2)
    mask = (contrast > THRESHOLD_OD) & ~find_ink(density, mask_mpp, INK_MARGIN_UM)
    # Room for the outline to grow beyond the slide, so that it ends at its very border.
    room = math.ceil((CLOSING_UM + MARGIN_UM) / mask_mpp) + 2
    mask = _tidy(np.pad(mask, room), mask_mpp)
    area = shapely.transform(outline(mask), lambda points: grid.to_qupath(points - room))
    area = shapely.intersection(area, shapely.box(0, 0, info.bounds.width, info.bounds.height))
    pieces = [part for part in shapely.get_parts(area) if part.geom_type == "Polygon"]
    pieces.sort(key=lambda piece: (piece.bounds[1], piece.bounds[0]))
    mpp = grid.slide_mpp
    area_mm2 = sum(piece.area for piece in pieces) * mpp.pixel_area_um2 / 1e6
    return Tissue(tuple(pieces), THRESHOLD_OD, float(area_mm2))


def _glass(
    density: npt.NDArray[np.float32], blurred: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Optical density of the bare glass in R, G, B; 0 where the slide shows none.

    Scanners do not all balance their white, and old mounting media are yellow. Otsu's method
    on the brightness separates the pale pixels; glass is among them if many are of one colour
    and smooth. Without the last, the stroma of a field that shows no glass would pass for it.
    """
    brightness = blurred.mean(axis=2)
    none = np.zeros(3, np.float32)
    if np.ptp(brightness) == 0:
        return none
    pale = blurred[brightness <= filters.threshold_otsu(brightness)]
    bins = np.arange(0, PALEST_STAIN_OD + 0.005, 0.005)
    mode = np.array([bins[np.histogram(pale[:, c], bins)[0].argmax()] for c in range(3)]) + 0.0025
    alike = (np.abs(blurred - mode) < 0.01).all(axis=2)
    if alike.mean() <= SMALLEST_GLASS_SHARE or np.ptp(mode) >= LARGEST_TINT_OD:
        return none
    grain = np.median(np.abs(density - blurred)[alike].max(axis=1))
    return mode.astype(np.float32) if grain < LARGEST_GRAIN_OD else none


def read_overview(reader: GridReader, band: int = 128) -> RGB:
    """Read a whole grid in bands, so that little of the finer level is held at a time."""
    extent = reader.grid.extent
    image = np.empty((extent.height, extent.width, 3), np.uint8)
    for y in range(0, extent.height, band):
        rows = min(band, extent.height - y)
        image[y : y + rows] = reader.read(ModelBox(0, y, extent.width, rows))
    return image


def find_ink(density: npt.NDArray[np.float32], mpp: float, margin_um: float = 0.0) -> Mask:
    """Find strong colours that no stain has: blue, green, red and black ink.

    Parameters
    ----------
    density
        Optical density, shape (height, width, 3).
    mpp
        Pixel size in µm.
    margin_um
        How far around the ink the mask reaches.
    """
    red, green, blue = (density[..., channel] for channel in range(3))
    strong = density.max(axis=2) > 0.3
    blue_ink = red > 1.35 * green
    green_ink = (red > 1.15 * green) & (blue > 1.15 * green)
    red_ink = (red < 0.12 * green) & (blue > 0.75 * green)
    black_ink = (density.min(axis=2) > 0.7) & (np.ptp(density, axis=2) < 0.12)
    ink = strong & (blue_ink | green_ink | red_ink | black_ink)
    # A marker draws lines of a millimetre; single pixels of such colour are nuclei or pigment.
    radius = max(1, round(SMALLEST_INK_RADIUS_UM / mpp))
    # Where not even the square within the disk fits, the disk need not be tried.
    if not ndimage.minimum_filter(ink, 2 * math.floor(radius / math.sqrt(2)) + 1).any():
        return np.zeros_like(ink)
    core = ~_disk_dilation(~ink, radius)
    return _disk_dilation(core, max(2, round((SMALLEST_INK_RADIUS_UM + margin_um) / mpp)))


def _tidy(mask: Mask, mpp: float) -> Mask:
    closing, margin = max(1, round(CLOSING_UM / mpp)), max(1, round(MARGIN_UM / mpp))
    mask = _disk_dilation(mask, closing)
    mask = ~_disk_dilation(~mask, closing)
    mask = _drop_small(mask, SMALLEST_PIECE_UM2 / mpp**2)
    mask = _fill_small(mask, LARGEST_FILLED_HOLE_UM2 / mpp**2)
    return _disk_dilation(mask, margin)


def _disk_dilation(mask: Mask, radius: int) -> Mask:
    # By distance: the cost does not grow with the radius.
    return np.asarray(ndimage.distance_transform_edt(~mask) <= radius) if mask.any() else mask


def _drop_small(mask: Mask, smallest_px: float) -> Mask:
    labels, count = ndimage.label(mask)
    keep = np.bincount(labels.ravel(), minlength=count + 1) >= smallest_px
    keep[0] = False
    return np.asarray(keep[labels])


def _fill_small(mask: Mask, largest_px: float) -> Mask:
    labels, count = ndimage.label(~mask)
    fill = np.bincount(labels.ravel(), minlength=count + 1) <= largest_px
    # Neither what is tissue already, nor the outside, however small the image.
    fill[[0, labels[0, 0]]] = False
    return np.asarray(mask | fill[labels])


def outline(mask: Mask) -> shapely.Geometry:
    """Outline a mask in pixel-corner coordinates, holes included."""
    rings = measure.find_contours(np.pad(mask, 1).astype(np.float32), 0.5)
    # Rows and columns of the padded image's pixel centres -> x, y of the mask's pixel corners.
    lines = [shapely.LinearRing(ring[:, ::-1] - 0.5) for ring in rings]
    return shapely.simplify(shapely.build_area(shapely.GeometryCollection(lines)), 0.5)
