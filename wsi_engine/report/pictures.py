"""Pixels of the slide for a page: an overview and small fields, each as a data URI.

Only the pyramid is read. Label and macro images, which may show names, are never touched.
"""

from __future__ import annotations

import base64
import io
import math

import numpy as np
import numpy.typing as npt
from PIL import Image

from wsi_engine.slide.frames import ModelBox
from wsi_engine.slide.grid_reader import GridReader, make_grid
from wsi_engine.slide.protocol import RGB, Slide, SlideInfo

JPEG_QUALITY = 85

FIELD_UM = 32.0
FINEST_FIELD_MPP = 0.2


class FieldReader:
    """Reads small square fields around nuclei.

    Parameters
    ----------
    slide
        Slide to read from.
    info
        Facts of the slide, with a pixel size.
    """

    def __init__(self, slide: Slide, info: SlideInfo) -> None:
        assert info.mpp is not None
        self._reader = GridReader(slide, make_grid(info, max(info.mpp.mean, FINEST_FIELD_MPP)))
        self.grid = self._reader.grid
        self.side_px = math.ceil(FIELD_UM / self.grid.mpp)

    def read(self, centre: npt.NDArray[np.float64]) -> tuple[RGB, npt.NDArray[np.float64]]:
        """Read the field around a place in QuPath pixels, shape (2,).

        Returns
        -------
        pixels, corner
            Shape (side, side, 3); the upper left corner in pixels of ``grid``, shape (2,).
        """
        corner = np.rint(self.grid.from_qupath(centre) - self.side_px / 2)
        box = ModelBox(int(corner[0]), int(corner[1]), self.side_px, self.side_px)
        return self._reader.read(box), corner


def jpeg(pixels: RGB) -> bytes:
    """Compress an image that the eye looks at."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "jpeg", quality=JPEG_QUALITY)
    return stream.getvalue()


def png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Compress an image of few colours, shape (height, width, 3 or 4)."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "png")
    return stream.getvalue()


def data_uri(content: bytes) -> str:
    """Return a JPEG or PNG as a data URI."""
    kind = "png" if content.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
