"""HoVer-Net on the processor, by OpenVINO."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from wsi_engine.models.devices import return_freed_memory
from wsi_engine.models.hovernet_network import Architecture, Array, HoVerNet
from wsi_engine.models.quantised import compiled_for_processor, openvino_core
from wsi_engine.models.state_dict import State, read_state

if TYPE_CHECKING:
    import openvino


class OpenVinoHoVerNet:
    """A network in fp32, compiled for the shape of each batch.

    What it was compiled from is not kept: weights are read again for another shape.

    Parameters
    ----------
    architecture
        What it is like.
    weights
        File of a state dict that fits it.
    """

    def __init__(self, architecture: Architecture, weights: Path) -> None:
        self._architecture, self._weights = architecture, weights
        self._compiled: tuple[object, Any] = (None, None)
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[OpenVinoHoVerNet], tuple[Architecture, Path]]:
        return OpenVinoHoVerNet, (self._architecture, self._weights)

    def __call__(
        self, batch: npt.NDArray[np.uint8], crop: int, *, types: bool = True
    ) -> npt.NDArray[np.float32]:
        """Predict from pixels; may be called by several threads at once."""
        network = self._for(batch.shape, crop, types)
        found = network.create_infer_request().infer(
            [np.ascontiguousarray(batch)], share_inputs=True, share_outputs=True
        )
        return np.asarray(found[0], np.float32)

    def _for(self, shape: tuple[int, ...], crop: int, types: bool) -> openvino.CompiledModel:
        wanted = (shape, crop, types)
        with self._lock:
            if self._compiled[0] != wanted:
                self._compiled = (None, None)  # one at a time: each has weights of its own
                self._compiled = (wanted, self._compile(*wanted))
            compiled: openvino.CompiledModel = self._compiled[1]
            return compiled

    def _compile(self, shape: tuple[int, ...], crop: int, types: bool) -> openvino.CompiledModel:
        state = read_state(self._weights)
        network = described(self._architecture, state, crop, types=types)
        network.reshape(list(shape))
        compiled = compiled_for_processor(network)
        del state, network
        return_freed_memory()
        return compiled


def described(
    architecture: Architecture, state: State, crop: int, *, types: bool = True
) -> openvino.Model:
    """Describe the network to OpenVINO: uint8 (n, h, w, 3) to float32 (n, h, w, maps)."""
    openvino_core()  # the first to load OpenVINO
    import openvino
    from openvino import opset13 as ops

    pixels = ops.parameter(openvino.PartialShape([-1, -1, -1, 3]), np.uint8)
    channels_first = ops.transpose(ops.convert(pixels, "f32"), np.array([0, 3, 1, 2]))
    maps = _Described(architecture, state).maps(channels_first, crop, types=types)
    return openvino.Model([ops.transpose(maps, np.array([0, 2, 3, 1]))], [pixels])


class _Described(HoVerNet[Any]):
    """A network of OpenVINO's operations."""

    def __init__(self, architecture: Architecture, state: State) -> None:
        super().__init__(architecture, state)
        from openvino import opset13

        self._ops = opset13

    def _constant(self, values: Array) -> Any:
        # (channels, 1, 1) goes with any batch.
        return self._ops.constant(np.ascontiguousarray(values, np.float32))

    def _convolved(
        self,
        x: Any,
        weight: Any,
        bias: Any,
        *,
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
        groups: int = 1,
    ) -> Any:
        before, after = (padding, padding) if isinstance(padding, int) else padding
        how = ([stride] * 2, [before] * 2, [after] * 2, [1, 1])
        if groups > 1:
            outputs, *others = weight.shape
            shape = np.array([groups, outputs // groups, *others])
            weight = self._ops.reshape(weight, shape, special_zero=False)
            y = self._ops.group_convolution(x, weight, *how)
        else:
            y = self._ops.convolution(x, weight, *how)
        return y if bias is None else self._ops.add(y, bias)

    def _relu(self, x: Any) -> Any:
        return self._ops.relu(x)

    def _sigmoid(self, x: Any) -> Any:
        return self._ops.sigmoid(x)

    def _added(self, x: Any, y: Any) -> Any:
        return self._ops.add(x, y)

    def _scaled(self, x: Any, scale: Any, shift: Any) -> Any:
        return self._ops.add(self._ops.multiply(x, scale), shift)

    def _joined(self, parts: Sequence[Any]) -> Any:
        return self._ops.concat(list(parts), 1)

    def _twice(self, x: Any) -> Any:
        return self._ops.interpolate(
            x,
            np.array([2, 2], np.float32),
            "nearest",
            "scales",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
            axes=np.array([2, 3]),
        )

    def _cropped(self, x: Any, border: int) -> Any:
        if border == 0:
            return x
        low, high, step, axes = ([border] * 2, [-border] * 2, [1, 1], [2, 3])
        return self._ops.slice(x, *(np.array(each) for each in (low, high, step, axes)))

    def _largest(self, x: Any) -> Any:
        found = self._ops.topk(x, np.int64(1), 1, "max", "none", index_element_type="i32")
        return self._ops.convert(found.output(1), "f32")
