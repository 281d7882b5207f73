"""What the metadata of a Zarr array may say before any of it is trusted: type, chunks, codecs."""

from __future__ import annotations

import math
from typing import Any

from wsi_engine.slide.ome_zarr.files import Files, read_json
from wsi_engine.slide.ome_zarr.unpacking import PACKERS, Packing

LARGEST_CHUNK_BYTES = 1 << 27
"""A chunk is decoded whole, by several threads at once; Dask makes none that are larger."""

MOST_CHUNKS_OF_A_SHARD = 1 << 18
"""The index of a shard has 16 bytes for each of its chunks, and is read again and again."""

_LOSSLESS = frozenset({"bytes", "endian", "transpose", "shuffle", "delta"})
"""Codecs that keep every value and the number of bytes. Any other is refused: "pickle" among those
of numcodecs runs what a file says."""

_SHARDS, _CHECKSUM = "sharding_indexed", "crc32c"


def check_array(files: Files, path: str) -> Packing:
    """Look at the metadata of an array before Zarr does; return how its chunks are packed.

    Raises
    ------
    ValueError
        When it is not there, not 8-bit, or has chunks or codecs that are not read.
    OSError
        When it cannot be read.
    """
    newer = read_json(files, f"{path}/zarr.json")
    if newer is not None:
        grid = newer.get("chunk_grid")
        chunk = _sizes(_settings(grid).get("chunk_shape"))
        kind, codecs = newer.get("data_type"), _named(newer.get("codecs"), "name")
    else:
        older = read_json(files, f"{path}/.zarray")
        if older is None:
            raise ValueError(f"its level {path!r} is not there: copy it again, whole")
        filters, compressor = older.get("filters") or [], older.get("compressor")
        chunk = _sizes(older.get("chunks"))
        kind = older.get("dtype")
        codecs = _named(filters, "id") + _named([compressor] if compressor else [], "id")
    if kind not in ("uint8", "|u1", "u1"):
        raise ValueError(f"its values are {str(kind)[:40]}: save colours as 8-bit RGB")
    if codecs and codecs[0][0] == _SHARDS:
        if len(codecs) > 1:
            raise ValueError("its shards are packed as a whole: save it with packed chunks")
        return _of_shards(codecs[0][1], chunk)
    return Packing(_packer(codecs, chunk))


def _packer(codecs: list[tuple[str, dict[str, Any]]], chunk: list[int]) -> str | None:
    """Return the codec that makes a chunk smaller, the last but for a checksum."""
    if math.prod(chunk) > LARGEST_CHUNK_BYTES:
        raise ValueError(
            f"its chunks have {math.prod(chunk) / 1e6:.0f} MB, more than "
            f"{LARGEST_CHUNK_BYTES / 1e6:.0f}: save it with smaller ones"
        )
    packer = None
    for name, _ in codecs:
        if packer is None and name in PACKERS:
            packer = name
        elif name != _CHECKSUM and (packer is not None or name not in _LOSSLESS):
            raise ValueError(
                f"its chunks are packed by {name!r}, where one of {', '.join(PACKERS)} is read: "
                "save it again with zstd"
            )
    return packer


def _of_shards(settings: dict[str, Any], shard: list[int]) -> Packing:
    chunk = _sizes(settings.get("chunk_shape"))
    if len(chunk) != len(shard) or any(map(int.__mod__, shard, chunk)):
        raise ValueError("its shards are no whole number of chunks")
    count = math.prod(shard) // math.prod(chunk)
    if count > MOST_CHUNKS_OF_A_SHARD:
        raise ValueError(f"its shards have {count} chunks, more than {MOST_CHUNKS_OF_A_SHARD}")
    index = [name for name, _ in _named(settings.get("index_codecs"), "name")]
    if index not in (["bytes"], ["bytes", _CHECKSUM]):
        raise ValueError("the index of its shards is packed, and none such is read")
    if settings.get("index_location", "end") != "end":
        raise ValueError("the index of its shards is at their start: save it with it at the end")
    packer = _packer(_named(settings.get("codecs"), "name"), chunk)
    return Packing(packer, count, index_bytes=16 * count + (4 if _CHECKSUM in index else 0))


def _named(codecs: Any, key: str) -> list[tuple[str, dict[str, Any]]]:
    """Return name and settings of each codec; one of numcodecs counts as Zarr's own."""
    if not isinstance(codecs, list) or not all(isinstance(codec, dict) for codec in codecs):
        raise ValueError("its list of codecs is not that of Zarr")
    return [
        (str(codec.get(key))[:40].removeprefix("numcodecs."), _settings(codec)) for codec in codecs
    ]


def _settings(part: Any) -> dict[str, Any]:
    settings = part.get("configuration") if isinstance(part, dict) else None
    return settings if isinstance(settings, dict) else {}


def _sizes(sizes: Any) -> list[int]:
    is_shape = isinstance(sizes, list) and all(
        isinstance(size, int) and not isinstance(size, bool) and size > 0 for size in sizes
    )
    if not is_shape:
        raise ValueError("its chunks have no size")
    return list(sizes)
