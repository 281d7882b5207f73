"""Training of the star-convex network."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from wsi_engine.learn.batches import Batch, Source, batches
from wsi_engine.learn.checkpoint import Average, load_checkpoint, save_checkpoint
from wsi_engine.learn.config import TrainConfig
from wsi_engine.learn.datasets import load_dataset, split_dataset
from wsi_engine.learn.errors import TrainingError
from wsi_engine.learn.losses import Loss, star_loss
from wsi_engine.models.starconvex import StarConvexNet, normalise

CHECKPOINT = "checkpoint.pt"
LOG = "log.jsonl"


@dataclass
class Run:
    """The changing state of a run."""

    network: StarConvexNet
    optimiser: torch.optim.AdamW
    average: Average
    step: int = 0
    best: float = -1.0

    def content(self, config: TrainConfig) -> dict[str, Any]:
        """Return everything that a resumed run needs."""
        return {
            "step": self.step,
            "best": self.best,
            "config": config.model_dump_json(),
            "network": self.network.state_dict(),
            "average": self.average.state,
            "optimiser": self.optimiser.state_dict(),
            "rng": torch.get_rng_state(),
        }

    def restore(self, content: dict[str, Any]) -> None:
        """Take the state of a checkpoint."""
        self.network.load_state_dict(content["network"])
        self.optimiser.load_state_dict(content["optimiser"])
        self.average.state = content["average"]
        self.step, self.best = content["step"], content["best"]
        torch.set_rng_state(content["rng"])


def learning_rate(step: int, config: TrainConfig) -> float:
    """Linear warm-up, a constant stretch, and half a cosine down to a hundredth.

    Notes
    -----
    The constant stretch does not depend on the length of the run (Hägele et al., "Scaling
    laws and compute-optimal training beyond fixed training durations", NeurIPS 2024).
    """
    warmed = min(1.0, (step + 1) / config.warmup_steps)
    left = config.steps - step
    if left >= config.decay_steps:
        return config.learning_rate * warmed
    cosine = 0.5 * (1 - math.cos(math.pi * left / config.decay_steps))
    return config.learning_rate * warmed * (0.01 + 0.99 * cosine)


def start_run(config: TrainConfig) -> Run:
    """Create a run, at its last checkpoint where there is one.

    Raises
    ------
    TrainingError
        If the checkpoint cannot be read or belongs to a run with other settings.
    """
    torch.manual_seed(config.seed)
    shape = config.network
    network = StarConvexNet(shape.channels, shape.features, shape.rays)
    network = network.to(config.device, memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(
        network.parameters(), config.learning_rate, weight_decay=config.weight_decay, fused=True
    )
    run = Run(network, optimiser, Average(network, config.ema))
    path = config.output / CHECKPOINT
    if path.exists():
        content = load_checkpoint(path)
        before = TrainConfig.model_validate_json(content["config"])
        if before.network != config.network or before.seed != config.seed:
            raise TrainingError(
                f"{path} belongs to a run with another network or seed. Choose another output "
                "folder, or move the checkpoint away to start afresh."
            )
        run.restore(content)
    return run


def training_step(run: Run, batch: Batch, config: TrainConfig) -> Loss:
    """Take one optimiser step.

    Raises
    ------
    TrainingError
        If the loss is not finite. The weights are left as they were.
    """
    for group in run.optimiser.param_groups:
        group["lr"] = learning_rate(run.step, config)
    device = torch.device(config.device)
    with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"):
        maps = run.network(
            normalise(batch.images.to(device)).contiguous(memory_format=torch.channels_last)
        )
    loss = star_loss(maps.float(), batch)
    if not torch.isfinite(loss.total):
        raise TrainingError(
            f"The loss is {loss.total.item()} at step {run.step}; the last checkpoint is intact. "
            "Lower learning_rate, or train with precision fp32, and start again to resume."
        )
    run.optimiser.zero_grad(set_to_none=True)
    loss.total.backward()
    torch.nn.utils.clip_grad_norm_(run.network.parameters(), 5.0)
    run.optimiser.step()
    run.step += 1
    run.average.update(run.network, run.step)
    return loss


def train(config: TrainConfig) -> Path:
    """Train a network, or go on with a run that was stopped.

    Returns
    -------
    Path
        The checkpoint.
    """
    config.output.mkdir(parents=True, exist_ok=True)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    sources = []
    for data in (load_dataset(entry) for entry in config.data):
        training, _ = split_dataset(data)
        sources.append(Source(data, training))
    run = start_run(config)
    run.network.train()
    path = config.output / CHECKPOINT
    started, first = time.monotonic(), run.step
    with (config.output / LOG).open("a") as log:
        for batch in batches(sources, config, run.step):
            loss = training_step(run, batch, config)
            if run.step % 50 == 0:
                rate = (run.step - first) * config.batch / (time.monotonic() - started)
                entry = {
                    "step": run.step,
                    "learning_rate": learning_rate(run.step - 1, config),
                    "loss": loss.total.item(),
                    "probability": loss.probability.item(),
                    "distance": loss.distance.item(),
                    "overlap": loss.overlap.item(),
                    "crops_per_s": rate,
                }
                log.write(json.dumps(entry) + "\n")
                log.flush()
            if run.step % config.checkpoint_every == 0 or run.step == config.steps:
                save_checkpoint(path, run.content(config))
    return path
