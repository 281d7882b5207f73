"""Batches as a pure function of seed and step, so that a resumed run sees what it would have."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from wsi_engine.models.learning import LabelledCrop, Tensors
from wsi_engine.training.augment import augment
from wsi_engine.training.config import TrainConfig
from wsi_engine.training.crowding import crowd
from wsi_engine.training.grounds import log_uniform
from wsi_engine.training.mosaic import mosaic
from wsi_engine.training.negatives import draw_negatives
from wsi_engine.training.sampling import Sampler, Spot
from wsi_engine.training.scene import Scene
from wsi_engine.training.warp import random_warp, warp_image, warp_labels, warp_map

# Labels reach this far beyond the crop, so that nuclei at its border have their whole shape.
_MARGIN_UM = 12.0
# Labels are as fine as this, whatever the pixels of the network.
_LABEL_UM = 0.25


@dataclass(frozen=True, slots=True)
class Batch:
    """One training step's crops and targets.

    Attributes
    ----------
    images
        uint8 (n, h, w, 3).
    targets
        What the network should answer, by name; the method's own.
    """

    images: torch.Tensor
    targets: Tensors

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        targets = {name: target.to(device) for name, target in self.targets.items()}
        return Batch(self.images.to(device), targets)


def draw_scene(spot: Spot, config: TrainConfig, rng: np.random.Generator) -> Scene:
    """Draw a crop of a field, with nuclei and other things put into it."""
    field, scale, learner = spot.field, config.augment.scale, config.learner
    grid, mpp = learner.grid_px, learner.mpp
    margin, finer = grid * round(_MARGIN_UM / mpp / grid), max(1, round(mpp / _LABEL_UM))
    if config.augment.mosaic:
        scale = (log_uniform(rng, *scale),) * 2
        if config.crop_px * mpp / scale[0] > min(field.labels.shape) * field.mpp:
            field = mosaic(field, spot.source.fields, rng)
    warp = random_warp(
        rng,
        field.labels.shape,
        px_per_model_px=mpp / field.mpp,
        scale=scale,
        elastic_px=config.augment.elastic_um / mpp,
        crop_px=config.crop_px,
        margin_px=margin + 8,
        around=spot.around,
    )
    scene = Scene(
        warp_image(field.image, warp, config.crop_px),
        warp_labels(field.labels, warp, config.crop_px, margin_px=margin, finer=finer),
        field.peaks / np.float32(warp.step),
        field.classes,
        mpp=mpp,
        margin_px=margin,
        finer=finer,
    )
    if field.taught is not None:
        scene.taught = warp_map(
            field.taught, warp, config.crop_px, grid_px=grid, shape=field.labels.shape
        ) / np.float32(255)
    crowd(scene, rng, config.augment)
    draw_negatives(scene, rng, config.augment)
    return scene


def draw_crop(
    spot: Spot, config: TrainConfig, rng: np.random.Generator
) -> tuple[npt.NDArray[np.uint8], LabelledCrop]:
    """Draw one augmented crop of a field, uint8 (h, w, 3), and what is known of it."""
    scene = draw_scene(spot, config, rng)
    data = spot.source.data
    crop = LabelledCrop(
        scene.labels,
        scene.peaks,
        scene.classes,
        margin_px=scene.margin_px,
        finer=scene.finer,
        inner_boundary_weight=data.config.inner_boundary_weight,
        taught=scene.taught,
    )
    return augment(scene.image, data.white, rng, config.augment), crop


def make_batch(sampler: Sampler, config: TrainConfig, step: int) -> Batch:
    """Make the batch of one step; the same for the same seed and step."""
    images, crops = [], []
    for index in range(config.batch):
        rng = np.random.default_rng([config.seed, step, index])
        image, crop = draw_crop(sampler.draw(rng), config, rng)
        images.append(image)
        crops.append(crop)
    targets = config.learner.targets(crops)
    return Batch(
        torch.from_numpy(np.stack(images)),
        {name: torch.from_numpy(target) for name, target in targets.items()},
    )


def batches(sampler: Sampler, config: TrainConfig, first_step: int) -> Iterator[Batch]:
    """Yield the batches from ``first_step`` to the end of the run, made two steps ahead."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="crops") as pool:
        ahead: list[Future[Batch]] = []
        try:
            for step in range(first_step, config.steps):
                while len(ahead) < 3 and step + len(ahead) < config.steps:
                    ahead.append(pool.submit(make_batch, sampler, config, step + len(ahead)))
                yield ahead.pop(0).result()
        finally:
            for future in ahead:
                future.cancel()
