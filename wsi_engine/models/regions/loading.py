"""Models of regions by file or by name."""

from __future__ import annotations

from pathlib import Path

from wsi_engine.errors import ModelError, SettingsError
from wsi_engine.models.regions.protocol import RegionsModel
from wsi_engine.models.regions.segmentor_spec import SPECS


def is_named(model: str) -> bool:
    """Whether a model of regions is asked for by its name, and not as a file."""
    return model in SPECS


def load_regions_model(model: str, weights: Path | None = None) -> RegionsModel:
    """Load a model of regions, on the CPU.

    Parameters
    ----------
    model
        File that `wsi-engine regions-train` wrote, or name of a segmentor of TIAToolbox.
    weights
        State dict of a segmentor; ``None`` for the published weights.

    Raises
    ------
    ModelError
        When there is no such model, or it cannot be read.
    SettingsError
        When there are weights for a model that has them in its file.
    """
    if is_named(model):
        from wsi_engine.models.regions.segmentors import load_segmentor

        return load_segmentor(model, weights)
    if weights is not None:
        raise SettingsError(
            f"regions weights are for {' and '.join(SPECS)}: leave {weights} out, as {model} holds "
            "all of its model"
        )
    if not Path(model).exists():
        raise ModelError(
            f"there is no regions model {model}: give a file of `wsi-engine regions-train`, or one "
            f"of {', '.join(SPECS)}"
        )
    from wsi_engine.models.regions.pixel_classifier import read_pixel_classifier

    return read_pixel_classifier(Path(model))
