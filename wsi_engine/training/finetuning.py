"""The settings of a training that goes on from what corrected results were found with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from wsi_engine.errors import ModelError, SettingsError
from wsi_engine.models.registry import find_training
from wsi_engine.results.finished import SlideResult
from wsi_engine.training.config import TrainConfig, read_document
from wsi_engine.training.corrected import corrected_results

DEFAULT_METHOD = "starconvex"
GENTLE: dict[str, Any] = {
    "output": "runs/corrections",
    "freeze_statistics": True,
    "learning_rate": 5e-5,
    "warmup_steps": 50,
    "steps": 600,
    "decay_steps": 400,
    "validate_every": 200,
    "threads": 1,
}
"""What is set where a person states nothing else."""


def config_for_corrections(
    results: Sequence[Path],
    document: Path | None = None,
    *,
    output: Path | None = None,
    slides: Path | None = None,
) -> TrainConfig:
    """Return the settings of a training on corrected results.

    It starts from the weights that the results were found with, of whatever method can be
    trained, and learns their classes; from the shipped ones where results were found with several
    files of weights, or by what learns nothing.

    Parameters
    ----------
    results
        See `wsi_engine.training.corrected.corrected_results`.
    document
        YAML file whose settings count before `GENTLE`; its sets are learnt from, too.
    output
        Folder of the run, whatever the document says.
    slides
        Folder of the slides, where they have moved.

    Raises
    ------
    SettingsError
        If no result is given, the results are of several methods, or a setting is wrong.
    DatasetError
        If nothing was corrected.
    """
    given = {} if document is None else read_document(document) or {}
    if not results or not isinstance(given, dict):
        raise SettingsError("--from-corrections needs the folders of results: give results/*")
    found = {_found_with(folder) for folder, _ in corrected_results(results)}
    method = given.get("method") or _one_method([name for name, *_ in found])
    own = {"name": "corrections", "results": list(results)}
    settings = {
        **GENTLE,
        "method": method,
        **_start([each for each in found if each.method == method], method),
        **given,
        "data": [*(given.get("data") or ()), own | ({} if slides is None else {"slides": slides})],
    }
    if settings["init"] is None:
        settings["freeze_statistics"] = False
    if output is not None:
        settings["output"] = output
    return TrainConfig.from_document(settings, document or Path("--from-corrections"))


class _Found(NamedTuple):
    """What the nuclei of a result were found with."""

    method: str
    weights: str | None
    classes: tuple[str, ...]


def _found_with(folder: Path) -> _Found:
    record = SlideResult(folder).record
    weights = (record.settings.model_extra or {}).get("weights")
    return _Found(record.model.name, weights and str(weights), tuple(record.model.classes))


def _start(found: Sequence[_Found], method: str) -> dict[str, Any]:
    """Return the settings that say which weights a run starts from, and their classes."""
    own = [each for each in found if each.weights is not None]
    if len(own) != 1:
        return {"init": method}
    return {"init": own[0].weights, "classes": own[0].classes}


def _one_method(names: Sequence[str]) -> str:
    """Return the one of some methods that can be trained."""
    trainable = sorted({name for name in names if _learns(name)})
    if len(trainable) > 1:
        raise SettingsError(
            f"the results were found by {' and '.join(trainable)}: give those of one method, or "
            "state method in a YAML file"
        )
    return trainable[0] if trainable else DEFAULT_METHOD


def _learns(name: str) -> bool:
    try:
        find_training(name)
    except ModelError:
        return False
    return True
