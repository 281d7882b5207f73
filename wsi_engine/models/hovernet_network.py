"""The network of HoVer-Net, described once for all that compute it.

Convolutions of state dicts, as the authors and TIAToolbox write them, with their batch
normalisation folded in. It computes no more than nuclei need: of two outputs for nuclear or not
the difference, and none of HoVer-Net+'s tissue layers.

Method: Graham et al., Medical Image Analysis 58 (2019), 101563.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from wsi_engine.models.state_dict import State

T = TypeVar("T")
Array = npt.NDArray[np.float32]

_EPSILON = 1e-5
"""That of every batch normalisation of the network."""

_GROWTH, _BOTTLENECK, _GROUPS = 32, 128, 4
"""Growth, bottleneck and groups of its dense units."""

CROP_PX = 64
"""What the encoder's zeros spoil around a window, so that its decoder need not look at it."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """What one HoVer-Net has otherwise than another.

    Attributes
    ----------
    mode
        ``fast`` or ``original``: with kernels of 3 or 5 pixels in its decoder.
    types
        Kinds of pixels that it tells apart, background among them; 0 for none.
    layers
        Kinds of tissue that it tells apart, too, if it is a HoVer-Net+.
    """

    mode: str
    types: int = 0
    layers: int = 0

    @property
    def kernel(self) -> int:
        """Side of the decoder's kernels."""
        return 5 if self.mode == "original" else 3


