"""HoVer-Net on the processor, by OpenVINO."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from wsi_engine.models.hovernet_network import Architecture, Array, HoVerNet, State

if TYPE_CHECKING:
    import openvino


def described(architecture: Architecture, state: State, crop: int) -> openvino.Model:
    """Describe the network to OpenVINO: uint8 (n, h, w, 3) to float32 (n, h, w, maps)."""
    import openvino
    from openvino import opset13 as ops

    pixels = ops.parameter(openvino.PartialShape([-1, -1, -1, 3]), np.uint8)
    channels_first = ops.transpose(ops.convert(pixels, "f32"), np.array([0, 3, 1, 2]))
    maps = _Described(architecture, state).maps(channels_first, crop)
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
