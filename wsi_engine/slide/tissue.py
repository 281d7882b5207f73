"""Where there is tissue: glass, pen marks and black borders left out."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import shapely
from scipy import ndimage
from skimage import measure

from wsi_engine.slide.frames import ModelBox, QuPathBox
from wsi_engine.slide.glass import (
    Density,
    find_glass,
    is_blank,
    is_grey,
    least,
    most,
    stain_contrast,
    without_black,
)
from wsi_engine.slide.grid_reader import GridReader, make_grid
from wsi_engine.slide.optical_density import floored_od
from wsi_engine.slide.protocol import RGB, Slide, SlideInfo
from wsi_engine.slide.unreadable import without

COARSEST_MASK_MPP, FINEST_MASK_MPP = 8.0, 1.0
MASK_SIDE_PX, LARGEST_MASK_SIDE_PX = 1024, 2560
"""Small images are looked at more finely, up to the first number of pixels a side. The second
bounds memory: slides of more than 20 mm are looked at more coarsely."""

LARGEST_READ_BYTES = 24 << 20
"""So much of a level is held at a time, however wide it is, and however fine the coarsest one."""

BLUR_UM = 6.0
CLOSING_UM = 16.0
SMALLEST_PIECE_UM2 = 2_000.0
LARGEST_FILLED_HOLE_UM2 = 20_000.0
SMALLEST_INK_RADIUS_UM = 20.0
INK_MARGIN_UM = 22.0

THRESHOLD_OD = 0.02
"""Tissue has more contrast than this. Glass has up to 0.015, pale stroma and fat little more:
a threshold chosen between the dark and the pale (Otsu) loses them, and their nuclei."""

BORDER_BLUR_UM = 2.0
BORDER_INSIDE_UM, BORDER_OUTSIDE_UM = 12.0, 40.0
"""How far the border is looked for to both sides of where the blurred contrast ends. It ends up to
10 µm outside of well stained tissue, and inside of the palest, which its nuclei alone reveal."""

BORDER_BLOCK_UM = 32.0
PALE_QUANTILE, SMALLEST_BLOCK_SHARE = 0.1, 0.25
SMALLEST_BORDER_OD = 0.0025
"""The border is where contrast is half of that of the paler tissue beside it, and above that of
glass, which is at least this."""

GLASS_QUANTILE = 0.98

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
    unreadable
        What could not be read of the slide while they were looked for, and is none of them.
    is_grey
        Whether the slide has no colours, by which tissue is told from glass.
    """

    pieces: tuple[shapely.Polygon, ...]
    threshold: float
    area_mm2: float
    unreadable: tuple[QuPathBox, ...] = ()
    is_grey: bool = False


def find_tissue(slide: Slide, info: SlideInfo) -> Tissue:
    """Outline the tissue on a slide at low resolution.

    Stain absorbs the three colour channels unequally, dust, black borders and shadows
    equally, glass by its own tint: the range over the channels of the optical density beyond
    that of the glass is thresholded, pen colours are taken out, gaps are closed, specks dropped
    and small holes filled. The border lies where that range has fallen to half.

    Parameters
    ----------
    slide
        Slide to read from.
    info
        Its facts, with a pixel size.
    """
    reader = tissue_reader(slide, info)
    grid, mask_mpp = reader.grid, reader.grid.mpp
    rgb = read_overview(reader)
    mask = _tissue_mask(rgb, mask_mpp)
    # Room beyond the slide, so that tissue that is cut by its border ends at that very border.
    room = math.ceil(CLOSING_UM / mask_mpp) + 2
    mask = _tidy(np.pad(mask, room, mode="edge"), mask_mpp)
    area = shapely.transform(outline(mask), lambda points: grid.to_qupath(points - room))
    area = shapely.intersection(area, shapely.box(0, 0, info.bounds.width, info.bounds.height))
    unreadable = tuple(reader.unreadable)
    area = without(area, unreadable)
    pieces = [part for part in shapely.get_parts(area) if part.geom_type == "Polygon"]
    pieces.sort(key=lambda piece: (piece.bounds[1], piece.bounds[0]))
    mpp = grid.slide_mpp
    area_mm2 = sum(piece.area for piece in pieces) * mpp.pixel_area_um2 / 1e6
    return Tissue(tuple(pieces), THRESHOLD_OD, float(area_mm2), unreadable, is_grey(rgb))


def tissue_reader(slide: Slide, info: SlideInfo) -> GridReader:
    """Return what reads the pixels in which tissue is looked for."""
    longest_um = max(info.bounds.width, info.bounds.height) * (info.mpp.mean if info.mpp else 1.0)
    mask_mpp = float(np.clip(longest_um / MASK_SIDE_PX, FINEST_MASK_MPP, COARSEST_MASK_MPP))
    return GridReader(slide, make_grid(info, max(mask_mpp, longest_um / LARGEST_MASK_SIDE_PX)))


def _tissue_mask(rgb: RGB, mpp: float) -> Mask:
    """Return which pixels of an overview are stained; gaps and specks are still there."""
    blank = is_blank(rgb)
    read = floored_od(rgb)
    # Blurred before the channels are compared: noise is colourful, its mean is not.
    glass = find_glass(read, _blurred(read, BLUR_UM / mpp), ~blank)
    density = without_black(read, glass)
    density[blank] = glass
    stained = stain_contrast(_blurred(density, BLUR_UM / mpp), glass) > THRESHOLD_OD
    if not stained.any():
        return stained
    stained = _to_the_border(stained, density, glass, blank, mpp)
    return stained & ~find_ink(read, mpp, INK_MARGIN_UM)


def _blurred(density: Density, sigma: float) -> Density:
    return np.asarray(ndimage.gaussian_filter(density, sigma, axes=(0, 1)))


