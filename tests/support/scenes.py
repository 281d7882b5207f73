"""A training crop of discs, before anything is put into it."""

from __future__ import annotations

import numpy as np

from wsi_engine.evaluation.images import UNKNOWN
from wsi_engine.models.label_rays import boundary_peaks
from wsi_engine.training.scene import Scene

SIDE, MARGIN = 128, 16


def scene_of(mpp: float = 0.5, finer: int = 2, seed: int = 0) -> Scene:
    """Violet discs on pink ground, the left edge unknown."""
    rng = np.random.default_rng(seed)
    side = (SIDE + 2 * MARGIN) * finer
    rows, columns = np.mgrid[:side, :side] + 0.5
    labels = np.zeros((side, side), np.uint16)
    for k in range(1, 30):
        y, x = rng.uniform(0, side, 2)
        labels[np.hypot(rows - y, columns - x) < rng.uniform(3, 8) / 2 / mpp * finer] = k
    labels[:, : (MARGIN + 4) * finer] = UNKNOWN
    peaks = boundary_peaks(labels) / np.float32(finer)
    scene = Scene(
        np.zeros((SIDE, SIDE, 3), np.float32), labels, peaks, np.zeros(len(peaks), np.int16),
        mpp=mpp, margin_px=MARGIN, finer=finer, taught=np.full((SIDE // 2,) * 2, 0.5, np.float32),
    )  # fmt: skip
    ground, violet = np.array([[225, 170, 205], [90, 60, 140]], np.float32)
    scene.image = ground + scene.nuclei()[..., None] * (violet - ground)
    return scene
