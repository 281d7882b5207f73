"""What is no nucleus, drawn into training crops.

Sets of annotated nuclei are chosen for their nuclei: they hold next to no blood, pigment, ink
or keratin, and a network that never saw them takes them for nuclei. Everything is drawn in
optical density, before stain and exposure are perturbed, so it takes part in that.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from wsi_engine.training import debris, red_cells
from wsi_engine.training.config import AugmentConfig
from wsi_engine.training.scene import Float32, Scene

_CHANGED = 0.1
"""What differs by this in optical density is no longer what a teacher saw."""


_DRAWINGS: dict[str, tuple[float, Callable[[Scene, Float32, np.random.Generator], Float32]]] = {
    "red cells": (2.5, red_cells.singles),
    "rouleaux": (1.0, red_cells.stacks),
    "clot": (2.5, red_cells.clot),
    "smear": (2.0, red_cells.smear),
    "pigment": (1.0, debris.grains),
    "ink": (0.8, debris.ink),
    "fold": (0.7, debris.fold),
    "mucin": (1.3, debris.mucin),
    "keratin": (1.2, debris.keratin),
}
"""How often each kind is drawn, relative to the others, and what draws it."""

KINDS = tuple(_DRAWINGS)
"""Names of the things that can be drawn."""


def draw_negatives(scene: Scene, rng: np.random.Generator, config: AugmentConfig) -> None:
    """Draw things that are no nuclei into a share of the crops."""
    if config.negatives <= 0 or rng.random() >= config.negatives:
        return
    names = list(_DRAWINGS)
    weights = np.array([_DRAWINGS[name][0] for name in names])
    name = names[rng.choice(len(names), p=weights / weights.sum())]
    draw(name, scene, rng)


def draw(name: str, scene: Scene, rng: np.random.Generator) -> None:
    """Draw one kind of thing; see `KINDS`."""
    density = -np.log((np.clip(scene.image, 0, 255) + 1) / 256)
    before = density.copy()
    density = _DRAWINGS[name][1](scene, density, rng)
    scene.change(np.abs(density - before).max(axis=2) > _CHANGED)
    scene.image = np.asarray(256 * np.exp(-np.clip(density, 0, 5.5)) - 1, np.float32)
