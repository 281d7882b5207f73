"""Discs on a plain ground as training data, and a run on them that takes a second."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from wsi_engine.training.config import TrainConfig


def draw_field(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw eight violet discs on pink ground, and their labels."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:96, :96] + 0.5
    labels = np.zeros((96, 96), np.uint16)
    for k in range(1, 9):
        y, x = rng.uniform(5, 91, 2)
        labels[np.hypot(rows - y, columns - x) < rng.uniform(6, 11)] = k
    image = np.where((labels > 0)[..., None], (90, 60, 140), (225, 170, 205))
    return np.clip(image + rng.normal(0, 8, image.shape), 0, 255).astype(np.uint8), labels


def write_fields(folder: Path) -> Path:
    """Write a field of each of two patients, a and b, into a folder as `config_of` takes them."""
    for kind in ("images", "labels"):
        (folder / kind).mkdir()
    for patient in "ab":
        image, labels = draw_field(ord(patient))
        Image.fromarray(image).save(folder / "images" / f"{patient}_0.png")
        np.save(folder / "labels" / f"{patient}_0.npy", labels)
    return folder


def config_of(folder: Path, **changes: object) -> TrainConfig:
    """Configure a short run of a small network on the discs in a folder."""
    document = {
        "output": folder / "run",
        "data": [
            {
                "name": "discs",
                "images": folder / "images",
                "labels": folder / "labels",
                "mpp": 0.25,
                "split": {"group": "^(.)_", "validation": ["b"]},
            }
        ],
        "network": {"channels": [4, 4, 8], "features": 4, "rays": 8},
        "steps": 6,
        "batch": 2,
        "crop_px": 32,
        "precision": "fp32",
        "warmup_steps": 2,
        "decay_steps": 2,
        "validate_every": 3,
        "checkpoint_every": 2,
        "log_every": 1,
    }
    return TrainConfig.model_validate({**document, **changes})
