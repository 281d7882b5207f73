"""A finished slide to look at: served until somebody ends it, or written as static files."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wsi_engine.errors import OutputError
from wsi_engine.results.finished import SlideResult
from wsi_engine.results.slide_at_hand import slide_at_hand
from wsi_engine.view.content import ViewContent
from wsi_engine.view.server import ViewServer
from wsi_engine.writing import clear_write_errors

log = logging.getLogger(__name__)

MOST_SLIDE_TILES = 5_000
"""An export has the finest resolution of the slide that takes no more tiles: some 250 MB."""


@contextmanager
def served(folder: Path, slide: Path | None = None) -> Iterator[ViewServer]:
    """Give a server of a result that is bound to its port; whoever has it calls `serve_forever`.

    Parameters
    ----------
    folder
        ``OUT/<slide>``, as `run` or `measure` wrote it.
    slide
        Path of the slide, if it has moved since the run.

    Raises
    ------
    ResultError
        When the folder is no finished result, or the slide is not that of the result.
    SlideError
        When the slide that was named cannot be opened.
    """
    with _content(folder, slide) as content, ViewServer(content) as server:
        yield server


def export_view(folder: Path, target: Path, slide: Path | None = None) -> int:
    """Write a view as static files, which any web server can give to anybody.

    Parameters
    ----------
    folder
        ``OUT/<slide>``, as `run` or `measure` wrote it.
    target
        Folder that is not there yet; it appears whole or not at all.
    slide
        Path of the slide, if it has moved since the run.

    Returns
    -------
    int
        Number of files.

    Raises
    ------
    ResultError
        When the folder is no finished result, or the slide is not that of the result.
    SlideError
        When the slide that was named cannot be opened.
    OutputError
        When the target is there already, or cannot be written.
    """
    if target.exists():
        raise OutputError(f"{target} is there already: remove it, or give another folder")
    count = 0
    with (
        _content(folder, slide, MOST_SLIDE_TILES) as content,
        clear_write_errors(target),
        tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as scratch,
    ):
        growing = Path(scratch) / target.name
        for name in content.names():
            path = growing / name
            path.parent.mkdir(parents=True, exist_ok=True)
            file = content.get(name)
            assert file is not None, name
            path.write_bytes(file)
            count += 1
        growing.replace(target)
    return count


@contextmanager
def _content(
    folder: Path, slide: Path | None, most_slide_tiles: int | None = None
) -> Iterator[ViewContent]:
    result = SlideResult(folder)
    with result.table, slide_at_hand(result, slide) as opened:
        if opened is None:
            log.warning(
                "%s: the slide is not at hand, so that nuclei are shown without it: give --slide",
                result.name,
            )
        yield ViewContent(result, opened, most_slide_tiles)
