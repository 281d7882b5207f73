"""A foreign network behind the engine's protocol."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt
from scipy import special

from wsi_engine.errors import ModelError
from wsi_engine.models.foreign.card import Card, Source, read_card
from wsi_engine.models.foreign.decoders import DECODERS, Reading, links_of, with_classes
from wsi_engine.models.hovernet_decoding import (
    SlopeExtremes,
    extremes_of_fields,
    ideal_extremes,
)
from wsi_engine.models.hovernet_scale import scale_at
from wsi_engine.models.map_model import require_whole_strides
from wsi_engine.models.patches import in_patches
from wsi_engine.models.protocol import ModelSpec
from wsi_engine.nuclei.predictions import Predictions

CALIBRATION_FIELDS = 8
"""Fields on which HoVer-Net's slopes are looked for."""

Outputs = Mapping[int | str, npt.NDArray[np.generic]]


class Network(Protocol):
    """What runs the file of a card."""

    def to(self, device: str) -> Self:
        """Return the network on a device."""
        ...

    def __call__(self, pixels: npt.NDArray[np.float32]) -> Outputs:
        """Run it on one image; return its outputs by place and name."""
        ...


@dataclass(frozen=True, eq=False)
class ForeignModel:
    """A network as its card describes it.

    One image at a time is run, so the maps of a tile do not depend on what else is in a batch.

    Attributes
    ----------
    low, high
        Levels of the slide that become 0 and 1, channel by channel, red first, where the card
        asks for percentiles; set for the slide by ``calibrate``.
    extremes
        Slopes of the slide, for HoVer-Net's decoder.
    """

    card: Card
    network: Network
    low: tuple[float, ...] = (0.0, 0.0, 0.0)
    high: tuple[float, ...] = (255.0, 255.0, 255.0)
    extremes: SlopeExtremes | None = None

    @property
    def spec(self) -> ModelSpec:
        """The facts the engine plans by."""
        return self.card.spec

    def calibrate(self, fields: npt.NDArray[np.uint8]) -> Self:
        """Set what the card leaves to the slide: percentiles, and HoVer-Net's slopes."""
        model = self
        if self.card.input.percentiles is not None:
            pixels = fields.reshape(-1, 3)
            low, high = np.percentile(pixels, self.card.input.percentiles, axis=0).tolist()
            model = replace(self, low=tuple(low), high=tuple(high))
        if self.card.decoder != "hovernet":
            return model
        count = min(len(fields), CALIBRATION_FIELDS)
        chosen = np.linspace(0, len(fields) - 1, count).round().astype(int)
        maps = (model.maps(_whole_strides(fields[k], self.card.stride)[None])[0] for k in chosen)
        extremes = extremes_of_fields(maps, scale_at(self._reading.mpp))
        return model if extremes is None else replace(model, extremes=extremes)

    def settings(self) -> dict[str, float]:
        """Return the threshold, and what was found on the slide."""
        found = {"threshold": self.card.threshold}
        if self.card.input.percentiles is not None:
            for name, low, high in zip(("red", "green", "blue"), self.low, self.high, strict=True):
                found |= {f"{name}_low": low, f"{name}_high": high}
        if self.extremes is not None:
            found |= {f"slope_{k}_per_point": v for k, v in asdict(self.extremes).items()}
        return found

    def to(self, device: str) -> Self:
        """Return the model on a device, in the precision of its file."""
        return replace(self, network=self.network.to(device))

    def maps(self, batch: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Run the network.

        Parameters
        ----------
        batch
            uint8 (n, h, w, 3), h and w multiples of the stride.

        Returns
        -------
        numpy.ndarray
            float32 (n, h / grid, w / grid, maps): those of the decoder, then the classes.

        Raises
        ------
        ModelError
            When the network does not give what the card says.
        """
        require_whole_strides(batch, self.spec)
        if len(batch) == 0:
            height, width = batch.shape[1:3]
            stride, grid = self.card.stride, self.card.grid_px
            channels = self._maps_of(np.zeros((stride, stride, 3), np.uint8)).shape[2]
            return np.empty((0, height // grid, width // grid, channels), np.float32)
        return np.stack([self._maps_of(image) for image in batch])

    def decode(self, maps: npt.NDArray[np.generic]) -> Predictions:
        """Turn the maps of one tile into polygons, as the card's decoder does."""
        values = np.asarray(maps, np.float32)
        classes = len(self.card.classes)
        own = values.shape[2] - classes
        found = DECODERS[self.card.decoder].decode(values[..., :own], self._reading)
        if classes:
            found = with_classes(found, values[..., own:])
        grid = self.card.grid_px
        return replace(found, xy=found.xy * grid, anchors=found.anchors * grid)

    @property
    def _reading(self) -> Reading:
        card = self.card
        mpp = card.mpp * card.grid_px
        return Reading(
            threshold=card.threshold,
            mpp=mpp,
            longest=card.largest_object_px // card.grid_px,
            extremes=self.extremes or ideal_extremes(mpp),
        )

    def _maps_of(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return the maps of one image, shape (h / grid, w / grid, maps)."""
        side = self.card.patch_px
        if side is None:
            border = self.card.border_px
            around = ((border, border), (border, border), (0, 0))
            padded = np.pad(image, around, mode="symmetric") if border else image
            return self._run(padded, *image.shape[:2])
        if self.card.grid_px != 1:
            raise ModelError(f"{self.spec.name}: patch_px needs outputs as fine as the image")
        return in_patches(lambda patch: self._run(patch, side, side), image, side, self.card.stride)

    def _run(
        self, image: npt.NDArray[np.uint8], height: int, width: int
    ) -> npt.NDArray[np.float32]:
        """Run the network on an image, for maps of so many pixels."""
        card = self.card
        outputs = self.network(self._input(image))
        shape = (height // card.grid_px, width // card.grid_px)
        decoder = DECODERS[card.decoder]
        columns = [self._column(outputs, name, shape, decoder.maps[name]) for name in decoder.maps]
        if card.classes:
            columns.append(self._column(outputs, "classes", shape, len(card.classes)))
        maps = np.concatenate(columns, axis=-1)
        if not np.isfinite(maps).all():
            raise ModelError(f"{self.spec.name} computed NaN or infinity: its file is damaged")
        return maps

    def _input(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Normalise one image as the card says, shape (1, 3, h, w) or (1, h, w, 3)."""
        how = self.card.input
        pixels = image.astype(np.float32)
        if how.percentiles is None:
            pixels /= np.float32(how.divide_by)
        else:
            low, high = np.array(self.low, np.float32), np.array(self.high, np.float32)
            pixels = (pixels - low) / np.maximum(high - low, 1)
        if how.channels == "BGR":
            pixels = pixels[..., ::-1]
        mean, std = (np.array(three, np.float32) for three in (how.mean, how.std))
        pixels = np.asarray((pixels - mean) / std, np.float32)
        if how.layout == "NCHW":
            pixels = np.moveaxis(pixels, -1, 0)
        return np.ascontiguousarray(pixels[None])

    def _column(
        self, outputs: Outputs, name: str, shape: tuple[int, int], channels: int
    ) -> npt.NDArray[np.float32]:
        """Take one of the decoder's maps out of the outputs, shape (h, w, channels)."""
        source = self.card.maps[name]
        output = outputs.get(source.output)
        if output is None:
            there = ", ".join(str(key) for key in outputs)
            raise ModelError(
                f"{self.spec.name}: there is no output {source.output!r} for the map {name!r}: "
                f"there are {there}"
            )
        values = output
        if values.ndim == 3:
            values = values[..., None]
        elif values.ndim == 4 and self.card.input.layout == "NCHW":
            values = np.moveaxis(values, 1, -1)
        if values.ndim != 4 or values.shape[:3] != (1, *shape):
            raise ModelError(
                f"{self.spec.name}: output {source.output!r} has shape {output.shape}, and "
                f"its card says {shape[1]} x {shape[0]} points: see layout, grid_px and border_px"
            )
        found = _activated(values[0].astype(np.float32), source)
        if source.channels is not None:
            if max(source.channels, default=0) >= found.shape[2]:
                raise ModelError(
                    f"{self.spec.name}: output {source.output!r} has {found.shape[2]} channels, "
                    f"and the map {name!r} wants {list(source.channels)} of them, from 0"
                )
            found = found[..., list(source.channels)]
        wrong = found.shape[2] < 3 if channels == 0 else found.shape[2] != channels
        if wrong:
            raise ModelError(
                f"{self.spec.name}: the map {name!r} has {channels or 'at least 3'} channel(s), "
                f"and output {source.output!r} gives {found.shape[2]}: choose with channels"
            )
        if self.card.decoder == "labels" and name == "labels":
            return links_of(found[..., 0])[..., None]
        return found * np.float32(source.times)


def load_card(path: Path) -> ForeignModel:
    """Load the network of a card, on the CPU.

    Raises
    ------
    ModelError
        When the card or its file are not what they should be, or an extra is absent.
    """
    card, file = read_card(path)
    network: Network
    try:
        if card.format == "onnx":
            from wsi_engine.models.foreign.onnx_session import load_onnx

            network = load_onnx(file)
        else:
            from wsi_engine.models.foreign.torchscript import load_torchscript

            network = load_torchscript(file)
    except OSError as error:
        raise ModelError(f"{file} cannot be read: {error.strerror}") from None
    return ForeignModel(card, network)


def _activated(values: npt.NDArray[np.float32], source: Source) -> npt.NDArray[np.float32]:
    if source.activation == "sigmoid":
        return np.asarray(special.expit(values))
    if source.activation == "softmax":
        return np.asarray(special.softmax(values, axis=-1), np.float32)
    return values


def _whole_strides(field: npt.NDArray[np.uint8], stride: int) -> npt.NDArray[Any]:
    """Cut a field of tissue to whole strides, or mirror it where it is less than one."""
    sides = [side // stride * stride or stride for side in field.shape[:2]]
    around = [(0, max(0, want - side)) for want, side in zip(sides, field.shape[:2], strict=True)]
    return np.pad(field, [*around, (0, 0)], mode="symmetric")[: sides[0], : sides[1]]
