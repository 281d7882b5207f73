"""Everything that is known of single nuclei, some rows of the table at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from wsi_engine.view.kept import Kept
from wsi_engine.view.shared_table import SharedTable

ROWS_IN_CHUNK = 128

GROUPS_KEPT = 4


class Values:
    """Chunks of so many rows, with their ids, texts and all numbers.

    Parameters
    ----------
    table
        The table.
    numbers
        Names of the columns of numbers.
    texts
        Names of the columns of text, such as ``roi``.

    Attributes
    ----------
    texts
        Names of all texts that come along, ``id`` and ``class`` first.
    """

    def __init__(self, table: SharedTable, numbers: Sequence[str], texts: Sequence[str]) -> None:
        self._table = table
        self._numbers = tuple(numbers)
        self.texts = ("id", "class", *texts)
        self._read = Kept(self._read_group, GROUPS_KEPT)
        self._rows = int(table.group_starts[-1])

    @property
    def chunks(self) -> int:
        """Number of chunks."""
        return -(-self._rows // ROWS_IN_CHUNK)

    def encoded(self, chunk: int) -> bytes:
        """Return a chunk as JSON: lists of texts by name, and a list of numbers per nucleus.

        Numbers stand in the order of ``numbers``; what is not defined is ``null``.
        """
        first = chunk * ROWS_IN_CHUNK
        table = self._slice(first, min(first + ROWS_IN_CHUNK, self._rows))
        texts = {name: table[name].to_pylist() for name in self.texts}
        columns = [table[name].to_numpy() for name in self._numbers]
        numbers = np.column_stack([np.asarray(column, np.float32) for column in columns])
        content = {"texts": texts, "numbers": np.ascontiguousarray(numbers)}
        return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)

    def _slice(self, first: int, stop: int) -> pa.Table:
        starts = self._table.group_starts
        parts: list[Any] = []
        for k in np.unique(np.searchsorted(starts, np.arange(first, stop), "right") - 1):
            start = max(first, int(starts[k]))
            end = min(stop, int(starts[k + 1]))
            parts.append(self._read[int(k)].slice(start - int(starts[k]), end - start))
        return pa.concat_tables(parts)

    def _read_group(self, k: int) -> pa.Table:
        return self._table.group(k, [*self.texts, *self._numbers])
