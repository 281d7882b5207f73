"""Geometry of a training crop: rotation, flip, scale and elastic deformation at once.

One smooth map leads from the crop back to the annotated image. Pixels are averaged over
their whole area, so that shrinking does not alias; labels are taken by nearest neighbour
on a grid of their own, finer than the crop's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import map_coordinates

from wsi_engine.evaluation.images import UNKNOWN
from wsi_engine.kernels import kernel

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Warp:
    """A map from the crop, in model pixels from its centre, to an image.

    Attributes
    ----------
    matrix
        Image pixels (y, x) per model pixel (y, x), shape (2, 2).
    centre
        Place of the crop's centre in the image, (y, x), pixel corners.
    nodes
        Displacement in image pixels at the nodes of a cubic B-spline, shape (2, n, n).
    reach
        Half the side of the square, in model pixels, over which the nodes are spread.
    """

    matrix: npt.NDArray[np.float64]
    centre: tuple[float, float]
    nodes: npt.NDArray[np.float64]
    reach: float

    @property
    def step(self) -> float:
        """Image pixels per model pixel."""
        return math.sqrt(abs(float(np.linalg.det(self.matrix))))

    def corners(self, side: int) -> tuple[Float32, Float32]:
        """Return where the pixel corners of the middle ``side``² model pixels lie in the image.

        Returns
        -------
        y, x
            float32 (side + 1, side + 1).
        """
        axis = np.arange(side + 1) - side / 2
        basis = _bspline_basis((axis / self.reach + 1) / 2, self.nodes.shape[1])
        y, x = (
            self.centre[k]
            + self.matrix[k, 0] * axis[:, None]
            + self.matrix[k, 1] * axis[None, :]
            + basis @ self.nodes[k] @ basis.T
            for k in (0, 1)
        )
        return y.astype(np.float32), x.astype(np.float32)


def _bspline_basis(position: npt.NDArray[np.float64], nodes: int) -> npt.NDArray[np.float64]:
    """Uniform cubic B-spline weights of ``nodes`` nodes at positions in [0, 1]."""
    t = np.clip(position, 0, 1) * (nodes - 3)
    distance = np.abs(t[:, None] + 1 - np.arange(nodes)[None, :])
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = np.clip(2 - distance, 0, None) ** 3 / 6
    return np.where(distance < 1, near, far)


def random_warp(
    rng: np.random.Generator,
    shape: tuple[int, int],
    *,
    px_per_model_px: float,
    scale: tuple[float, float],
    elastic_px: float,
    crop_px: int,
    margin_px: int = 32,
    around: tuple[float, float] | None = None,
) -> Warp:
    """Draw a warp whose crop lies inside an image as far as it fits.

    Parameters
    ----------
    shape
        Height and width of the image.
    px_per_model_px
        Image pixels per model pixel where nothing is scaled.
    scale
        Range of magnification, log-uniform.
    elastic_px
        Standard deviation of the displacement of the nodes, in model pixels.
    margin_px
        How far beyond the crop the warp is defined, in model pixels.
    around
        A place in the image (y, x) that the crop is to show in its middle half, or as near
        to it as the image's border permits; anywhere if not given.
    """
    magnification = math.exp(rng.uniform(math.log(scale[0]), math.log(scale[1])))
    step = px_per_model_px / magnification
    angle = rng.integers(4) * math.pi / 2
    if rng.random() < 0.5:
        angle += rng.uniform(-math.pi / 4, math.pi / 4)
    flip = -1.0 if rng.random() < 0.5 else 1.0
    cosine, sine = math.cos(angle), math.sin(angle)
    matrix = step * np.array([[cosine, -sine * flip], [sine, cosine * flip]])
    half = step * crop_px / 2
    wanted = (None, None) if around is None else around
    centre = (_centre(rng, shape[0], half, wanted[0]), _centre(rng, shape[1], half, wanted[1]))
    nodes = rng.normal(0, elastic_px * step, (2, 9, 9))
    return Warp(matrix, centre, nodes, reach=crop_px / 2 + margin_px)


def _centre(rng: np.random.Generator, side: int, half: float, wanted: float | None) -> float:
    """Draw the centre of a crop along one axis of an image."""
    if side <= 2 * half:
        return side / 2 + rng.normal(0, half / 16)
    low, high = half, side - half
    if wanted is not None:
        low, high = np.clip([wanted - half / 2, wanted + half / 2], low, high)
    return float(rng.uniform(low, high))


@kernel
def _mirror(position: np.float32, size: int) -> np.float32:
    """Reflect a position between pixel centres back into the image."""
    last = np.float32(size - 1)
    position = abs(position)
    if position <= last:
        return position
    if last == 0:
        return np.float32(0)
    position = position % (2 * last)
    return 2 * last - position if position > last else position


@kernel
def _sample_area(
    image: npt.NDArray[np.uint8], ys: Float32, xs: Float32, factor: int, out: Float32
) -> None:
    """Average ``factor``² bilinear samples per output pixel; mirror beyond the border.

    Within an output pixel the map is taken as affine. The image has shape (height, width, 3), the
    output (side, side, 3), and ys and xs, which give the corners of its pixels in the image,
    (side + 1, side + 1).
    """
    height, width = image.shape[:2]
    one, half = np.float32(1), np.float32(0.5)
    share = np.float32(1 / (factor * factor))
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            y0, x0 = ys[i, j] - half, xs[i, j] - half
            y_down, x_down = ys[i + 1, j] - ys[i, j], xs[i + 1, j] - xs[i, j]
            y_right, x_right = ys[i, j + 1] - ys[i, j], xs[i, j + 1] - xs[i, j]
            red = green = blue = np.float32(0)
            for a in range(factor):
                v = (np.float32(a) + half) / np.float32(factor)
                for b in range(factor):
                    u = (np.float32(b) + half) / np.float32(factor)
                    y = _mirror(y0 + v * y_down + u * y_right, height)
                    x = _mirror(x0 + v * x_down + u * x_right, width)
                    row, column = np.int32(y), np.int32(x)
                    below = min(row + 1, height - 1)
                    right = min(column + 1, width - 1)
                    fy, fx = y - np.float32(row), x - np.float32(column)
                    w00, w01 = (one - fy) * (one - fx), (one - fy) * fx
                    w10, w11 = fy * (one - fx), fy * fx
                    p00, p01 = image[row, column], image[row, right]
                    p10, p11 = image[below, column], image[below, right]
                    red += w00 * p00[0] + w01 * p01[0] + w10 * p10[0] + w11 * p11[0]
                    green += w00 * p00[1] + w01 * p01[1] + w10 * p10[1] + w11 * p11[1]
                    blue += w00 * p00[2] + w01 * p01[2] + w10 * p10[2] + w11 * p11[2]
            out[i, j, 0], out[i, j, 1], out[i, j, 2] = share * red, share * green, share * blue


@kernel
def _sample_labels(
    labels: npt.NDArray[np.uint16],
    ys: Float32,
    xs: Float32,
    finer: int,
    out: npt.NDArray[np.uint16],
) -> None:
    """Take the nearest of the labels (height, width), ``finer``² per output pixel.

    The output has shape (side * finer, side * finer), ys and xs (side + 1, side + 1).
    """
    height, width = labels.shape
    half = np.float32(0.5)
    for i in range(ys.shape[0] - 1):
        for j in range(ys.shape[1] - 1):
            y0, x0 = ys[i, j], xs[i, j]
            y_down, x_down = ys[i + 1, j] - y0, xs[i + 1, j] - x0
            y_right, x_right = ys[i, j + 1] - y0, xs[i, j + 1] - x0
            for a in range(finer):
                v = (np.float32(a) + half) / np.float32(finer)
                for b in range(finer):
                    u = (np.float32(b) + half) / np.float32(finer)
                    y = y0 + v * y_down + u * y_right
                    x = x0 + v * x_down + u * x_right
                    if y >= 0 and x >= 0 and y < height and x < width:
                        out[i * finer + a, j * finer + b] = labels[np.int32(y), np.int32(x)]


def warp_image(image: npt.NDArray[np.uint8], warp: Warp, crop_px: int) -> Float32:
    """Return the crop of an image, float32 (crop_px, crop_px, 3) in [0, 255]."""
    # Bilinear samples up to 1.5 image pixels apart still cover every pixel.
    factor = max(1, math.ceil(warp.step / 1.5))
    ys, xs = warp.corners(crop_px)
    out = np.zeros((crop_px, crop_px, image.shape[2]), np.float32)
    _sample_area(image, ys, xs, factor, out)
    return out


def warp_labels(
    labels: npt.NDArray[np.uint16], warp: Warp, crop_px: int, *, margin_px: int, finer: int
) -> npt.NDArray[np.uint16]:
    """Return the labels of a crop and ``margin_px`` model pixels around it.

    There are ``finer`` label pixels to the model pixel; what lies outside of the image is
    ``UNKNOWN``.
    """
    ys, xs = warp.corners(crop_px + 2 * margin_px)
    side = (crop_px + 2 * margin_px) * finer
    out = np.full((side, side), UNKNOWN, np.uint16)
    _sample_labels(labels, ys, xs, finer, out)
    return out


def warp_map(
    values: npt.NDArray[np.uint8],
    warp: Warp,
    crop_px: int,
    *,
    grid_px: int,
    shape: tuple[int, int],
) -> Float32:
    """Return the values at a crop's grid points, between 0 and 255.

    Parameters
    ----------
    values
        Values of any size (h', w'), over an image of ``shape``.
    grid_px
        Model pixels per grid point.

    Returns
    -------
    numpy.ndarray
        (crop_px / grid_px,) * 2, NaN outside of the image.
    """
    ys, xs = warp.corners(crop_px)
    if grid_px % 2:
        ys, xs = (
            (at[:-1, :-1] + at[1:, :-1] + at[:-1, 1:] + at[1:, 1:]) / np.float32(4)
            for at in (ys, xs)
        )
    first = grid_px // 2
    side = crop_px // grid_px
    y, x = (at[first::grid_px, first::grid_px][:side, :side] for at in (ys, xs))
    outside = (y < 0) | (x < 0) | (y >= shape[0]) | (x >= shape[1])
    places = [
        at * np.float32(size / whole) - np.float32(0.5)
        for at, size, whole in zip((y, x), values.shape, shape, strict=True)
    ]
    sampled = map_coordinates(values, places, np.float32, order=1, mode="nearest")
    sampled[outside] = np.nan
    return np.asarray(sampled, np.float32)
