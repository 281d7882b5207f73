"""Calling what AOTInductor compiled, through its C interface.

``torch._inductor.aoti_load_package`` imports the whole compiler before it loads anything, and its
packages hold Python's lock while they run (pytorch#197516), so that nothing could be read or
decoded meanwhile. A call by ctypes does neither.
"""

from __future__ import annotations

import ctypes
import zipfile
from pathlib import Path

import torch
from torch._C import _aoti

_pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
_pointer_of.restype, _pointer_of.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
_capsule_of = ctypes.pythonapi.PyCapsule_New
_capsule_of.restype = ctypes.py_object
_capsule_of.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]


class MachineCode:
    """A compiled network of one input and one output on the CPU.

    Parameters
    ----------
    library
        The shared object; it stays loaded as long as the process lives.

    Raises
    ------
    OSError, AttributeError, RuntimeError
        If it is not one that AOTInductor made, or not for this processor and torch.
    """

    def __init__(self, library: Path) -> None:
        self._library = ctypes.CDLL(str(library))
        self._container = ctypes.c_void_p()
        _check(
            self._library.AOTInductorModelContainerCreateWithDevice(
                ctypes.byref(self._container), ctypes.c_size_t(1), b"cpu", None
            )
        )

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """Run the network. Not to be called by several threads at once."""
        (given,) = _aoti.unsafe_alloc_void_ptrs_from_tensors([pixels])
        inputs, outputs = (ctypes.c_void_p * 1)(_pointer_of(given, None)), (ctypes.c_void_p * 1)()
        one = ctypes.c_size_t(1)
        _check(
            self._library.AOTInductorModelContainerRun(
                self._container, inputs, one, outputs, one, None, None
            )
        )
        maps: torch.Tensor
        (maps,) = _aoti.alloc_tensors_by_stealing_from_void_ptrs(
            [_capsule_of(outputs[0], None, None)]
        )
        return maps


def extract_library(package: Path, library: Path) -> None:
    """Take the shared object, which holds the weights too, out of AOTInductor's package."""
    with zipfile.ZipFile(package) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".so"))
        library.write_bytes(archive.read(name))


def _check(code: int) -> None:
    if code:
        raise RuntimeError(f"AOTInductor's code {code}")
