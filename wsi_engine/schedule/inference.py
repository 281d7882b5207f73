"""Running a device on fixed-shape batches, and on smaller ones where memory runs out."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from wsi_engine.errors import DeviceError

log = logging.getLogger(__name__)

Batch = npt.NDArray[np.uint8]
Maps = npt.NDArray[np.generic]


class FittingInference:
    """Calls a model; when a batch does not fit the device, halves it and goes on.

    The size that fitted is kept, so memory runs out once and not at every batch.

    Parameters
    ----------
    infer
        Takes uint8 (n, height, width, 3) and returns maps (n, ...).

    Raises
    ------
    DeviceError
        When not even a single tile fits.
    """

    def __init__(self, infer: Callable[[Batch], Maps]) -> None:
        self._infer = infer
        self.largest_batch: int | None = None

    def __call__(self, batch: Batch) -> Maps:
        """Return the maps of a batch."""
        size = min(len(batch), self.largest_batch or len(batch))
        while True:
            try:
                parts = [
                    self._infer(batch[start : start + size]) for start in range(0, len(batch), size)
                ]
                return parts[0] if len(parts) == 1 else np.concatenate(parts)
            except (MemoryError, RuntimeError) as error:
                if not _is_out_of_memory(error):
                    raise
            if size == 1:
                side = batch.shape[1]
                raise DeviceError(
                    f"one tile of {side} x {side} px does not fit the device: choose a smaller "
                    "--tile-size, or --device cpu"
                )
            size = self.largest_batch = size // 2
            _release_memory()
            log.warning("the device is out of memory: going on with batches of %d", size)


def _is_out_of_memory(error: BaseException) -> bool:
    """Tell whether a batch did not fit the device."""
    # torch's own class is known by its name, so that it need not be imported for this.
    known = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return known or "out of memory" in str(error) or "can't allocate memory" in str(error)


def _release_memory() -> None:
    """Give back what torch keeps of the memory of a GPU."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