class HoVerNet(ABC, Generic[T]):
    """A HoVer-Net on values of some library.

    Parameters
    ----------
    architecture
        What it is like.
    state
        Its parameters by name; see `parameter_shapes`.
    """

    def __init__(self, architecture: Architecture, state: State) -> None:
        self.architecture = architecture
        self._state = state
        self._placed: dict[str, tuple[T, T | None]] = {}

    def maps(self, pixels: T, crop: int, *, types: bool = True) -> T:
        """Describe the way from pixels to maps.

        Parameters
        ----------
        pixels
            (n, 3, h, w), 0 to 255; h and w multiples of 8, and 6 more for an ``original``.
        crop
            What is cut off around the encoder's output, in pixels, a multiple of 8. The outermost
            half kernel of the maps is then spoilt: the last layers but one pad with zeros.
        types
            Whether the type is wanted, where there is one.

        Returns
        -------
        T
            (n, 3 or 4, h - 2 b, w - 2 b), b what is lost at each side, and the crop:
            nuclear probability, horizontal and vertical distance, and type.
        """
        coarse, *skipped = self._encoded(pixels, crop)
        nuclear = self._branch("np", coarse, skipped, 1)
        maps = [self._sigmoid(nuclear), self._branch("hv", coarse, skipped, 2)]
        if types and self.architecture.types:
            kinds = self._branch("tp", coarse, skipped, self.architecture.types)
            maps.append(self._largest(kinds))
        return self._joined(maps)

    def _encoded(self, x: T, crop: int) -> list[T]:
        """Return what all branches begin with, and what they add on their way, coarse first."""
        fast = self.architecture.mode == "fast"
        first = self._weights("conv0./", (64, 3, 7, 7), norm="conv0.bn", scale=1 / 255)
        x = self._relu(self._convolved(x, *first, padding=3 * fast))
        found, inputs = [], 64
        for k, (units, middle, outputs) in enumerate(
            ((3, 64, 256), (4, 128, 512), (6, 256, 1024), (3, 512, 2048))
        ):
            x = self._residual(x, f"d{k}", units, inputs, middle, outputs, halved=k > 0)
            found.append(x)
            inputs = outputs
        coarse = self._layer(found[3], "conv_bot", 2048, 1024)
        reach = self.architecture.kernel // 2
        # Each layer of the decoder loses its reach: 9 on its coarsest grid, 5 on the next.
        cut = crop // 4
        quarters = self._cropped(found[2], cut)
        halves = self._cropped(found[1], cut := 2 * (cut + 9 * reach))
        wholes = self._cropped(found[0], 2 * (cut + 5 * reach))
        start = self._added(self._twice(self._cropped(coarse, crop // 8)), quarters)
        return [start, halves, wholes]

    def _residual(
        self, x: T, name: str, units: int, inputs: int, middle: int, outputs: int, *, halved: bool
    ) -> T:
        shortcut = self._weights(f"{name}.shortcut", (outputs, inputs, 1, 1))
        around = self._convolved(x, *shortcut, stride=1 + halved)
        for k in range(units):
            unit = f"{name}.units.{k}"
            step = halved and k == 0
            if k:
                inputs = outputs
                x = self._normalised(x, f"{unit}.preact/bn", inputs)
            x = self._relu(self._layer(x, f"{unit}.conv1", inputs, middle, norm=True))
            square = (middle, middle, 3, 3)
            weights = self._weights(f"{unit}.conv2", square, norm=f"{unit}.conv2/bn")
            x = self._relu(self._convolved(x, *weights, stride=1 + step, padding=(1 - step, 1)))
            around = x = self._added(self._layer(x, f"{unit}.conv3", middle, outputs), around)
        return self._normalised(x, f"{name}.blk_bna.bn", outputs)

    def _branch(self, name: str, coarse: T, skipped: Sequence[T], outputs: int) -> T:
        x, name = coarse, f"decoder.{name}"
        kernel = self.architecture.kernel
        for stage, inputs, middle, units, skip in (
            ("u3", 1024, 256, 8, skipped[0]),
            ("u2", 512, 128, 4, skipped[1]),
        ):
            at = f"{name}.{stage}"
            x = self._layer(x, f"{at}.conva", inputs, middle, kernel)
            x = self._dense(x, f"{at}.dense", middle, units)
            width = middle + units * _GROWTH
            x = self._layer(x, f"{at}.convf", width, width)
            x = self._added(self._twice(x), skip)
        x = self._layer(x, f"{name}.u1.conva", 256, 64, kernel, padding=kernel // 2)
        x = self._normalised(x, f"{name}.u0.bn", 64)
        return self._convolved(x, *self._answer(f"{name}.u0.conv", outputs))

    def _dense(self, x: T, name: str, width: int, units: int) -> T:
        kernel = self.architecture.kernel
        for k in range(units):
            unit = f"{name}.units.{k}"
            seen = self._normalised(x, f"{unit}.preact_bna/bn", width)
            found = self._relu(self._layer(seen, f"{unit}.conv1", width, _BOTTLENECK, norm=True))
            shape = (_GROWTH, _BOTTLENECK // _GROUPS, kernel, kernel)
            weights = self._weights(f"{unit}.conv2", shape)
            found = self._convolved(found, *weights, groups=_GROUPS)
            x = self._joined([self._cropped(x, kernel // 2), found])
            width += _GROWTH
        return self._normalised(x, f"{name}.blk_bna.bn", width)

    def _layer(
        self,
        x: T,
        name: str,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        *,
        padding: int = 0,
        norm: bool = False,
    ) -> T:
        shape = (outputs, inputs, kernel, kernel)
        weights = self._weights(name, shape, norm=f"{name}/bn" if norm else None)
        return self._convolved(x, *weights, padding=padding)

    def _normalised(self, x: T, name: str, width: int) -> T:
        """Normalise over the batch, and rectify."""

        def channels() -> tuple[Array, Array]:
            scale, shift = self._norm(name, width)
            return scale[:, None, None], shift[:, None, None]

        return self._relu(self._scaled(x, *self._once(name, channels)))

    def _answer(self, name: str, outputs: int) -> tuple[T, T | None]:
        """Return weights and bias of a branch's last layer: for a probability, of its odds."""

        def layer() -> tuple[Array, Array]:
            rows = max(outputs, 2)
            weight = self._parameter(f"{name}.weight", (rows, 64, 1, 1))
            bias = self._parameter(f"{name}.bias", (rows,))[:, None, None]
            if outputs == 1:
                return weight[1:] - weight[:1], bias[1:] - bias[:1]
            return weight, bias

        return self._once(name, layer)

    def _weights(
        self,
        name: str,
        shape: tuple[int, int, int, int],
        norm: str | None = None,
        scale: float = 1,
    ) -> tuple[T, T | None]:
        def layer() -> tuple[Array, Array | None]:
            weight = self._parameter(f"{name}.weight", shape)
            if norm is None:
                return weight, None
            factor, shift = self._norm(norm, shape[0])
            factor = factor * np.float32(scale)
            return weight * factor[:, None, None, None], shift[:, None, None]

        return self._once(name, layer)

    def _once(
        self, name: str, make: Callable[[], tuple[Array, Array | None]]
    ) -> tuple[T, T | None]:
        if name not in self._placed:
            first, second = make()
            constant = None if second is None else self._constant(second)
            self._placed[name] = self._constant(first), constant
        return self._placed[name]

    def _norm(self, name: str, width: int) -> tuple[Array, Array]:
        weight, bias, mean, variance = (
            self._parameter(f"{name}.{each}", (width,))
            for each in ("weight", "bias", "running_mean", "running_var")
        )
        scale = weight / np.sqrt(variance + np.float32(_EPSILON))
        return scale, bias - mean * scale

    def _parameter(self, name: str, shape: tuple[int, ...]) -> Array:
        del shape  # checked where the state was read
        return np.asarray(self._state[name], np.float32)

    @abstractmethod
    def _constant(self, values: Array) -> T: ...

    @abstractmethod
    def _convolved(
        self,
        x: T,
        weight: T,
        bias: T | None,
        *,
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
        groups: int = 1,
    ) -> T:
        """Convolve; the padding of zeros is before and after."""

    @abstractmethod
    def _relu(self, x: T) -> T: ...

    @abstractmethod
    def _sigmoid(self, x: T) -> T: ...

    @abstractmethod
    def _added(self, x: T, y: T) -> T: ...

    @abstractmethod
    def _scaled(self, x: T, scale: T, shift: T | None) -> T: ...

    @abstractmethod
    def _joined(self, parts: Sequence[T]) -> T:
        """Put channels together."""

    @abstractmethod
    def _twice(self, x: T) -> T:
        """Repeat each value in both directions."""

    @abstractmethod
    def _cropped(self, x: T, border: int) -> T: ...

    @abstractmethod
    def _largest(self, x: T) -> T:
        """Return the number of the largest channel."""


def parameter_shapes(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    """Return the shape of each parameter of a network, by its name in state dicts.

    Those are among them that nuclei do not need: what counts batches, and tissue layers.
    """
    listing = _Listing(architecture)
    listing.maps(None, 0)
    found = listing.shapes
    if layers := architecture.layers:
        first = "decoder.np."
        branch = {name: shape for name, shape in found.items() if name.startswith(first)}
        for name, shape in branch.items():
            last = name.startswith(f"{first}u0.conv.")
            found[f"decoder.ls.{name.removeprefix(first)}"] = (
                (layers, *shape[1:]) if last else shape
            )
    norms = [name for name in found if name.endswith(".running_var")]
    found |= {n.removesuffix("running_var") + "num_batches_tracked": () for n in norms}
    return found | {"upsample2x.unpool_mat": (2, 2)}


class _Listing(HoVerNet[None]):
    """A network that only notes which parameters it has."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__(architecture, {})
        self.shapes: dict[str, tuple[int, ...]] = {}

    def _parameter(self, name: str, shape: tuple[int, ...]) -> Array:
        self.shapes[name] = shape
        return np.broadcast_to(np.float32(1), shape)

    def _nothing(self, *_values: object, **_settings: object) -> None:
        return None

    _constant = _convolved = _relu = _sigmoid = _added = _scaled = _nothing
    _joined = _twice = _cropped = _largest = _nothing
