"""The HoVer-Nets of TIAToolbox, and its HoVerNet+, of which the nuclei are taken.

Method: Graham et al., Medical Image Analysis 58 (2019), 101563.
"""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch

from wsi_engine.errors import ModelError
from wsi_engine.models.hovernet_decoding import (
    IDEAL_EXTREMES,
    SlopeExtremes,
    decode_maps,
    extremes_of_fields,
    ideal_extremes,
)
from wsi_engine.models.hovernet_scale import Scale, scale_at
from wsi_engine.models.hovernet_spec import (
    GEOMETRY,
    PLUS_LAYERS,
    PLUS_SPEC,
    SPECS,
    STRIDE,
    Geometry,
)
from wsi_engine.models.protocol import ModelSpec
from wsi_engine.models.tiatoolbox_weights import architecture, with_weights
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
        TIAToolbox's network with weights, on ``device``, in evaluation mode.
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
    def scale(self) -> Scale:
        """What the decoder measures by."""
        return scale_at(self.spec.mpp)

    @property
    def _geometry(self) -> Geometry:
        return GEOMETRY[self.network.mode]

    def calibrate(self, fields: npt.NDArray[np.uint8]) -> Self:
        """Set the slope extremes from up to ``CALIBRATION_FIELDS`` of the fields, spread evenly.

        Without any that has nuclei, the extremes stay. See `extremes_of_fields`.
        """
        count = min(len(fields), CALIBRATION_FIELDS)
        chosen = np.linspace(0, len(fields) - 1, count).round().astype(int)
        maps = (_predicted_part(self.maps(fields[k][None])[0])[0] for k in chosen)
        extremes = extremes_of_fields(maps, self.scale)
        return self if extremes is None else replace(self, extremes=extremes)

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
        # The fourth head, of HoVerNet+, says of tissue and not of nuclei.
        maps = np.concatenate(heads[:3], axis=-1)
        return np.pad(maps, ((0, 0), (lost, lost), (lost, lost), (0, 0)))

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
        One of ``SPECS``, or ``hovernetplus-oed``.
    weights
        See `wsi_engine.models.tiatoolbox_weights.with_weights`.

    Raises
    ------
    ModelError
        When there is no such model or no TIAToolbox, or the weights cannot be downloaded or
        read, or do not fit the network.
    """
    known = SPECS | {PLUS_SPEC.name: PLUS_SPEC}
    if name not in known:
        raise ModelError(f"TIAToolbox has no HoVerNet {name!r}: there are {', '.join(known)}")
    spec = known[name]
    module = "hovernetplus" if spec is PLUS_SPEC else "hovernet"
    hovernet = architecture(name, module)
    types = len(spec.classes) + 1 if spec.classes else None
    if spec is PLUS_SPEC:
        network = hovernet.HoVerNetPlus(num_types=types, num_layers=PLUS_LAYERS)
    else:
        mode = name.removeprefix("hovernet_").partition("-")[0]
        network = hovernet.HoVerNet(num_types=types, mode=mode)
    network, weights = with_weights(name, network, weights)
    extremes = ideal_extremes(spec.mpp)
    return HoVerNetModel(spec, network, torch.device("cpu"), extremes, weights)
