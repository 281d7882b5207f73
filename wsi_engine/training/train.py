"""Training: a method's network learns from annotated fields."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from torch import nn
from torch.nn.utils import convert_conv2d_weight_memory_format

from wsi_engine.errors import DatasetError, TrainingError
from wsi_engine.models.learning import Loss, TrainedModel
from wsi_engine.training.batches import Batch, batches, make_batch
from wsi_engine.training.checkpoint import Average, load_checkpoint, save_checkpoint
from wsi_engine.training.config import CorrectionsDataConfig, TrainConfig
from wsi_engine.training.datasets import load_dataset, split_dataset
from wsi_engine.training.log import TrainingLog
from wsi_engine.training.sampling import Sampler, Source
from wsi_engine.training.starting import (
    file_of,
    start_from,
    threshold_of_init,
    with_shape_of_init,
)
from wsi_engine.training.validate import ValidationSet, calibrated

CHECKPOINT = "checkpoint.pt"
WEIGHTS = "weights.safetensors"
BEST = "best.safetensors"

# What a run cannot change once it has started.
_FIXED = ("method", "network", "classes", "seed")
# Batches on which a run that starts from weights takes its statistics.
_STATISTICS_STEPS = 8


@dataclass
class Run:
    """The changing state of a run.

    Attributes
    ----------
    best
        Highest F1 on the validation images so far.
    before, threshold
        F1 and threshold of the weights that it started from; ``None`` where it started from none.
    """

    network: nn.Module
    optimiser: torch.optim.AdamW
    average: Average
    step: int = 0
    best: float = -1.0
    before: float | None = None
    threshold: float | None = None

    def content(self, config: TrainConfig) -> dict[str, Any]:
        """Return everything that a resumed run needs."""
        return {
            "step": self.step,
            "best": self.best,
            "before": self.before,
            "threshold": self.threshold,
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
        self.average.restore(self.network, content["average"])
        self.step, self.best = content["step"], content["best"]
        self.before, self.threshold = content.get("before"), content.get("threshold")
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


def start_run(config: TrainConfig, sampler: Sampler | None = None) -> Run:
    """Create a run, at its last checkpoint where there is one.

    Parameters
    ----------
    sampler
        Where a run that starts from weights takes the crops for its statistics.

    Raises
    ------
    TrainingError
        If the checkpoint cannot be read or belongs to a run with other settings.
    """
    torch.manual_seed(config.seed)
    path = config.output / CHECKPOINT
    network = config.learner.network().to(config.device)
    if config.init is not None and sampler is not None and not path.exists():
        crops = (make_batch(sampler, config, step) for step in range(_STATISTICS_STEPS))
        start_from(network, config.learner, file_of(config), crops)
    convert_conv2d_weight_memory_format(network, torch.channels_last)
    optimiser = torch.optim.AdamW(
        network.parameters(), config.learning_rate, weight_decay=config.weight_decay, fused=True
    )
    run = Run(network, optimiser, Average(network, config.ema))
    if path.exists():
        content = load_checkpoint(path)
        before = former_config(content)
        if any(getattr(before, name) != getattr(config, name) for name in _FIXED):
            raise TrainingError(
                f"{path} belongs to a run with another method, another network, other classes or "
                "another seed: choose another output folder, or move the checkpoint away to start "
                "afresh"
            )
        run.restore(content)
    return run


def former_config(content: dict[str, Any]) -> TrainConfig:
    """Return the configuration of the run that wrote a checkpoint."""
    former = json.loads(content["config"])
    # What an older version wrote beside has moved, and none of it is fixed.
    return TrainConfig.model_validate(
        {k: former[k] for k in former if k in TrainConfig.model_fields}
    )


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
    batch = batch.to(device)
    with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"):
        loss = config.learner.loss(run.network, batch.images, batch.targets)
    if not torch.isfinite(loss.total):
        raise TrainingError(
            f"the loss is {loss.total.item()} at step {run.step}; the last checkpoint is intact: "
            "lower learning_rate, or train with precision fp32, and start again to resume"
        )
    run.optimiser.zero_grad(set_to_none=True)
    torch.autograd.backward(loss.total)
    torch.nn.utils.clip_grad_norm_(run.network.parameters(), 5.0)
    run.optimiser.step()
    run.step += 1
    run.average.update(run.network, run.step)
    return loss


def set_training(network: nn.Module, config: TrainConfig) -> None:
    """Put a network into training, its statistics frozen where the run asks for it."""
    network.train()
    if config.freeze_statistics:
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()


@dataclass(frozen=True, slots=True)
class Result:
    """The files that a training run leaves.

    Attributes
    ----------
    weights
        The averaged weights at the end, with the threshold that suits the validation images.
    best
        The averaged weights with the best F1 on the validation images on the way.
    checkpoint
        Checkpoint from which the run can be made longer.
    threshold, f1, pq, class_f1
        What the weights at the end have on the validation images.
    f1_best, f1_before
        F1 there of the best weights, and of those that the run started from where it started
        from any. Where none on the way were better, these are the best.
    """

    weights: Path
    best: Path
    checkpoint: Path
    threshold: float
    f1: float
    pq: float
    f1_best: float
    class_f1: float | None = None
    f1_before: float | None = None


def load_sources(config: TrainConfig) -> tuple[list[Source], list[ValidationSet]]:
    """Read and split the data of a run.

    Raises
    ------
    DatasetError
        If a set cannot be used, or no nucleus to train on has one of the classes.
    TrainingError
        If no image is held out for validation.
    """
    sources, held_out = [], []
    for entry in config.data:
        data = load_dataset(entry, config.classes)
        training, validation = split_dataset(data)
        sources.append(Source(data, training))
        if validation:
            held_out.append(ValidationSet(entry.name, validation))
    _check_classes(sources, config.classes)
    if not held_out:
        raise TrainingError(
            "no image is held out for validation: name patients or slides in split.validation, "
            "or set split.every, for at least one set"
        )
    return sources, held_out


def _check_classes(sources: list[Source], classes: tuple[str, ...]) -> None:
    used = [source for source in sources if source.data.config.weight > 0]
    seen = {int(kind) for source in used for field in source.fields for kind in field.classes}
    missing = [name for k, name in enumerate(classes) if k not in seen]
    if classes and len(missing) == len(classes):
        raise DatasetError(
            f"the run is to learn the classes {', '.join(classes)}, but no nucleus to train on has "
            "a class: classify them in QuPath, give the set a folder of classes, or leave "
            "classes out"
        )
    if missing:
        raise DatasetError(
            f"no nucleus to train on has the class {missing[0]!r}: take it out of classes, or see "
            "that not all of its nuclei are held out"
        )


def averaged(run: Run, config: TrainConfig) -> nn.Module:
    """Return a network of the averaged weights."""
    network = config.learner.network()
    network.load_state_dict(run.average.state)
    return network


def validate(run: Run, config: TrainConfig, held_out: list[ValidationSet]) -> dict[str, float]:
    """Measure the averaged weights at the best threshold; keep them where they are the best."""
    path, learner, network = config.output / WEIGHTS, config.learner, averaged(run, config)
    learner.write(path, network, threshold=0.5)
    # As a user would get them.
    model: TrainedModel = learner.model(path).to(config.device)
    model, figures = calibrated(model, held_out, run.threshold)
    learner.write(path, network, threshold=model.threshold)
    if figures["f1"] > run.best:
        run.best = figures["f1"]
        shutil.copyfile(path, config.output / BEST)
    return figures


def train(config: TrainConfig, *, console: Console | None = None) -> Result:
    """Train a network, or go on with a run that was stopped.

    A run that was killed and started again ends with the same weights as one that was not:
    the batches are a function of the seed and the step, and a checkpoint holds all else.

    Parameters
    ----------
    config
        Everything about the run.
    console
        Console on which progress is shown; none is shown if not given.

    Raises
    ------
    DatasetError
        If the data cannot be used.
    TrainingError
        If the loss is not finite, or the output folder holds another run, or one that has ended
        and would not learn what was corrected since.
    """
    config.output.mkdir(parents=True, exist_ok=True)
    if not (config.output / CHECKPOINT).exists():
        config = with_shape_of_init(config)
    elif config.init is not None and "network" not in config.model_fields_set:
        config = config.model_copy(
            update={"network": former_config(load_checkpoint(config.output / CHECKPOINT)).network}
        )
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    sources, held_out = load_sources(config)
    sampler = Sampler(sources, config.class_balance)
    run = start_run(config, sampler)
    if run.step >= config.steps and any(isinstance(s, CorrectionsDataConfig) for s in config.data):
        raise TrainingError(
            f"{config.output} holds a run that has ended, which learns nothing of later "
            "corrections: choose another output folder (--output)"
        )
    set_training(run.network, config)
    path = config.output / CHECKPOINT
    figures: dict[str, float] = {}
    with TrainingLog(config.output, run.step) as log, _progress(config, run, console) as show:
        if config.init is not None and run.step == 0:
            run.threshold = threshold_of_init(config)
            figures = validate(run, config, held_out)
            run.before = figures["f1"]
            log.write(0, {f"validation/{k}": v for k, v in figures.items()})
        started, first = time.monotonic(), run.step
        for batch in batches(sampler, config, run.step):
            loss = training_step(run, batch, config)
            last = run.step == config.steps
            if last or run.step % config.log_every == 0:
                rate = (run.step - first) * config.batch / (time.monotonic() - started)
                log.write(run.step, {**loss.parts(), "learning_rate": rate_of(run),
                                     "crops_per_s": rate})  # fmt: skip
            if last or run.step % config.validate_every == 0:
                figures = validate(run, config, held_out)
                log.write(run.step, {f"validation/{k}": v for k, v in figures.items()})
            if last or run.step % config.checkpoint_every == 0:
                save_checkpoint(path, run.content(config))
            show(loss, figures)
    if not figures:
        figures = validate(run, config, held_out)
    return Result(
        config.output / WEIGHTS, config.output / BEST, path,
        figures["threshold"], figures["f1"], figures["pq"], run.best, figures.get("class_f1"),
        run.before,
    )  # fmt: skip


def rate_of(run: Run) -> float:
    """Return the learning rate of the last step."""
    return float(run.optimiser.param_groups[0]["lr"])


@contextmanager
def _progress(
    config: TrainConfig, run: Run, console: Console | None
) -> Iterator[Callable[[Loss, dict[str, float]], None]]:
    """Show a bar with the loss, the learning rate and the validation's F1."""
    columns = (
        TextColumn("training"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )  # fmt: skip
    with Progress(*columns, console=console, disable=console is None) as progress:
        task = progress.add_task("", total=config.steps, completed=run.step)

        def show(loss: Loss, figures: dict[str, float]) -> None:
            text = f"loss {loss.total.item():.3f}  lr {rate_of(run):.1e}"
            if figures:
                text += f"  F1 {figures['f1']:.3f}"
            if "class_f1" in figures:
                text += f"  class F1 {figures['class_f1']:.3f}"
            progress.update(task, completed=run.step, description=text)

        yield show
