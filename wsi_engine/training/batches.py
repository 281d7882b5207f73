"""Batches as a pure function of seed and step, so that a resumed run sees what it would have."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt
import torch

from wsi_engine.training.augment import augment
from wsi_engine.training.classes import Classes
from wsi_engine.training.config import TrainConfig
from wsi_engine.training.crowding import crowd
from wsi_engine.training.grounds import log_uniform
from wsi_engine.training.mosaic import mosaic
from wsi_engine.training.negatives import draw_negatives
from wsi_engine.training.sampling import Sampler, Spot
from wsi_engine.training.scene import Scene
from wsi_engine.training.targets import Targets, size_weights, star_targets
from wsi_engine.training.warp import random_warp, warp_image, warp_labels, warp_map

# Labels reach this far beyond the crop, so that nuclei at its border have their whole shape.
_MARGIN_UM = 12.0
# Labels are as fine as this, whatever the pixels of the network.
_LABEL_UM = 0.25


@dataclass(frozen=True, slots=True)
class Batch:
    """One training step's crops and targets, stacked.

    Attributes
    ----------
    images
        uint8 (n, h, w, 3).
    probability, probability_weight
        float32 on the output grid, (n, h / grid, w / grid).
    points
        Flat index of the grid points inside nuclei into those, int64 (k,).
    distances, distances_weight
        Distances at those points and their weights, float32 (k, rays).
    classes
        Class index there, int64 (k,), `NO_CLASS` where it is not known.
    """

    images: torch.Tensor
    probability: torch.Tensor
    probability_weight: torch.Tensor
    points: torch.Tensor
    distances: torch.Tensor
    distances_weight: torch.Tensor
    classes: torch.Tensor

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        return Batch(*(getattr(self, field.name).to(device) for field in fields(self)))


def draw_scene(spot: Spot, config: TrainConfig, rng: np.random.Generator) -> Scene:
    """Draw a crop of a field, with nuclei and other things put into it."""
    field, scale = spot.field, config.augment.scale
    grid, mpp = config.network.grid_px, config.network.mpp
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
    if field.taught is not None and config.taught_share > 0:
        scene.taught = warp_map(
            field.taught, warp, config.crop_px, grid_px=grid, shape=field.labels.shape
        ) / np.float32(255)
    crowd(scene, rng, config.augment)
    draw_negatives(scene, rng, config.augment)
    return scene


def draw_crop(
    spot: Spot, config: TrainConfig, rng: np.random.Generator
) -> tuple[npt.NDArray[np.uint8], Targets, Classes]:
    """Draw one augmented crop of a field with its targets, and its nuclei's classes by label."""
    scene = draw_scene(spot, config, rng)
    grid, finer, data = config.network.grid_px, scene.finer, spot.source.data
    side = config.crop_px // grid
    targets = star_targets(
        scene.labels,
        scene.peaks,
        shape=(side, side),
        first=(scene.margin_px + grid / 2) * finer,
        spacing=grid * finer,
        unit=1 / finer,
        rays=config.network.rays,
        inner_boundary_weight=data.config.inner_boundary_weight,
        peaks_on_grid=config.peaks_on_grid,
    )
    if scene.taught is not None:
        targets = _blended(targets, scene.taught, config.taught_share)
    return augment(scene.image, data.white, rng, config.augment), targets, scene.classes


def _blended(targets: Targets, taught: npt.NDArray[np.float32], share: float) -> Targets:
    """Mix what a teacher says into the object probability, wherever it saw the same."""
    seen = np.isfinite(taught)
    own = np.where(targets.probability_weight > 0, targets.probability, taught)
    mixed = np.where(seen, (1 - share) * own + share * taught, targets.probability)
    weight = np.where(
        seen, np.maximum(targets.probability_weight, share), targets.probability_weight
    )
    return replace(
        targets, probability=mixed.astype(np.float32), probability_weight=weight.astype(np.float32)
    )


def make_batch(sampler: Sampler, config: TrainConfig, step: int) -> Batch:
    """Make the batch of one step; the same for the same seed and step."""
    images, targets, classes = [], [], []
    for index in range(config.batch):
        rng = np.random.default_rng([config.seed, step, index])
        spot = sampler.draw(rng)
        image, target, by_label = draw_crop(spot, config, rng)
        images.append(image)
        targets.append(target)
        classes.append(by_label[target.labels[target.inside]])
    probability = np.stack([target.probability for target in targets])
    probability_weight = np.stack([target.probability_weight for target in targets])
    inside = [target.inside for target in targets]
    points = np.flatnonzero(np.stack(inside))
    distances, distances_weight = (
        np.concatenate([getattr(t, name)[at] for t, at in zip(targets, inside, strict=True)])
        for name in ("distances", "distances_weight")
    )
    if config.size_balance > 0:
        weights = size_weights(distances, config.size_balance)
        probability_weight.reshape(-1)[points] *= weights
        distances_weight *= weights[:, None]
    return Batch(
        torch.from_numpy(np.stack(images)),
        torch.from_numpy(probability),
        torch.from_numpy(probability_weight),
        torch.from_numpy(points),
        torch.from_numpy(distances),
        torch.from_numpy(distances_weight),
        torch.from_numpy(np.concatenate(classes).astype(np.int64)),
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
