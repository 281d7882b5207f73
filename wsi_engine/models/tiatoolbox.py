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
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from scipy import ndimage

from wsi_engine.errors import ModelError
from wsi_engine.models.protocol import ModelSpec, Predictions
from wsi_engine.models.tracing import trace_labels

STRIDE = 8
DECODER_REACH_PX = 14
"""How far the post-processing looks: Sobel of 21 px (10), opening of its result by 5 px (4)."""
LARGEST_OBJECT_PX = 96
"""24 µm: twice a large tumour nucleus. What is wider is a clump that was not split, and tiles
would cut it differently, so it is not reported."""
NUCLEAR_LEVEL = 0.5  # fixed in TIAToolbox's post-processing

_NON_COMMERCIAL = "CC BY-NC-SA 4.0 (published weights: non-commercial use only)"
SHOWN = 3  # mismatching keys that an error names


@dataclass(frozen=True, slots=True)
class Geometry:
    """What an architecture does to the sides of an image, in pixels.

    Attributes
    ----------
    added
        Border to add to an image whose sides are multiples of the stride.
    lost
        Border of the image (before that) for which there is no output.
    receptive_radius
        How far an input pixel reaches; more than ``lost``, as the encoder pads with zeros.
    """

    added: int
    lost: int
    receptive_radius: int


GEOMETRY = {"fast": Geometry(0, 46, 109), "original": Geometry(3, 92, 156)}


def _spec(mode: str, dataset: str, classes: tuple[str, ...], licence: str) -> ModelSpec:
    return ModelSpec(
        name=f"hovernet_{mode}-{dataset.lower()}",
        summary=f"HoVerNet ({mode}) of TIAToolbox, trained on {dataset}",
        mpp=0.25,
        stride=STRIDE,
        receptive_radius_px=GEOMETRY[mode].receptive_radius + DECODER_REACH_PX,
        largest_object_px=LARGEST_OBJECT_PX,
        classes=classes,
        licence=licence,
        embedded=False,
    )


_PANNUKE = ("Neoplastic", "Inflammatory", "Connective", "Dead", "Non-Neoplastic Epithelial")
_MONUSAC = ("Epithelial", "Lymphocyte", "Macrophage", "Neutrophil")
_CONSEP = ("Epithelial", "Inflammatory", "Spindle-Shaped", "Miscellaneous")

SPECS = {
    spec.name: spec
    for spec in (
        _spec("fast", "PanNuke", _PANNUKE, _NON_COMMERCIAL),
        _spec("fast", "MoNuSAC", _MONUSAC, _NON_COMMERCIAL),
        _spec("original", "CoNSeP", _CONSEP, "Apache-2.0 (published weights)"),
        _spec("original", "Kumar", (), _NON_COMMERCIAL),
    )
}
"""The models by TIAToolbox's own names, classes in the order of its type maps (without the
background) and licences from https://tia-toolbox.readthedocs.io/en/latest/license.html."""


