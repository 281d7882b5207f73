"""How large packed chunks become, told before they are unpacked: a few bytes may become GBs."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

LARGEST_UNPACKED_BYTES = 1 << 29
"""What a chunk may become, whatever its array says."""

PACKERS = ("blosc", "gzip", "lz4", "zlib", "zstd")
"""Codecs of which it can be told."""

_DEFLATE_RATIO = 1032
"""Deflate makes no more of a byte."""

_ZSTD_MAGIC = bytes.fromhex("28b52ffd")
_ZSTD_LARGEST_BLOCK = 1 << 17
_CHECKSUM_BYTES = 4
_NOT_THERE = 2**64 - 1
_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class Packing:
    """How the chunks of an array are packed.

    Attributes
    ----------
    packer
        The one of `PACKERS` that makes them smaller; ``None`` if none does.
    chunks_per_shard, index_bytes
        Chunks in each shard, and bytes of the index at its end; 0 where there are no shards.
    """

    packer: str | None
    chunks_per_shard: int = 0
    index_bytes: int = 0

    def check_chunk(self, data: bytes) -> None:
        """Raise ``ValueError`` if a chunk would become too large."""
        self._check(_unpacked_bytes(self.packer, data))

    def check_shard(self, data: bytes) -> None:
        """Raise ``ValueError`` if the chunks of a shard would together become too large."""
        end = 16 * self.chunks_per_shard - self.index_bytes
        index = np.frombuffer(data[-self.index_bytes : end or None], "<u8").reshape(-1, 2)
        there = index[index[:, 0] != _NOT_THERE].tolist()
        parts = (data[start : start + count] for start, count in there)
        self._check(sum(_unpacked_bytes(self.packer, part) for part in parts))

    def _check(self, unpacked_bytes: int) -> None:
        if unpacked_bytes > LARGEST_UNPACKED_BYTES:
            raise ValueError(
                f"a chunk would grow to more than {LARGEST_UNPACKED_BYTES / 1e6:.0f} MB"
            )


def _unpacked_bytes(packer: str | None, data: bytes) -> int:
    """Return the most that a decoder can make of a chunk."""
    if packer is None:
        return len(data)
    if packer == "blosc":
        return int.from_bytes(data[4:8], "little")
    if packer == "lz4":
        return int.from_bytes(data[:4], "little")
    if packer == "zstd":
        return _most_of_zstd(data)
    most = len(data) * _DEFLATE_RATIO
    return most if most <= LARGEST_UNPACKED_BYTES else _counted(data)


def _counted(data: bytes) -> int:
    """Inflate without keeping anything, as far as is allowed."""
    found = 0
    while data and found <= LARGEST_UNPACKED_BYTES:
        stream = zlib.decompressobj(zlib.MAX_WBITS | 32)
        while not stream.eof and found <= LARGEST_UNPACKED_BYTES:
            try:
                piece = stream.decompress(data, _PIECE)
            except zlib.error:
                return found  # its decoder says what is wrong
            data = stream.unconsumed_tail
            found += len(piece)
            if not piece and not data:
                return found
        data = stream.unused_data
    return found


def _most_of_zstd(data: bytes) -> int:
    """Add up the blocks of the frames (RFC 8878), or what the frames say if that is more."""
    place, most, stated = 0, 0, 0
    while place == 0 or len(data) - place > _CHECKSUM_BYTES:
        if data[place : place + 4] != _ZSTD_MAGIC or len(data) < place + 6:
            return LARGEST_UNPACKED_BYTES + 1  # whatever it is, it was not written by Zarr
        descriptor = data[place + 4]
        is_single = descriptor >> 5 & 1
        size_bytes = (is_single, 2, 4, 8)[descriptor >> 6]
        place += 6 - is_single + (0, 1, 2, 4)[descriptor & 3]
        stated += int.from_bytes(data[place : place + size_bytes], "little")
        place += size_bytes
        is_last = False
        while not is_last and place < len(data):
            header = int.from_bytes(data[place : place + 3], "little")
            is_last, kind, size = bool(header & 1), header >> 1 & 3, header >> 3
            most += size if kind < 2 else _ZSTD_LARGEST_BLOCK
            place += 3 + (1 if kind == 1 else size)
        place += _CHECKSUM_BYTES * (descriptor >> 2 & 1)
    return max(most, stated)
