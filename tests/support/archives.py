"""Small slides and settings for tests of many slides; nothing here needs more than a moment."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tifffile

from tests.support.slides import EOSIN, NUCLEUS, ellipse, glass
from wsi_engine.archive.events import Event

SETTINGS = {
    "model": "watershed",
    "tissue": False,
    "tile_size": 256,
    "device": "cpu",
    "measure": ("shape",),
    "regions": False,
    "report": False,
}
"""Fast, and without a search for tissue: the slides have nothing else."""

OPTIONS = ["--model", "watershed", "--no-tissue", "--tile-size", "256", "--device", "cpu"]
OPTIONS += ["--no-regions", "--no-report"]
"""The same for the command line."""


def write_slide(path: Path, seed: int = 0, side: int = 256, nuclei: int = 12) -> Path:
    """Write a slide of some nuclei on stroma, at 0.25 µm."""
    image = glass(side, side, seed)
    image[16:-16, 16:-16] = EOSIN
    for x, y in np.random.default_rng(seed).uniform(32, side - 32, (nuclei, 2)):
        left, top = int(x) - 16, int(y) - 16
        patch = image[top : top + 32, left : left + 32]
        patch[ellipse(patch, (x - left, y - top), (9, 7))] = NUCLEUS
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(
        path,
        image,
        tile=(64, 64),
        photometric="rgb",
        compression="adobe_deflate",
        resolution=(10_000 / 0.25,) * 2,
        resolutionunit="CENTIMETER",
    )
    return path


def write_slides(folder: Path, count: int) -> list[Path]:
    """Write slides of different seeds."""
    return [write_slide(folder / f"slide_{k:03d}.tif", k) for k in range(count)]


@dataclass
class Heard:
    """A listener that remembers."""

    events: list[Event] = field(default_factory=list)

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    def of(self, name: str) -> list[Event]:
        return [event for event in self.events if event.event == name]

    def computed(self) -> list[str]:
        """Names of slides, one for each time that one was computed to its end."""
        return [event.slide for event in self.of("slide_done") if event.facts["computed"]]


def logged(paths: Iterable[Path]) -> list[dict]:
    """Read JSON logs."""
    return [json.loads(line) for path in paths for line in path.read_text("ascii").splitlines()]


def results(output: Path) -> dict[str, bytes]:
    """Read the nuclei of all slides, by name."""
    return {
        path.parent.name: path.read_bytes() for path in sorted(output.glob("*/nuclei.geojson.gz"))
    }
