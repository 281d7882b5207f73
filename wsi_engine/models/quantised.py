"""Networks in whole numbers on the processor, run by OpenVINO.

Weights and activations of 8 bits take half the time of bf16 and a quarter of that of fp32, on
processors with and without instructions for either; sums of whole numbers do not depend on
their order. OpenVINO is loaded in a tenth of the time that torch needs, and knows no Python code.
"""

from __future__ import annotations

import importlib.util
import sys
import threading
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from wsi_engine.errors import ModelError
from wsi_engine.models.devices import processor_threads

if TYPE_CHECKING:
    import openvino

_CONVERTER = "openvino.tools.ovc"

_SHAPES_KEPT = 2
"""Compiled for so many shapes at once: that of whole batches, and that of the last."""


def is_usable() -> bool:
    """Tell whether this machine can run networks by OpenVINO."""
    return importlib.util.find_spec("openvino") is not None


class QuantisedNetwork:
    """A network of one input and one output, compiled for the shape of each batch.

    Parameters
    ----------
    path
        OpenVINO's description of it, ``.xml``, which is data; its weights lie beside it in a
        ``.bin``. It takes uint8 (n, h, w, 3) and gives maps, (n, h / grid, w / grid, channels).

    Raises
    ------
    ModelError
        If OpenVINO cannot read it; not before the first batch.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._compiled: dict[tuple[int, ...], Any] = {}
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[QuantisedNetwork], tuple[Path]]:
        return QuantisedNetwork, (self._path,)

    def __call__(self, batch: npt.NDArray[np.uint8]) -> npt.NDArray[np.generic]:
        """Predict from pixels; may be called by several threads at once."""
        if len(batch) == 0:
            return self(np.zeros((1, *batch.shape[1:]), np.uint8))[:0]
        network = self._for(batch.shape)
        # A request of its own for each call: what one gives is overwritten by its next. The maps
        # hold the memory that they are in.
        found = network.create_infer_request().infer(
            [np.ascontiguousarray(batch)], share_inputs=True, share_outputs=True
        )
        return np.asarray(found[0])

    def _for(self, shape: tuple[int, ...]) -> openvino.CompiledModel:
        with self._lock:
            if shape not in self._compiled:
                while len(self._compiled) >= _SHAPES_KEPT:
                    del self._compiled[next(iter(self._compiled))]
                self._compiled[shape] = self._compile(shape)
            return self._compiled[shape]

    def _compile(self, shape: tuple[int, ...]) -> openvino.CompiledModel:
        try:
            network = openvino_core().read_model(self._path)
            network.reshape(list(shape))
            return compiled_for_processor(network)
        except RuntimeError as error:
            first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ModelError(
                f"OpenVINO cannot use {self._path} ({first_line}): install this package again"
            ) from error


def compiled_for_processor(network: openvino.Model) -> openvino.CompiledModel:
    """Compile a network of a fixed shape, on this process's share of the processor."""
    settings = {
        # What is not in whole numbers is computed alike by all processors.
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": processor_threads(),
        "NUM_STREAMS": 1,
        # Workers that share a machine must not sit on the same cores.
        "ENABLE_CPU_PINNING": False,
    }
    return openvino_core().compile_model(network, "CPU", settings)


@cache
def openvino_core() -> openvino.Core:
    """Return OpenVINO, without its converter."""
    # With openvino comes its converter, which sends a notice of each start to Google unless the
    # user has opted out; openvino does without it where it cannot be imported.
    already = _CONVERTER in sys.modules
    if not already:
        sys.modules[_CONVERTER] = None  # type: ignore[assignment]
    try:
        import openvino
    finally:
        if not already:
            del sys.modules[_CONVERTER]
    return openvino.Core()
