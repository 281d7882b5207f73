"""State dicts as arrays, read without torch where that is possible.

Importing torch takes longer than reading the weights of any network here, and more memory than
many of them. What is not as `torch.save` has written it since 2020, torch itself reads.
"""

from __future__ import annotations

import collections
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from wsi_engine.errors import ModelError

State = Mapping[str, npt.NDArray[np.generic]]
"""Parameters by name."""

_STORAGES = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "LongStorage": np.dtype("<i8"),
}

SHOWN = 3  # mismatching keys that an error names


def read_state(path: Path) -> State:
    """Read a state dict; what else a pickle holds is not made.

    Parameters
    ----------
    path
        A .safetensors file, or what ``torch.save`` wrote: the state dict itself, or, as the
        authors of HoVer-Net have it, one under ``desc``.

    Raises
    ------
    ModelError
        If there is no such file, or it holds something else.
    """
    if not path.is_file():
        raise ModelError(f"there is no weights file {path}")
    try:
        state = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickled(path)
    except Exception as error:  # unpickling a damaged file can raise anything
        raise ModelError(f"{path} is no weights file ({type(error).__name__})") from error
    state = state.get("desc", state) if isinstance(state, dict) else None
    if not state or not all(isinstance(value, np.ndarray) for value in state.values()):
        raise ModelError(f"{path} holds no state dict: save the network's state_dict()")
    return dict(state)


def require_fit(state: State, wanted: Mapping[str, tuple[int, ...]], path: Path) -> None:
    """Raise `ModelError`, with the first parameters that do not match, unless a state dict fits.

    Parameters
    ----------
    wanted
        Shape of each parameter of the network, by its name.
    path
        File of the state dict.
    """
    found = {key: value.shape for key, value in state.items()}
    problems = [
        f"{key} ({found.get(key, 'none')} in the file, {wanted.get(key, 'none')} in the network)"
        for key in dict(wanted) | found
        if found.get(key) != wanted.get(key)
    ]
    if problems:
        more = f" and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        shown = ", ".join(problems[:SHOWN]) + more
        raise ModelError(f"the weights {path} do not fit the network: {shown}")


def _read_safetensors(path: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except (KeyError, TypeError, SafetensorError):  # numpy has no bfloat16
        from safetensors.torch import load_file as load_tensors

        return _as_arrays(load_tensors(path))


def _read_pickled(path: Path) -> Any:
    try:
        with zipfile.ZipFile(path) as archive:
            (name,) = (each for each in archive.namelist() if each.endswith("/data.pkl"))
            with archive.open(name) as stream:
                return _Tensors(stream, archive, name.removesuffix(".pkl")).load()
    except Exception:  # an older format, or other kinds of numbers
        import torch

        return _as_arrays(torch.load(path, map_location="cpu", weights_only=True))


def _as_arrays(value: Any) -> Any:
    """Make arrays of all tensors in nested dicts."""
    import torch

    if isinstance(value, dict):
        return {key: _as_arrays(each) for key, each in value.items()}
    if isinstance(value, torch.Tensor):
        return (value.float() if value.is_floating_point() else value).numpy()
    return value


class _Tensors(pickle.Unpickler):
    """Reads what ``torch.save`` wrote, of which it makes arrays and nothing else."""

    def __init__(self, stream: BinaryIO | Any, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(stream)
        self._archive, self._folder = archive, folder
        self._arrays: dict[str, npt.NDArray[np.generic]] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuilt
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        raise pickle.UnpicklingError(f"{module}.{name} is no part of a state dict")

    def persistent_load(self, pid: Any) -> npt.NDArray[np.generic]:
        _, dtype, key, _, _ = pid
        if key not in self._arrays:
            content = self._archive.read(f"{self._folder}/{key}")
            self._arrays[key] = np.frombuffer(content, dtype)
        return self._arrays[key]


def _rebuilt(
    storage: npt.NDArray[np.generic],
    offset: int,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    *_others: object,
) -> npt.NDArray[np.generic]:
    last = offset + sum((side - 1) * step for side, step in zip(shape, strides, strict=True))
    if min((offset, *shape, *strides)) < 0 or (0 not in shape and last >= len(storage)):
        raise pickle.UnpicklingError("a tensor reaches beyond its storage")
    bytes_of = [step * storage.itemsize for step in strides]
    return np.lib.stride_tricks.as_strided(storage[offset:], shape, bytes_of, writeable=False)
