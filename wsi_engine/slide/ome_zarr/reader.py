"""Which folders and files are slides in OME-Zarr, told without Zarr itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from wsi_engine.errors import SlideError
from wsi_engine.installing import install_command
from wsi_engine.slide.ome_zarr.files import Files, FolderFiles
from wsi_engine.slide.ome_zarr.metadata import holds_image, ome_attributes

if TYPE_CHECKING:
    from wsi_engine.slide.protocol import Slide

ZIP_SUFFIXES = (".zarr.zip", ".ozx")


def is_ome_zarr(path: Path) -> bool:
    """Tell whether a path is a slide in OME-Zarr, or claims to be one and is damaged."""
    if path.is_dir():
        return has_image(FolderFiles(path))
    return path.name.lower().endswith(ZIP_SUFFIXES)


def has_image(files: Files) -> bool:
    """Tell whether there is an image of a slide at the top of a hierarchy; label images are none.

    Where the metadata are there and cannot be understood, whoever opens it says why.
    """
    try:
        attributes = ome_attributes(files, "")
    except (ValueError, OSError):
        return True
    return attributes is not None and holds_image(attributes)


def open_ome_zarr(path: Path) -> Slide:
    """Open a slide in OME-Zarr.

    Raises
    ------
    SlideError
        When it cannot be read, or Zarr is not installed.
    """
    try:
        from wsi_engine.slide.ome_zarr.ome_zarr_slide import OmeZarrSlide
    except ImportError as error:
        if error.name is None or error.name.partition(".")[0] not in ("zarr", "numcodecs"):
            raise
        raise SlideError(
            f"{path.name} is OME-Zarr, and zarr cannot be imported ({error}): "
            f"{install_command('ome-zarr')}"
        ) from None
    return OmeZarrSlide(path)
