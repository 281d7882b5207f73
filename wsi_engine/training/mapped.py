"""Arrays that lie in a temporary file in place of memory."""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Place:
    """Where an array lies in the file."""

    start: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def within(self, mapped: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        """Return the array as a view of the bytes of the whole file."""
        stop = self.start + math.prod(self.shape) * self.dtype.itemsize
        return mapped[self.start : stop].view(self.dtype).reshape(self.shape)


class MappedArrays:
    """Arrays are put into a file one by one, and can then be read as if they were in memory.

    The system reads what of them is looked at, and forgets it when memory is needed. The file
    has no name, and is gone with the process.

    Parameters
    ----------
    folder
        Folder whose disk holds the file; the system's for temporary files if not given.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - as long as the arrays
        self._end = 0

    def put(self, array: npt.NDArray[Any]) -> Place:
        """Append an array; return where it is."""
        place = Place(self._end, array.shape, array.dtype)
        self._file.write(np.ascontiguousarray(array).tobytes())
        # Every array begins at a whole number of any type.
        self._end += array.nbytes + -array.nbytes % 16
        self._file.seek(self._end)
        return place

    def arrays(self, places: list[Place]) -> list[npt.NDArray[Any]]:
        """Return arrays that were put in before."""
        if not places:
            return []
        self._file.truncate(self._end)
        self._file.flush()
        # Copies on write: what is compiled for arrays in memory takes these, too.
        mapped = np.memmap(self._file, np.uint8, "c")
        return [np.asarray(place.within(mapped)) for place in places]
