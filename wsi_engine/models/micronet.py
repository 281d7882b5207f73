"""MicroNet of TIAToolbox: nuclear probability, connected components.

The network sees the whole of a patch at four resolutions, so it takes patches of one size only.
TIAToolbox brings each patch to a mean of 0 and a deviation of 1 by its own pixels, and averages
patches where they overlap. Here the mean and deviation are those of the slide's tissue, and of each
patch the middle counts, for a nucleus is not to depend on what else is in its patch or tile.

Method: Raza et al., "Micro-Net: A unified model for segmentation of various objects in microscopy
images", Medical Image Analysis 52 (2019), 160-173.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from wsi_engine.models.label_objects import ObjectLimits, label_predictions, means, plausible
from wsi_engine.models.map_model import require_whole_strides
from wsi_engine.models.micronet_spec import LARGEST_OBJECT_PX, PATCH_PX, SPEC, STEP_PX
from wsi_engine.models.patches import in_patches
from wsi_engine.models.protocol import ModelSpec
from wsi_engine.models.tiatoolbox_weights import architecture, with_weights
from wsi_engine.nuclei.predictions import Predictions

LIMITS = ObjectLimits(
    smallest=50, largest=LARGEST_OBJECT_PX**2, longest=LARGEST_OBJECT_PX, thinnest=0.0
)
"""TIAToolbox's smallest object, and what tiles see whole."""

BACKGROUND, NUCLEUS = 0, 1


@dataclass(frozen=True, eq=False)
class MicroNetModel:
    """A MicroNet on one device.

    Attributes
    ----------
    network
        TIAToolbox's ``MicroNet`` with weights, on ``device``, in evaluation mode.
    mean, deviation
        Those of a patch of tissue, as shares of full brightness; set for the slide by
        ``calibrate``.
    weights
        File that the weights were read from.
    """

    network: Any = field(repr=False)
    device: torch.device
    mean: float = 0.7
    deviation: float = 0.2
    weights: Path | None = None
    spec: ModelSpec = SPEC

    def calibrate(self, fields: npt.NDArray[np.uint8]) -> Self:
        """Set mean and deviation to what patches of the slide's tissue have in the mean."""
        values = fields.reshape(len(fields), -1) / 255
        deviation = max(float(values.std(axis=1).mean()), 1 / 255)
        return replace(self, mean=_rounded(values.mean()), deviation=_rounded(deviation))

    def settings(self) -> dict[str, float]:
        """Return mean and deviation, as shares of full brightness."""
        return {"mean": self.mean, "deviation": self.deviation}

    def to(self, device: str) -> Self:
        """Return the model on a device; this one stays where it is."""
        if torch.device(device) == self.device:
            return self
        # TIAToolbox's own `to` would spread the network over every GPU of the machine.
        network = torch.nn.Module.to(copy.deepcopy(self.network), device)
        return replace(self, network=network, device=torch.device(device))

    def maps(self, batch: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Run the network over patches.

        Parameters
        ----------
        batch
            uint8, shape (n, height, width, 3), RGB; sides are multiples of ``STEP_PX``.

        Returns
        -------
        numpy.ndarray
            float32, shape (n, height, width, 2): probabilities of background and nucleus.

        Raises
        ------
        ModelError
            When the sides do not suit the network.
        """
        require_whole_strides(batch, self.spec)
        if len(batch) == 0:
            return np.empty((*batch.shape[:3], 2), np.float32)
        return np.stack([in_patches(self._run, image, PATCH_PX, STEP_PX) for image in batch])

    def decode(self, maps: npt.NDArray[np.generic]) -> Predictions:
        """Outline what hangs together of the pixels that are rather nucleus than background.

        Parameters
        ----------
        maps
            Shape (height, width, 2), as ``maps`` returns them for one image, or a part of them.
        """
        shares = np.asarray(maps, np.float32)
        excess = np.ascontiguousarray(shares[..., NUCLEUS] - shares[..., BACKGROUND])
        found = np.asarray(ndimage.label(excess > 0)[0], np.int32)
        labels = plausible(found, LIMITS)
        scores = np.clip(means(labels, np.ascontiguousarray(shares[..., NUCLEUS])), 0, 1)
        return label_predictions(labels, scores, excess, 0.0)

    def _run(self, patch: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        pixels = (patch.astype(np.float32) / 255 - self.mean) / self.deviation
        image = torch.from_numpy(np.ascontiguousarray(pixels[None], np.float32))
        (shares,) = self.network.infer_batch(self.network, image, device=str(self.device))
        return np.asarray(shares[0], np.float32)


def load_micronet(weights: Path | None) -> MicroNetModel:
    """Load TIAToolbox's MicroNet, on the CPU.

    Parameters
    ----------
    weights
        See `wsi_engine.models.tiatoolbox_weights.with_weights`.

    Raises
    ------
    ModelError
        When there is no TIAToolbox, or the weights cannot be downloaded or read, or do not fit.
    """
    network = architecture(SPEC.name, "micronet").MicroNet(
        num_input_channels=3, num_output_channels=2
    )
    network, weights = with_weights(SPEC.name, network, weights)
    return MicroNetModel(network, torch.device("cpu"), weights=weights)


def _rounded(value: float) -> float:
    """Round to three digits: another processor's rounding is not to make another run of it."""
    return float(f"{value:.3g}")
