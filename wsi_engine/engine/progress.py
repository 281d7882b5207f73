"""What the observer of a run gets to know."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from wsi_engine.nuclei.nuclei import Nuclei
from wsi_engine.schedule.clock import StageClock
from wsi_engine.schedule.tiles import Tile


@dataclass(frozen=True, slots=True)
class Progress:
    """A snapshot of a run.

    Attributes
    ----------
    slide
        File name of the slide.
    stage
        ``tissue``, ``regions``, ``calibration``, ``compiling``, ``nuclei``, ``measuring`` or
        ``writing``.
    tiles, tiles_total
        Numbers of finished tiles and of all; the total is 0 until it is known.
    megapixels
        Core pixels of the tiles computed so far, at the model's resolution, in millions.
    nuclei
        Number of nuclei found so far.
    busy
        Share of ``seconds`` in which the model was at work.
    seconds
        Time since the first tile was begun.

    Examples
    --------
    >>> import wsi_engine as we
    >>> seen = []
    >>> result = we.run("slide.tif", model="watershed", observe=seen.append)
    >>> list(dict.fromkeys(progress.stage for progress in seen))
    ['tissue', 'calibration', 'nuclei', 'writing']
    >>> seen[-1].nuclei == result.count
    True
    """

    slide: str
    stage: str
    tiles: int = 0
    tiles_total: int = 0
    megapixels: float = 0.0
    nuclei: int = 0
    busy: float = 0.0
    seconds: float = 0.0


Observer = Callable[[Progress], None]


def ignore(progress: Progress) -> None:
    """Observe nothing."""
    del progress


class Tracker:
    """Follows the tiles of one slide and calls an observer after each."""

    def __init__(
        self, slide: str, tiles_total: int, finished: int, clock: StageClock, observe: Observer
    ) -> None:
        self.state = Progress(slide, "nuclei", finished, tiles_total)
        self._clock = clock
        self._observe = observe
        self._started = time.perf_counter()
        observe(self.state)

    def follow(self, tiles: Iterable[tuple[Tile, Nuclei]]) -> Iterator[tuple[Tile, Nuclei]]:
        """Pass computed tiles on, counting them and the nuclei that they own."""
        for tile, nuclei in tiles:
            state, core = self.state, tile.core
            seconds = time.perf_counter() - self._started
            self.state = replace(
                state,
                tiles=state.tiles + 1,
                megapixels=state.megapixels + core.width * core.height / 1e6,
                nuclei=state.nuclei + int(nuclei.owned.sum()),
                busy=self._clock.model_occupied / seconds,
                seconds=seconds,
            )
            self._observe(self.state)
            yield tile, nuclei

    def finish(self, nuclei: int) -> None:
        """Report that the last tile is through, and how many nuclei are left after the seams."""
        seconds = time.perf_counter() - self._started
        self.state = replace(self.state, stage="writing", nuclei=nuclei, seconds=seconds)
        self._observe(self.state)
