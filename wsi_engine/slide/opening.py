"""Opening a slide with the library that fits."""

from __future__ import annotations

from pathlib import Path

import openslide

from wsi_engine.errors import SlideError
from wsi_engine.slide.openslide_slide import OpenSlideSlide
from wsi_engine.slide.plain_image import PlainImage
from wsi_engine.slide.protocol import Slide

PLAIN_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"})
SLIDE_SUFFIXES = frozenset(
    {".svs", ".tif", ".tiff", ".ndpi", ".vms", ".vmu", ".scn", ".mrxs", ".svslide", ".bif", ".dcm"}
    | {".czi"}
)
"""Files that a folder is searched for, besides plain images."""


def open_slide(path: str | Path) -> Slide:
    """Open a whole slide image, or a plain image as a slide of one level.

    Parameters
    ----------
    path
        Any file that OpenSlide reads; else PNG, JPEG, BMP or plain TIFF.

    Returns
    -------
    Slide
        The open slide, a context; its ``info`` has size, levels and pixel size.

    Raises
    ------
    SlideError
        When there is no such file, or neither OpenSlide nor Pillow can read it.

    Examples
    --------
    >>> import wsi_engine as we
    >>> with we.open_slide("slide.tif") as slide:
    ...     print(len(slide.info.levels), slide.info.mpp)
    5 Mpp(x=0.25, y=0.25)
    """
    path = Path(path)
    if not path.exists():
        raise SlideError(f"{path}: no such file")
    if not path.is_file():
        raise SlideError(f"{path} is not a file")
    try:
        known_to_openslide = openslide.OpenSlide.detect_format(path) is not None
    except openslide.OpenSlideError:
        known_to_openslide = False
    if not known_to_openslide and path.suffix.lower() in PLAIN_SUFFIXES:
        return PlainImage(path)
    return OpenSlideSlide(path)
