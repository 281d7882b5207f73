"""The slide of a result, if it can still be opened."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wsi_engine.errors import ResultError, SlideError
from wsi_engine.results.finished import SlideResult
from wsi_engine.slide.fingerprint import fingerprint
from wsi_engine.slide.opening import open_slide
from wsi_engine.slide.protocol import Slide


@contextmanager
def slide_at_hand(result: SlideResult, named: Path | None) -> Iterator[Slide | None]:
    """Open the slide of a result: where the user says, else where the run found it.

    Parameters
    ----------
    result
        The result.
    named
        Path of the slide, if it has moved since the run.

    Yields
    ------
    Slide or None
        ``None`` where no path was named and the slide is not where it was, or another.

    Raises
    ------
    SlideError
        When the slide that was named cannot be opened.
    ResultError
        When it is not that of the result.
    """
    path = named or Path(result.record.slide_path)
    if named is None and not path.exists():
        yield None
        return
    try:
        opened = open_slide(path)
    except SlideError:
        if named is not None:
            raise
        yield None
        return
    with opened:
        if fingerprint(path) != result.record.slide.fingerprint:
            if named is not None:
                raise ResultError(
                    f"{path.name} is not the slide of {result.folder}: give the one that was run"
                )
            yield None
        else:
            yield opened
