"""A Zarr store that only reads, and nothing that is too large."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any

from zarr.abc.store import (
    ByteRequest,
    OffsetByteRequest,
    RangeByteRequest,
    Store,
    SuffixByteRequest,
)
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype

from wsi_engine.slide.ome_zarr.files import LARGEST_READ_BYTES, Files
from wsi_engine.slide.ome_zarr.metadata import MARKERS
from wsi_engine.slide.ome_zarr.unpacking import Packing


class CheckedStore(Store):
    """Gives Zarr the files of a hierarchy, each checked before anything is made of it.

    Parameters
    ----------
    files
        The files.
    packings
        How the chunks of each array are packed, by the array's path.
    """

    supports_writes = False
    supports_deletes = False
    supports_listing = False

    def __init__(self, files: Files, packings: dict[str, Packing]) -> None:
        super().__init__(read_only=True)
        self._files = files
        self._packings = packings

    def __eq__(self, other: object) -> bool:
        return self is other

    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Read a file or a part of it; ``None`` if it is not there."""
        size = self._files.size(key)
        if size is None:
            return None
        start, stop = _part(size, byte_range)
        if stop - start > LARGEST_READ_BYTES:
            raise ValueError(f"{key} has {(stop - start) / 1e6:.0f} MB, which is no chunk")
        data = self._files.read(key, start, stop - start)
        self._check(key, data, byte_range)
        return (prototype or default_buffer_prototype()).buffer.from_bytes(data)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Read parts of several files."""
        return [await self.get(key, prototype, part) for key, part in key_ranges]

    async def exists(self, key: str) -> bool:
        """Tell whether there is a file of that name."""
        return self._files.size(key) is not None

    async def set(self, key: str, value: Buffer) -> None:
        """Refuse to write."""
        raise PermissionError(key)

    async def delete(self, key: str) -> None:
        """Refuse to delete."""
        raise PermissionError(key)

    def list(self) -> AsyncIterator[str]:
        """Refuse to list."""
        raise NotImplementedError

    def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Refuse to list."""
        raise NotImplementedError

    def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Refuse to list."""
        raise NotImplementedError

    def _check(self, key: str, data: bytes, part: ByteRequest | None) -> None:
        if key.rpartition("/")[2] in MARKERS:
            return
        packing: Packing = next(
            packing for path, packing in self._packings.items() if key.startswith(f"{path}/")
        )
        if not packing.chunks_per_shard or isinstance(part, RangeByteRequest):
            packing.check_chunk(data)
        elif part is None:
            packing.check_shard(data)


def _part(size: int, part: Any) -> tuple[int, int]:
    """Return where a part of a file starts and ends, within the file."""
    if isinstance(part, RangeByteRequest):
        return min(part.start, size), max(min(part.end, size), min(part.start, size))
    if isinstance(part, OffsetByteRequest):
        return min(part.offset, size), size
    if isinstance(part, SuffixByteRequest):
        return max(size - part.suffix, 0), size
    return 0, size