class HoVerNetModel:
    """A HoVerNet on one device.

    TIAToolbox's post-processing scales the gradients of a tile by their smallest and largest
    value: where nuclei touch, another tiling can move their border, or merge them.

    Parameters
    ----------
    spec
        One of ``SPECS``.
    network
        TIAToolbox's ``HoVerNet`` with weights, on ``device``.
    """

    def __init__(self, spec: ModelSpec, network: Any, device: torch.device) -> None:
        self._spec = spec
        self._network = network.eval().requires_grad_(False)
        self._geometry = GEOMETRY[network.mode]
        self._device = device

    @property
    def spec(self) -> ModelSpec:
        """The facts the engine plans by."""
        return self._spec

    def calibrate(self, fields: npt.NDArray[np.uint8]) -> Self:
        """Return the model itself: it has no slide-wide statistics."""
        del fields
        return self

    def settings(self) -> dict[str, float]:
        """Return nothing, as ``calibrate`` finds nothing."""
        return {}

    def to(self, device: torch.device) -> Self:
        """Return the model on a device; this one stays where it is."""
        if device == self._device:
            return self
        # TIAToolbox's own `to` would spread the network over every GPU of the machine.
        network = torch.nn.Module.to(copy.deepcopy(self._network), device)
        return type(self)(self._spec, network, device)

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
                f"{self._spec.name} cannot take tiles of {width} x {height} px: choose sides "
                f"that are multiples of {STRIDE} and larger than {2 * lost}"
            )
        around = ((0, 0), (added, added), (added, added), (0, 0))
        images = torch.from_numpy(np.pad(batch, around, mode="reflect")).to(self._device)
        heads = self._network.infer_batch(self._network, images, device=str(self._device))
        return np.pad(np.concatenate(heads, axis=-1), ((0, 0), (lost, lost), (lost, lost), (0, 0)))

    def decode(self, maps: npt.NDArray[np.generic]) -> Predictions:
        """Turn the maps of one tile into polygons.

        The class of a nucleus is the most frequent type of its pixels, background aside; its
        probabilities are their shares; its score is their mean nuclear probability.

        Parameters
        ----------
        maps
            float32, shape (height, width, 3 or 4), as ``maps`` returns them for one image.
        """
        lost = self._geometry.lost
        # A step to the empty border would enter the gradients: decode without it.
        inner = maps[lost:-lost, lost:-lost].astype(np.float32, copy=False)
        nuclear = np.ascontiguousarray(inner[..., 0])
        # The public `postproc` goes on to contours through pixel centres, nucleus by nucleus.
        labels = self._network._proc_np_hv(nuclear[..., None], inner[..., 1:3])
        labels = _without_large(np.asarray(labels, np.int32))
        xy, offsets, label_ids = trace_labels(labels, nuclear, NUCLEAR_LEVEL)
        y, x = np.nonzero(labels)
        owner = labels[y, x].astype(np.int64)
        count = int(labels.max(initial=0)) + 1
        area = np.maximum(np.bincount(owner, minlength=count), 1)
        centroids = np.column_stack([np.bincount(owner, axis, count) / area for axis in (x, y)])
        scores = np.bincount(owner, nuclear[y, x], count) / area
        kinds = len(self._spec.classes) + 1
        types = np.rint(inner[y, x, 3]).astype(np.int64) if kinds > 1 else np.zeros_like(owner)
        pixels = np.bincount(owner * kinds + types, minlength=count * kinds).reshape(-1, kinds)
        pixels[:, 0] = 0  # background inside a nucleus says nothing of its class
        shares = (pixels[:, 1:] / area[:, None]).astype(np.float32)
        return Predictions(
            xy=xy + lost,
            offsets=offsets,
            anchors=centroids[label_ids] + (lost + 0.5),
            scores=scores[label_ids].astype(np.float32),
            classes=(pixels.argmax(axis=1) - 1)[label_ids].astype(np.int16),
            probabilities=shares[label_ids] if kinds > 1 else None,
        )


def _without_large(labels: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    sides = [max(s.stop - s.start for s in b) if b else 0 for b in ndimage.find_objects(labels)]
    keep = np.array([True, *(side <= LARGEST_OBJECT_PX for side in sides)])
    return np.where(keep[labels], labels, 0).astype(np.int32)


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
    try:
        with _logging_untouched():
            from tiatoolbox.models import architecture
            from tiatoolbox.models.architecture.hovernet import HoVerNet
    except ImportError as error:
        cause = f"{name} needs TIAToolbox, which cannot be imported ({error})"
        raise ModelError(f'{cause}: pip install "wsi-engine[tiatoolbox]"') from error
    if weights is None:
        try:
            weights = Path(architecture.fetch_pretrained_weights(name))
        except Exception as error:  # whatever the hub's client, its proxy or the disk raise
            cause = f"the weights of {name} cannot be downloaded ({type(error).__name__})"
            raise ModelError(f"{cause}: pass a weights file fetched elsewhere") from error
    network = HoVerNet(num_types=len(spec.classes) + 1 if spec.classes else None, mode=mode)
    _fit(network, _read_state(weights), weights)
    # A tile with a single nucleus is nothing to warn of, as the post-processing does.
    warnings.filterwarnings("ignore", "Only one label was provided")
    return HoVerNetModel(spec, network, torch.device("cpu"))


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


def _read_state(path: Path) -> Mapping[str, torch.Tensor]:
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


def _fit(network: torch.nn.Module, state: Mapping[str, torch.Tensor], path: Path) -> None:
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
