"""The card of a network that somebody else made: what it takes, what it gives, how it is read."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    model_validator,
)

from wsi_engine.errors import ModelError
from wsi_engine.models.foreign.decoders import DECODERS
from wsi_engine.models.protocol import ModelSpec

SUFFIXES = (".yaml", ".yml")

LARGEST_BYTES = 100_000
"""A card is a page; what is larger is none."""

Channel = Annotated[int, Field(ge=0, le=255)]
Share = Annotated[float, Field(gt=0, lt=1)]
Three = tuple[float, float, float]
Std = Annotated[float, Field(gt=0)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Input(_Section):
    """What is done to pixels of 0 to 255 before the network sees them.

    They are put in the order of ``channels``, divided by ``divide_by`` or, with ``percentiles``,
    stretched so that these of the slide's tissue become 0 and 1, channel by channel; then
    ``mean`` is taken off, and what is left divided by ``std``.
    """

    channels: Literal["RGB", "BGR"] = "RGB"
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    divide_by: Annotated[float, Field(gt=0)] = 255.0
    percentiles: tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(le=100)]] | None = None
    mean: Three = (0.0, 0.0, 0.0)
    std: tuple[Std, Std, Std] = (1.0, 1.0, 1.0)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.percentiles is not None and self.percentiles[0] >= self.percentiles[1]:
            raise ValueError("percentiles: give the lower one first")
        return self


class Source(_Section):
    """Where a map is among what the network gives.

    Attributes
    ----------
    output
        Place, from 0, or name of an output.
    channels
        Its channels; without them all.
    activation
        What the network leaves to be done, over all channels of the output.
    times
        Factor that brings the values to what the decoder takes.
    """

    output: NonNegativeInt | str = 0
    channels: tuple[NonNegativeInt, ...] | None = None
    activation: Literal["none", "sigmoid", "softmax"] = "none"
    times: float = 1.0


class Card(_Section):
    """A network of others, as ``configs/card_*.yaml`` show it; lengths are in model pixels.

    Attributes
    ----------
    file
        File of the network, in the folder of the card or below.
    mpp, stride, receptive_radius_px, largest_object_px
        See `wsi_engine.ModelSpec`; the radius is the network's alone.
    grid_px
        Model pixels per point of the outputs.
    border_px
        How much smaller than the image, on every side, the outputs are.
    patch_px
        Side of the only images that the network takes, if there is but one.
    maps
        The maps that the decoder takes, by name, and ``classes`` where there are some.
    threshold
        Probability from which on something is nucleus.
    classes
        Names of the classes by index, with their colours for QuPath.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
    summary: Annotated[str, Field(max_length=200)] = "Network described by a card"
    licence: Annotated[str, Field(max_length=200)] = "not stated"
    file: Annotated[str, Field(min_length=1)]
    format: Literal["torchscript", "onnx"]
    mpp: Annotated[float, Field(ge=0.05, le=20)]
    stride: Annotated[int, Field(ge=1, le=2048)]
    receptive_radius_px: Annotated[int, Field(ge=0, le=4096)]
    largest_object_px: Annotated[int, Field(ge=4, le=4096)]
    grid_px: PositiveInt = 1
    border_px: NonNegativeInt = 0
    patch_px: PositiveInt | None = None
    input: Input = Input()
    maps: dict[str, Source]
    decoder: Literal[
        "labels", "probability", "interior-boundary", "distance", "star-convex", "hovernet"
    ]
    threshold: Share = 0.5
    classes: dict[str, tuple[Channel, Channel, Channel] | None] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        needed = set(DECODERS[self.decoder].maps) | ({"classes"} if self.classes else set())
        if self.maps.keys() != needed:
            raise ValueError(
                f"maps: the decoder {self.decoder} takes {', '.join(sorted(needed))}, not "
                f"{', '.join(sorted(self.maps)) or 'none'}"
            )
        if self.stride % self.grid_px:
            raise ValueError(f"grid_px: {self.grid_px} does not divide the stride {self.stride}")
        if self.patch_px is not None and self.border_px:
            raise ValueError("border_px: leave it out where there is patch_px")
        if self.patch_px is not None and (self.patch_px < self.stride or self.margin_px % 1):
            raise ValueError(
                f"patch_px: {self.patch_px} must exceed the stride {self.stride} by an even number"
            )
        return self

    @property
    def margin_px(self) -> float:
        """How much of a patch, on every side, only serves the rest of it."""
        return 0 if self.patch_px is None else (self.patch_px - self.stride) / 2

    @property
    def spec(self) -> ModelSpec:
        """The facts the engine plans by."""
        decoder = DECODERS[self.decoder]
        return ModelSpec(
            name=self.name,
            summary=self.summary,
            mpp=self.mpp,
            stride=self.stride,
            receptive_radius_px=self.receptive_radius_px + decoder.reach_px(self.mpp, self.grid_px),
            largest_object_px=self.largest_object_px,
            classes=tuple(self.classes),
            colours=tuple(self.classes.values()),
            licence=self.licence,
            embedded=True,
            max_overlap=decoder.max_overlap,
        )


def is_card(name: str) -> bool:
    """Whether a model is asked for by the path of a card."""
    return name.lower().endswith(SUFFIXES)


def read_card(path: Path) -> tuple[Card, Path]:
    """Read a card, and find the file of its network.

    A card is plain YAML: tags, by which YAML makes objects, are refused.

    Raises
    ------
    ModelError
        When it is absent, no card, or its file is absent or outside of its folder.
    """
    try:
        status = path.stat()
        content = path.read_bytes() if status.st_size <= LARGEST_BYTES else None
    except OSError as error:
        raise ModelError(f"the card {path} cannot be read: {error.strerror}") from None
    if content is None:
        raise ModelError(f"{path} is no card of a model: it has {status.st_size:,} bytes")
    card = _parsed(path, content)
    folder = path.parent.resolve()
    file = (folder / card.file).resolve()
    if not file.is_relative_to(folder):
        raise ModelError(
            f"{path.name}: file = {card.file!r} is outside of the card's folder: put the network "
            "beside its card"
        )
    if not file.is_file():
        raise ModelError(f"{path.name}: file = {card.file!r}: there is no such file in {folder}")
    return card, file


@functools.lru_cache(maxsize=16)
def _parsed(path: Path, content: bytes) -> Card:
    """Parse a card; that of an archive is asked for thousands of times."""
    try:
        values: Any = yaml.safe_load(content)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(
            f"{path.name} is no card of a model, as it is no plain YAML: {reason}"
        ) from (None)
    if not isinstance(values, dict):
        raise ModelError(f"{path.name} is no card of a model: give `name: value` lines")
    try:
        return Card(**{str(name): value for name, value in values.items()})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        said = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            said = "a card has no such field"
        raise ModelError(f"{path.name}: {where + ': ' if where else ''}{said}") from None
