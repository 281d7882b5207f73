"""A table of nuclei that many threads read, one at a time."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from wsi_engine.results.nucleus_table import GeoParquetReader


class SharedTable:
    """Gives threads their turn at a table; it is open as long as they ask.

    Parameters
    ----------
    table
        The table.

    Attributes
    ----------
    group_starts
        First row of each row group, and the number of rows, shape (groups + 1,).
    """

    def __init__(self, table: GeoParquetReader) -> None:
        self._table = table
        self._lock = threading.Lock()
        self.group_starts: npt.NDArray[np.int64] = table.group_starts

    def group(self, k: int, columns: Sequence[str]) -> pa.Table:
        """Read some columns of one row group."""
        with self._lock:
            return self._table.group(k, columns)

    def column(self, name: str) -> npt.NDArray[np.float32]:
        """Read one column of numbers, shape (n,)."""
        with self._lock:
            return np.asarray(self._table.column(name).to_numpy(), np.float32)
