"""Plain images (PNG, JPEG, TIFF without tiles) as one-level slides."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image, UnidentifiedImageError

from wsi_engine.closing import Closing
from wsi_engine.errors import SlideError
from wsi_engine.slide.frames import Level0Box, LevelBox, Mpp
from wsi_engine.slide.protocol import RGB, Level, SlideInfo
from wsi_engine.slide.tiff_resolution import mpp_of_tiff

LARGEST_PLAIN_IMAGE_PX = 175_000_000
"""A plain image is held in memory whole (3 bytes a pixel); larger ones belong in a pyramid.
Pillow refuses more than 179 million pixels whatever this says."""


class PlainImage(Closing):
    """An image without pyramid, held in memory; a TIFF may state its pixel size.

    Raises
    ------
    SlideError
        When Pillow cannot read the file, or the image is too large to be held.
    """

    def __init__(self, path: Path) -> None:
        self._pixels = _load(path)
        height, width = self._pixels.shape[:2]
        mpp, mpp_source = _mpp_of(path)
        self._info = SlideInfo(
            path=path,
            vendor="plain image",
            levels=(Level(0, width, height, 1.0),),
            bounds=Level0Box(0, 0, width, height),
            mpp=mpp,
            mpp_source=mpp_source,
            objective_power=None,
            focal_planes=1,
            associated_images=(),
        )

    @property
    def info(self) -> SlideInfo:
        """What is known of the image."""
        return self._info

    def read(self, level: int, box: LevelBox) -> RGB:
        """Read a box; outside the image is white."""
        height, width = self._pixels.shape[:2]
        region = np.full((box.height, box.width, 3), 255, np.uint8)
        left, right = max(box.x, 0), min(box.x + box.width, width)
        top, bottom = max(box.y, 0), min(box.y + box.height, height)
        if left < right and top < bottom:
            region[top - box.y : bottom - box.y, left - box.x : right - box.x] = self._pixels[
                top:bottom, left:right
            ]
        return region

    def close(self) -> None:
        """Do nothing: there is no handle."""


def _mpp_of(path: Path) -> tuple[Mpp | None, str]:
    """Return the pixel size that a TIFF without tiles states; other images have none."""
    try:
        with tifffile.TiffFile(path) as tiff:
            return mpp_of_tiff(tiff)
    # Pillow has read the file; of what it states nobody has made certain.
    except Exception:
        return None, "a plain image states none"


def _load(path: Path) -> RGB:
    try:
        with warnings.catch_warnings():
            # Of images half as large as it refuses, and of damage, which raises soon enough.
            warnings.simplefilter("ignore")
            opened = Image.open(path)
        with opened as image:
            if image.width * image.height > LARGEST_PLAIN_IMAGE_PX:
                raise _too_large(path)
            if image.mode.startswith(("I", "F")):
                # Pillow would cut such values off at 255: white without a word.
                raise SlideError(
                    f"{path.name} is a grey image of more than 8 bits per pixel (Pillow's mode "
                    f"{image.mode}): convert it to 8-bit RGB"
                )
            if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
                rgba = image.convert("RGBA")
                white = Image.new("RGBA", rgba.size, "white")
                return np.asarray(Image.alpha_composite(white, rgba).convert("RGB"))
            return np.asarray(image.convert("RGB"))
    except UnidentifiedImageError:
        raise SlideError(
            f"{path.name} is not a slide: neither OpenSlide nor Pillow knows its format"
        ) from None
    except Image.DecompressionBombError:
        raise _too_large(path) from None
    except (OSError, SyntaxError, ValueError) as error:
        raise SlideError(f"{path.name} is damaged: {error}") from None


def _too_large(path: Path) -> SlideError:
    return SlideError(
        f"{path.name} is a plain image of more than {LARGEST_PLAIN_IMAGE_PX / 1e6:g} million "
        "pixels, too large to be held in memory: convert it to a pyramidal TIFF"
    )