def _to_the_border(
    stained: Mask, density: Density, glass: Density, blank: Mask, mpp: float
) -> Mask:
    """Move the border of what is stained to where the contrast has fallen to half."""
    contrast = stain_contrast(_blurred(density, BORDER_BLUR_UM / mpp), glass)
    stained = _closed(stained, mpp)
    depth = ndimage.distance_transform_edt(np.pad(stained, 1, mode="edge"))[1:-1, 1:-1] * mpp
    height = ndimage.distance_transform_edt(~stained) * mpp
    core, around = depth > BORDER_INSIDE_UM, height <= BORDER_OUTSIDE_UM
    far = ~around & ~blank
    noise = float(np.quantile(contrast[far], GLASS_QUANTILE)) if far.any() else THRESHOLD_OD / 2
    noise = min(max(noise, SMALLEST_BORDER_OD), THRESHOLD_OD)
    half = 0.5 * _level_of_pale_tissue(contrast, core if core.any() else stained, mpp)
    grown = core | (around & (contrast > np.maximum(half, noise)))
    labels, count = ndimage.label(grown)
    real = np.zeros(count + 1, bool)
    real[labels[stained]] = True
    real[0] = False
    return np.asarray(real[labels])


def _level_of_pale_tissue(
    contrast: npt.NDArray[np.float32], tissue: Mask, mpp: float
) -> npt.NDArray[np.float32]:
    """Return the contrast of the paler tissue near each pixel."""
    side = max(2, round(BORDER_BLOCK_UM / mpp))
    height, width = contrast.shape
    rows, columns = -(-height // side), -(-width // side)
    block = (np.arange(height) // side)[:, None] * columns + np.arange(width) // side
    chosen, values = block[tissue], contrast[tissue]
    order = np.lexsort((values, chosen))
    blocks, first, count = np.unique(chosen[order], return_index=True, return_counts=True)
    many = count >= min(SMALLEST_BLOCK_SHARE * side**2, count.max())
    blocks, first, count = blocks[many], first[many], count[many]
    levels = np.zeros(rows * columns, np.float32)
    levels[blocks] = values[order][first + (PALE_QUANTILE * (count - 1)).astype(np.int64)]
    known = np.zeros(rows * columns, bool)
    known[blocks] = True
    nearest = ndimage.distance_transform_edt(
        ~known.reshape(rows, columns), return_distances=False, return_indices=True
    )
    levels = levels.reshape(rows, columns)[tuple(nearest)]
    return levels.ravel()[block]


def read_overview(reader: GridReader) -> RGB:
    """Read a whole grid in squares, holding at most `LARGEST_READ_BYTES` of the level at a time."""
    extent, level = reader.grid.extent, reader.level
    level_px = reader.grid.scale_x * reader.grid.scale_y / level.downsample**2
    # Squares, not bands: of a wide slide a band has few rows, and each tile is decoded twice.
    side = max(1, math.isqrt(int(LARGEST_READ_BYTES / (3 * level_px))))
    image = np.empty((extent.height, extent.width, 3), np.uint8)
    for y in range(0, extent.height, side):
        for x in range(0, extent.width, side):
            box = ModelBox(x, y, min(side, extent.width - x), min(side, extent.height - y))
            image[y : box.y_stop, x : box.x_stop] = reader.read(box)
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
    lightest, darkest = least(density), most(density)
    strong = darkest > 0.3
    blue_ink = red > 1.35 * green
    green_ink = (red > 1.15 * green) & (blue > 1.15 * green)
    red_ink = (red < 0.12 * green) & (blue > 0.75 * green)
    black_ink = (lightest > 0.7) & (darkest - lightest < 0.12)
    ink = strong & (blue_ink | green_ink | red_ink | black_ink)
    # A marker draws lines of a millimetre; single pixels of such colour are nuclei or pigment.
    radius = max(1, round(SMALLEST_INK_RADIUS_UM / mpp))
    # Where not even the square within the disk fits, the disk need not be tried.
    if not ndimage.minimum_filter(ink, 2 * math.floor(radius / math.sqrt(2)) + 1).any():
        return np.zeros_like(ink)
    core = ~_disk_dilation(~ink, radius)
    return _disk_dilation(core, max(2, round((SMALLEST_INK_RADIUS_UM + margin_um) / mpp)))


def _tidy(mask: Mask, mpp: float) -> Mask:
    mask = _drop_small(_closed(mask, mpp), SMALLEST_PIECE_UM2 / mpp**2)
    return _fill_small(mask, LARGEST_FILLED_HOLE_UM2 / mpp**2)


def _closed(mask: Mask, mpp: float) -> Mask:
    radius = max(1, round(CLOSING_UM / mpp))
    # What the slide's border cuts goes on beyond it; what only comes near it does not reach it.
    mask = np.pad(mask, radius + 1, mode="edge")
    mask = ~_disk_dilation(~_disk_dilation(mask, radius), radius)
    inside = slice(radius + 1, -radius - 1)
    return mask[inside, inside]


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
    # Neither what is tissue already, nor what goes on outside, however small the image.
    for side in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        fill[side] = False
    fill[0] = False
    return np.asarray(mask | fill[labels])


def outline(mask: Mask) -> shapely.Geometry:
    """Outline a mask in pixel-corner coordinates, holes included."""
    rings = measure.find_contours(np.pad(mask, 1).astype(np.float32), 0.5)
    # Rows and columns of the padded image's pixel centres -> x, y of the mask's pixel corners.
    lines = [shapely.LinearRing(ring[:, ::-1] - 0.5) for ring in rings]
    return shapely.simplify(shapely.build_area(shapely.GeometryCollection(lines)), 0.5)
