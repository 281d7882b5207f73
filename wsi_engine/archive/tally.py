"""How far an archive is, counted from its events: slides, speed, what each worker does."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from wsi_engine.archive.events import Event


@dataclass(slots=True)
class UnderWay:
    """A slide that a worker is at; tiles as in `engine.progress.Progress`."""

    slide: str
    stage: str = ""
    tiles: int = 0
    tiles_total: int = 0
    nuclei: int = 0
    tiles_at_start: int | None = None

    @property
    def share(self) -> float:
        """Part of the tiles that are finished."""
        return self.tiles / self.tiles_total if self.tiles_total else 0.0

    @property
    def computed(self) -> int:
        """Tiles that were computed now, and not in an earlier run."""
        return self.tiles - (self.tiles_at_start or 0)


@dataclass
class Tally:
    """A listener that counts.

    Attributes
    ----------
    slides, done, failed, claimed_by_another
        Numbers of slides.
    workers
        What each worker does; ``None`` for nothing.
    """

    slides: int = 0
    done: int = 0
    failed: int = 0
    claimed_by_another: int = 0
    workers: dict[str, UnderWay | None] = field(default_factory=dict)
    _ended: int = 0
    _tiles: int = 0
    _started: float | None = None

    def __call__(self, event: Event) -> None:
        """Take in an event."""
        facts, worker = event.facts, event.worker
        if event.event == "archive_started":
            self.slides, self.done, self.failed = facts["slides"], facts["done"], facts["failed"]
        elif event.event == "slide_started" and worker is not None:
            self._started = self._started or time.monotonic()
            self.workers[worker] = UnderWay(event.slide or "")
        elif event.event == "slide_progress" and worker is not None:
            self._follow(worker, event)
        elif event.event in ("slide_done", "slide_failed", "slide_elsewhere", "worker_died"):
            self._end(event)
        elif event.event == "worker_joined" and worker is not None:
            self.workers.setdefault(worker, None)

    @property
    def running(self) -> int:
        """Slides that workers are at."""
        return sum(slide is not None for slide in self.workers.values())

    @property
    def left(self) -> int:
        """Slides that nobody has begun."""
        return self.slides - self.done - self.failed - self.claimed_by_another - self.running

    @property
    def seconds(self) -> float:
        """Time since the first slide was begun."""
        return time.monotonic() - self._started if self._started is not None else 0.0

    @property
    def tiles_per_second(self) -> float:
        """Tiles that were computed in that time."""
        under_way = sum(slide.computed for slide in self.workers.values() if slide is not None)
        return (self._tiles + under_way) / self.seconds if self.seconds else 0.0

    @property
    def eta_s(self) -> float | None:
        """Seconds until all slides are through, if they are like those before."""
        shares = sum(slide.share for slide in self.workers.values() if slide is not None)
        through = self._ended + shares
        if not through:
            return None
        return self.seconds / through * (self.left + self.running - shares)

    def _follow(self, worker: str, event: Event) -> None:
        facts = event.facts
        slide = self.workers.get(worker)
        if slide is None or slide.slide != event.slide:
            slide = self.workers[worker] = UnderWay(event.slide or "")
        slide.stage, slide.nuclei = facts["stage"], facts["nuclei"]
        if slide.stage == "nuclei" and slide.tiles_at_start is None:
            slide.tiles_at_start = facts["tiles"]
        slide.tiles, slide.tiles_total = facts["tiles"], facts["tiles_total"]

    def _end(self, event: Event) -> None:
        worker = event.worker or ""
        slide = self.workers.get(worker)
        if slide is not None:
            self._tiles += slide.computed
        if event.event == "worker_died":
            self.workers.pop(worker, None)  # the one in its place joins anew
            return
        if worker in self.workers:
            self.workers[worker] = None
        if event.event == "slide_elsewhere":
            self.claimed_by_another += 1
            return
        self.claimed_by_another -= bool(event.facts["was_elsewhere"])
        self._ended += 1
        if event.event == "slide_done":
            self.done += 1
        else:
            self.failed += 1
