"""The HoVer-Nets of TIAToolbox, and its HoVerNet+, of which the nuclei are taken.

Method: Graham et al., Medical Image Analysis 58 (2019), 101563.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from wsi_engine.errors import ModelError
from wsi_engine.models.devices import CPU
from wsi_engine.models.hovernet_decoding import (
    IDEAL_EXTREMES,
    SlopeExtremes,
    decode_maps,
    extremes_of_fields,
    ideal_extremes,
)
from wsi_engine.models.hovernet_network import Architecture, parameter_shapes
from wsi_engine.models.hovernet_scale import Scale, scale_at
from wsi_engine.models.hovernet_spec import (
    GEOMETRY,
    PLUS_LAYERS,
    PLUS_SPEC,
    SPECS,
    STRIDE,
    Geometry,
)
from wsi_engine.models.hovernet_windows import Network, in_windows, largest_window
from wsi_engine.models.memory import memory_for_networks
from wsi_engine.models.protocol import ModelSpec
from wsi_engine.models.quantised import is_usable
from wsi_engine.models.state_dict import read_state, require_fit
from wsi_engine.models.tiatoolbox_weights import published_weights
from wsi_engine.nuclei.predictions import Predictions

CALIBRATION_FIELDS = 8
"""Networks of this size take seconds per field on a processor."""


@dataclass(frozen=True, eq=False)
class HoVerNetModel:
    """A HoVerNet on one device.

    Attributes
    ----------
    spec
        The facts the engine plans by.
    network
        Its network, with weights, on ``device``.
    device
        As torch names it.
    extremes
        What the cut between touching nuclei is measured by; set for the slide by ``calibrate``.
    weights
        File that the weights were read from.
    """

    spec: ModelSpec
    network: Network = field(repr=False)
    device: str = CPU
    extremes: SlopeExtremes = IDEAL_EXTREMES
    weights: Path | None = None

    @property
    def scale(self) -> Scale:
        """What the decoder measures by."""
        return scale_at(self.spec.mpp)

    @property
    def _geometry(self) -> Geometry:
        return GEOMETRY[architecture_of(self.spec).mode]

    def calibrate(self, fields: npt.NDArray[np.uint8]) -> Self:
        """Set the slope extremes from up to ``CALIBRATION_FIELDS`` of the fields, spread evenly.

        Without any that has nuclei, the extremes stay. See `extremes_of_fields`.
        """
        count = min(len(fields), CALIBRATION_FIELDS)
        chosen = np.linspace(0, len(fields) - 1, count).round().astype(int)
        added = self._geometry.added
        around = ((0, 0), (added, added), (added, added), (0, 0))
        padded = (np.pad(fields[k][None], around, mode="reflect") for k in chosen)
        maps = (self.network(field, 0, types=False)[0] for field in padded)
        extremes = extremes_of_fields(maps, self.scale)
        return self if extremes is None else replace(self, extremes=extremes)

    def settings(self) -> dict[str, float]:
        """Return the slope extremes, distances from -1 to 1 per pixel."""
        return {f"slope_{name}_per_px": value for name, value in asdict(self.extremes).items()}

    def to(self, device: str) -> Self:
        """Return the model on a device; this one stays where it is."""
        if device == self.device:
            return self
        assert self.weights is not None
        network = _network_on(device, architecture_of(self.spec), self.weights)
        return replace(self, network=network, device=device)

    def maps(self, batch: npt.NDArray[np.uint8]) -> npt.NDArray[np.generic]:
        """Run the network, window by window.

        Parameters
        ----------
        batch
            uint8, shape (n, height, width, 3), RGB; sides are multiples of ``STRIDE``.

        Returns
        -------
        numpy.ndarray
            float32, shape (n, height, width, 3 or 4): nuclear probability, horizontal and
            vertical distance to the centre of the nucleus in [-1, 1], and, where the model
            classifies, the most likely type (0 for background). Zero in the margin, in which
            the network sees beyond the tile.

        Raises
        ------
        ModelError
            When the sides do not suit the network.
        """
        geometry = self._geometry
        count, height, width, _ = batch.shape
        if height % STRIDE or width % STRIDE or min(height, width) <= 2 * geometry.margin:
            raise ModelError(
                f"{self.spec.name} cannot take tiles of {width} x {height} px: choose sides "
                f"that are multiples of {STRIDE} and larger than {2 * geometry.margin}"
            )
        maps = np.zeros((count, height, width, 3 + bool(self.spec.classes)), np.float32)
        largest = largest_window(memory_for_networks(self.device), geometry)
        for image, found in zip(batch, maps, strict=True):
            in_windows(self.network, image, found, geometry, largest)
        return maps

    def decode(self, maps: npt.NDArray[np.generic]) -> Predictions:
        """Turn the maps of one tile into polygons; see ``decode_maps``.

        Parameters
        ----------
        maps
            float32, shape (height, width, 3 or 4), as ``maps`` returns them for one image,
            or a part of them.
        """
        inner, corner = _predicted_part(maps)
        nuclei = decode_maps(inner, self.extremes, len(self.spec.classes), self.scale)
        return replace(nuclei, xy=nuclei.xy + corner, anchors=nuclei.anchors + corner)


def _predicted_part(
    maps: npt.NDArray[np.generic],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Cut off the border that is empty, as the network sees beyond it; say where the rest begins.

    A step to the empty border would enter the slopes.
    """
    nuclear = maps[..., 0] != 0
    rows, columns = (np.flatnonzero(nuclear.any(axis=axis)) for axis in (1, 0))
    if len(rows) == 0:
        return maps.astype(np.float32, copy=False), np.zeros(2, np.int64)
    part = maps[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return part.astype(np.float32, copy=False), np.array([columns[0], rows[0]])


def architecture_of(spec: ModelSpec) -> Architecture:
    """Return the architecture of the network of a model."""
    types = len(spec.classes) + 1 if spec.classes else 0
    if spec.name == PLUS_SPEC.name:
        return Architecture("fast", types, PLUS_LAYERS)
    mode = spec.name.removeprefix("hovernet_").partition("-")[0]
    return Architecture(mode, types)


def load_hovernet(name: str, weights: Path | None) -> HoVerNetModel:
    """Load a HoVerNet of TIAToolbox, on the CPU.

    Parameters
    ----------
    name
        One of ``SPECS``, or ``hovernetplus-oed``.
    weights
        State dict in a .pth, .pt, .tar or .safetensors file; ``None`` for the published weights,
        which TIAToolbox downloads and keeps in its own cache.

    Raises
    ------
    ModelError
        When there is no such model, or the weights cannot be downloaded or read, or do not fit
        the network.
    """
    known = SPECS | {PLUS_SPEC.name: PLUS_SPEC}
    if name not in known:
        raise ModelError(f"TIAToolbox has no HoVerNet {name!r}: there are {', '.join(known)}")
    spec = known[name]
    weights = published_weights(name) if weights is None else weights
    architecture = architecture_of(spec)
    require_fit(read_state(weights), parameter_shapes(architecture), weights)
    network = _network_on(CPU, architecture, weights)
    return HoVerNetModel(spec, network, CPU, ideal_extremes(spec.mpp), weights)


def _network_on(device: str, architecture: Architecture, weights: Path) -> Network:
    if device == CPU and is_usable():
        from wsi_engine.models.hovernet_openvino import OpenVinoHoVerNet

        return OpenVinoHoVerNet(architecture, weights)
    from wsi_engine.models.hovernet_torch import TorchHoVerNet

    return TorchHoVerNet(architecture, weights, device)
