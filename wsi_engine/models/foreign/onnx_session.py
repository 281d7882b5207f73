"""Networks in ONNX, run by onnxruntime, which is an extra."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from wsi_engine.errors import ModelError
from wsi_engine.installing import install_command
from wsi_engine.models.devices import CPU, processor_threads
from wsi_engine.models.foreign.onnx_file import objection_to

_GPU_PROVIDER = "CUDAExecutionProvider"


@dataclass(frozen=True, eq=False)
class OnnxNetwork:
    """A network in ONNX on one device.

    Attributes
    ----------
    content
        The file.
    session
        What runs it, for one image at a time.
    name
        Name of the file, for errors.
    """

    content: bytes = field(repr=False)
    session: Any = field(repr=False)
    name: str
    device: str = CPU

    def to(self, device: str) -> Self:
        """Return the network on a device; this one stays where it is."""
        if device == self.device:
            return self
        return replace(self, session=_session(self.content, self.name, device), device=device)

    def __call__(self, pixels: npt.NDArray[np.float32]) -> dict[int | str, npt.NDArray[np.generic]]:
        """Run the network on one image, shape (1, ...); return its outputs by place and name."""
        taken = self.session.get_inputs()[0]
        fixed = zip(taken.shape, pixels.shape, strict=False)
        # A side that is not fixed has a name, or none.
        if len(taken.shape) != pixels.ndim or any(isinstance(a, int) and a != b for a, b in fixed):
            raise ModelError(
                f"{self.name} takes images of shape {_shown(taken.shape)}, not "
                f"{_shown(pixels.shape)}: see layout and patch_px in its card"
            )
        try:
            outputs = self.session.run(None, {taken.name: pixels})
        except Exception as error:  # what onnxruntime raises has no common class
            raise ModelError(
                f"{self.name} cannot be run on images of shape {_shown(pixels.shape)}: "
                f"{_reason(error)}"
            ) from None
        names = [output.name for output in self.session.get_outputs()]
        found: dict[int | str, npt.NDArray[np.generic]] = dict(enumerate(outputs))
        return found | dict(zip(names, outputs, strict=True))


def load_onnx(path: Path) -> OnnxNetwork:
    """Load a network, on the CPU, after a look at what files it names.

    Raises
    ------
    ModelError
        When onnxruntime is absent, or the file is damaged, rests on others, or takes something
        else than one image.
    """
    content = path.read_bytes()
    objection = objection_to(content)
    if objection is not None:
        raise ModelError(f"{path.name} is not loaded: {objection}")
    return OnnxNetwork(content, _session(content, path.name, CPU), path.name)


def _session(content: bytes, name: str, device: str) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ModelError(
            f"{name} needs onnxruntime, which cannot be imported ({error}): "
            f"{install_command('onnx')}"
        ) from None
    providers: list[Any] = ["CPUExecutionProvider"]
    if device != CPU:
        if _GPU_PROVIDER not in onnxruntime.get_available_providers():
            raise ModelError(
                f"{name}: the onnxruntime here computes on the processor only: give --device cpu, "
                "or install onnxruntime-gpu"
            )
        providers.insert(0, (_GPU_PROVIDER, {"device_id": int(device.partition(":")[2] or 0)}))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what is wrong is raised, too
    options.intra_op_num_threads = processor_threads()
    options.add_session_config_entry("session.load_model_format", "ONNX")
    try:
        session = onnxruntime.InferenceSession(content, options, providers=providers)
    except Exception as error:  # what onnxruntime raises has no common class
        raise ModelError(f"{name} is no ONNX that can be run: {_reason(error)}") from None
    inputs = session.get_inputs()
    if len(inputs) != 1 or inputs[0].type != "tensor(float)":
        taken = ", ".join(f"{each.name} of {each.type}" for each in inputs) or "nothing"
        raise ModelError(f"{name} takes {taken}, not one image of tensor(float)")
    return session


def _shown(shape: Any) -> str:
    return " x ".join(str(side or "any") for side in shape)


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200].rstrip(".:")
