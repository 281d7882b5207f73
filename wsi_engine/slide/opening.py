"""Opening a slide with the reader that takes it."""

from __future__ import annotations

from pathlib import Path

from wsi_engine.errors import EngineError, SlideError
from wsi_engine.slide.protocol import Slide
from wsi_engine.slide.readers import OPENSLIDE, find_reader


def open_slide(path: str | Path) -> Slide:
    """Open a whole slide image, or a plain image as a slide of one level.

    Parameters
    ----------
    path
        Any file that OpenSlide reads; a file or folder that a reader of another package takes
        (entry points ``wsi_engine.readers``); else PNG, JPEG, BMP or plain TIFF.

    Returns
    -------
    Slide
        Open; a context manager.

    Returns
    -------
    Slide
        The open slide, a context; its ``info`` has size, levels and pixel size.

    Raises
    ------
    SlideError
        When there is nothing of that name, or no reader can open it.

    Examples
    --------
    >>> import wsi_engine as we
    >>> with we.open_slide("slide.tif") as slide:
    ...     print(len(slide.info.levels), slide.info.mpp)
    4 Mpp(x=0.25, y=0.25)
    """
    path = Path(path)
    if not path.exists():
        raise SlideError(f"{path}: no such file")
    reader = find_reader(path)
    if reader is None and not path.is_file():
        raise SlideError(f"{path} is not a file, nor a folder that a reader takes for a slide")
    try:
        # Nobody says better than OpenSlide why a file is none.
        return (reader or OPENSLIDE).open(path)
    except EngineError:
        raise
    # A reader of another package raises what it likes.
    except Exception as error:
        name = (reader or OPENSLIDE).name
        raise SlideError(
            f"{path.name} cannot be opened by the reader {name!r} ({type(error).__name__}: {error})"
        ) from error
