"""The HoVerNet models of TIAToolbox.

TIAToolbox brings some 200 packages and takes about ten seconds to import, so it is an extra,
and imported only when one of its models is loaded.

Method: Graham et al., Medical Image Analysis 58 (2019), 101563.
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file

from wsi_engine.errors import ModelError
from wsi_engine.models.hovernet_decoding import (
    IDEAL_EXTREMES,
    NUCLEAR_LEVEL,
    SlopeExtremes,
    decode_maps,
    slope_extremes,
)
from wsi_engine.models.hovernet_spec import GEOMETRY, SPECS, STRIDE, Geometry
from wsi_engine.models.protocol import ModelSpec
from wsi_engine.nuclei.predictions import Predictions

CALIBRATION_FIELDS = 8
"""Networks of this size take seconds per field on a processor."""

SHOWN = 3  # mismatching keys that an error names


@dataclass(frozen=True, eq=False)
class HoVerNetModel:
    """A HoVerNet on one device.

    Attributes
    ----------
    spec
        One of ``SPECS``: the facts the engine plans by.
    network
        TIAToolbox's ``HoVerNet`` with weights, on ``device``, in evaluation mode.
    extremes
        What the cut between touching nuclei is measured by; set for the slide by ``calibrate``.
    weights
        File that the weights were read from.
    """

    spec: ModelSpec
    network: Any = field(repr=False)
    device: torch.device
    extremes: SlopeExtremes = IDEAL_EXTREMES
    weights: Path | None = None

    @property
    def _geometry(self) -> Geometry:
        return GEOMETRY[self.network.mode]

    def calibrate(self, fields: npt.NDArray[np.uint8]) -> Self:
        """Set the slope extremes from the slide's tissue.

        They are the medians over up to ``CALIBRATION_FIELDS`` of the fields, spread evenly,
        to three digits: another processor's rounding is not to make another run of it.
        Fields without nuclei do not count; without any that has some, the extremes stay.
        """
        count = min(len(fields), CALIBRATION_FIELDS)
        found = []
        for index in np.linspace(0, len(fields) - 1, count).round().astype(int):
            inner, _ = _predicted_part(self.maps(fields[index][None])[0])
            if (inner[..., 0] >= NUCLEAR_LEVEL).any():
                found.append(asdict(slope_extremes(inner[..., 1:3])))
        if not found:
            return self
        medians = {name: np.median([each[name] for each in found]) for name in found[0]}
        extremes = SlopeExtremes(**{name: float(f"{m:.3g}") for name, m in medians.items()})
        return replace(self, extremes=extremes)

    def settings(self) -> dict[str, float]:
        """Return the slope extremes, distances from -1 to 1 per pixel."""
        return {f"slope_{name}_per_px": value for name, value in asdict(self.extremes).items()}

    def to(self, device: str) -> Self:
        """Return the model on a device; this one stays where it is."""
        if torch.device(device) == self.device:
            return self
        # TIAToolbox's own `to` would spread the network over every GPU of the machine.
        network = torch.nn.Module.to(copy.deepcopy(self.network), device)
        return replace(self, network=network, device=torch.device(device))

    def maps(self, batch: npt.NDArray[np.uint8]) -> npt.NDArray[np.generic]:
        """Run the network.

        Parameters
        ----------
        batch
            uint8, shape (n, height, width, 3), RGB; sides are multiples of ``STRIDE``.

        Returns
        -------
        numpy.ndarray
            float32, shape (n, height, width, 3 or 4): nuclear probability, horizontal and
            vertical distance to the centre of the nucleus in [-1, 1], and, where the model
            classifies, the most likely type (0 for background). Zero in the border that the
            network loses.

        Raises
        ------
        ModelError
            When the sides do not suit the network.
        """
        added, lost = self._geometry.added, self._geometry.lost
        _, height, width, _ = batch.shape
        if height % STRIDE or width % STRIDE or min(height, width) <= 2 * lost:
            raise ModelError(
                f"{self.spec.name} cannot take tiles of {width} x {height} px: choose sides "
                f"that are multiples of {STRIDE} and larger than {2 * lost}"
            )
        around = ((0, 0), (added, added), (added, added), (0, 0))
        images = torch.from_numpy(np.pad(batch, around, mode="reflect")).to(self.device)
        heads = self.network.infer_batch(self.network, images, device=str(self.device))
        return np.pad(np.concatenate(heads, axis=-1), ((0, 0), (lost, lost), (lost, lost), (0, 0)))

    def decode(self, maps: npt.NDArray[np.generic]) -> Predictions:
        """Turn the maps of one tile into polygons; see ``decode_maps``.

        Parameters
        ----------
        maps
            float32, shape (height, width, 3 or 4), as ``maps`` returns them for one image,
            or a part of them.
        """
        inner, corner = _predicted_part(maps)
        nuclei = decode_maps(inner, self.extremes, len(self.spec.classes))
        return replace(nuclei, xy=nuclei.xy + corner, anchors=nuclei.anchors + corner)


def _predicted_part(
    maps: npt.NDArray[np.generic],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Cut off the border that is empty because the network lost it; say where the rest begins.

    A step to the empty border would enter the slopes.
    """
    nuclear = maps[..., 0] != 0
    rows, columns = (np.flatnonzero(nuclear.any(axis=axis)) for axis in (1, 0))
    if len(rows) == 0:
        return maps.astype(np.float32, copy=False), np.zeros(2, np.int64)
    part = maps[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return part.astype(np.float32, copy=False), np.array([columns[0], rows[0]])


def load_hovernet(name: str, weights: Path | None) -> HoVerNetModel:
    """Load a HoVerNet of TIAToolbox, on the CPU.

    Parameters
    ----------
    name
        One of ``SPECS``.
    weights
        State dict in a .pth, .pt, .tar or .safetensors file; ``None`` for the published
        weights, which TIAToolbox downloads and keeps in its own cache.

    Raises
    ------
    ModelError
        When there is no such model or no TIAToolbox, or the weights cannot be downloaded or
        read, or do not fit the network.
    """
    if name not in SPECS:
        raise ModelError(f"TIAToolbox has no HoVerNet {name!r}: there are {', '.join(SPECS)}")
    spec, mode = SPECS[name], name.removeprefix("hovernet_").partition("-")[0]
    hovernet = import_architecture("hovernet", name)
    weights = fetch_weights(name) if weights is None else weights
    num_types = len(spec.classes) + 1 if spec.classes else None
    network = hovernet.HoVerNet(num_types=num_types, mode=mode)
    fit(network, read_state(weights), weights)
    network = network.eval().requires_grad_(False)
    return HoVerNetModel(spec, network, torch.device("cpu"), weights=weights)


def import_architecture(module: str, name: str) -> Any:
    """Import a module of TIAToolbox's architectures for one of its models.

    Raises
    ------
    ModelError
        When there is no TIAToolbox.
    """
    try:
        with _logging_untouched():
            return import_module(f"tiatoolbox.models.architecture.{module}")
    except ImportError as error:
        cause = f"{name} needs TIAToolbox, which cannot be imported ({error})"
        raise ModelError(f'{cause}: pip install "wsi-engine[tiatoolbox]"') from error


def fetch_weights(name: str) -> Path:
    """Download the published weights of one of TIAToolbox's models, unless they are there.

    Raises
    ------
    ModelError
        When they cannot be downloaded.
    """
    from tiatoolbox.models import architecture

    try:
        return Path(architecture.fetch_pretrained_weights(name))
    except Exception as error:  # whatever the hub's client, its proxy or the disk raise
        cause = f"the weights of {name} cannot be downloaded ({type(error).__name__})"
        raise ModelError(f"{cause}: pass a weights file fetched elsewhere") from error


@contextmanager
def _logging_untouched() -> Iterator[None]:
    """Undo what importing TIAToolbox does to the program's logging: INFO to standard output."""
    root = logging.getLogger()
    level, handlers, showwarning = root.level, root.handlers[:], warnings.showwarning
    try:
        yield
    finally:
        root.setLevel(level)
        root.handlers[:] = handlers
        if warnings.showwarning is not showwarning:
            logging.captureWarnings(capture=False)


def read_state(path: Path) -> Mapping[str, torch.Tensor]:
    """Read a state dict; nothing in the file is executed.

    Raises
    ------
    ModelError
        When the file holds none.
    """
    if not path.is_file():
        raise ModelError(f"there is no weights file {path}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling a damaged file can raise anything
        raise ModelError(f"{path} is no weights file ({type(error).__name__})") from error
    # The authors' own checkpoints wrap the state dict.
    state = state.get("desc", state) if isinstance(state, dict) else None
    if not state or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ModelError(f"{path} holds no state dict: save the network's state_dict()")
    return dict(state)


def fit(network: torch.nn.Module, state: Mapping[str, torch.Tensor], path: Path) -> None:
    """Load the weights, or name the first keys that do not match."""
    wanted = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    found = {key: tuple(value.shape) for key, value in state.items()}
    problems = [
        f"{key} ({found.get(key, 'none')} in the file, {wanted.get(key, 'none')} in the network)"
        for key in wanted | found
        if found.get(key) != wanted.get(key)
    ]
    if problems:
        more = f" and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        shown = ", ".join(problems[:SHOWN]) + more
        raise ModelError(f"the weights {path} do not fit the network: {shown}")
    network.load_state_dict(state)
