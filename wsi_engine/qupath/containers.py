"""The bytes of a GeoJSON file, whether plain, gzipped or in a zip archive.

What a file is shows in its first bytes: a wrong extension does no harm. Nothing is ever unpacked
to disk, so that the names of an archive's entries are no more than names.
"""

from __future__ import annotations

import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from wsi_engine.errors import GeoJSONError, reason_for
from wsi_engine.qupath.json_stream import Readable

EXTENSIONS = (".json", ".geojson", ".qpdata")
"""Ends of the names of files, and of entries of archives, that QuPath reads; ``.gz`` may follow."""

SERIALISED = b"\xac\xed\x00\x05"
"""The first bytes of what Java wrote of its own objects, as QuPath does into a .qpdata file."""

BOMB_RATIO = 100
BOMB_BYTES = 1 << 28
"""Objects pack 5 to 20 times. What grows 100 times, and beyond 256 MiB, is an attack."""

_DAMAGE = (
    OSError,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
    RuntimeError,  # an encrypted entry
    NotImplementedError,  # a compression that Python does not have
    ValueError,
)


class Part(NamedTuple):
    """One stream of JSON.

    Attributes
    ----------
    name
        Name of the file; of an entry of an archive, ``archive.zip/entry.geojson``.
    stream
        The bytes, to be read before the next part is asked for. Raises `GeoJSONError` where
        they are damaged.
    """

    name: str
    stream: Readable


def open_parts(path: str | Path) -> Iterator[Part]:
    """Open what a file holds: a zip archive gives each entry with QuPath's extensions.

    Raises
    ------
    GeoJSONError
        When the file is absent or cannot be opened.
    """
    path = Path(path)
    with ExitStack() as stack:
        try:
            file = stack.enter_context(path.open("rb"))
            magic = file.read(4)
            size = file.seek(0, io.SEEK_END)
            file.seek(0)
        except FileNotFoundError:
            raise GeoJSONError(f"{path}: no such file") from None
        except OSError as error:
            raise GeoJSONError(f"{path} cannot be read: {reason_for(error)}") from None
        if magic in (b"PK\x03\x04", b"PK\x05\x06"):
            try:
                archive = stack.enter_context(zipfile.ZipFile(file))
            except _DAMAGE as error:
                raise GeoJSONError(f"{path.name} cannot be read: {reason_for(error)}") from None
            yield from _entries(path.name, archive, size)
        else:
            yield Part(path.name, _Guarded(path.name, file, _Ratio(size)))


def is_archive(path: str | Path) -> bool:
    """Tell whether a file is a zip archive, by its content."""
    try:
        with Path(path).open("rb") as file:
            return file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")
    except OSError:
        return False


def begins_serialised(stream: Readable) -> tuple[bool, Readable]:
    """Tell whether a stream holds serialised objects; the stream returned still holds all of it."""
    first = b""
    while len(first) < len(SERIALISED) and (more := stream.read(len(SERIALISED) - len(first))):
        first += more
    return first == SERIALISED, _Rewound(first, stream)


def has_extension(name: str) -> bool:
    """Tell whether QuPath would look into a file of this name."""
    return name.lower().removesuffix(".gz").endswith(EXTENSIONS)


def _entries(name: str, archive: zipfile.ZipFile, size: int) -> Iterator[Part]:
    ratio = _Ratio(size)
    for entry in archive.infolist():
        # macOS puts a file of attributes beside each true one.
        hidden = PurePosixPath(entry.filename).name.startswith("._")
        if entry.is_dir() or hidden or not has_extension(entry.filename):
            continue
        label = f"{name}/{entry.filename}"
        try:
            file = archive.open(entry)
        except _DAMAGE as error:
            yield Part(label, _Broken(label, error))
            continue
        with file:
            yield Part(label, _Guarded(label, file, ratio))


def _unpacked(file: IO[bytes]) -> Readable:
    """Unpack what begins like gzip."""
    buffered = io.BufferedReader(file, 1 << 16)  # type: ignore[type-var]
    if buffered.peek(2)[:2] == b"\x1f\x8b":
        return gzip.GzipFile(fileobj=buffered, mode="rb")
    return buffered


class _Ratio:
    """Counts what is unpacked from how much: entries of one archive may share their bytes."""

    def __init__(self, packed: int) -> None:
        self._limit = max(packed * BOMB_RATIO, BOMB_BYTES)
        self._unpacked = 0

    def add(self, count: int) -> bool:
        """Count bytes; false beyond the limit."""
        self._unpacked += count
        return self._unpacked <= self._limit


class _Guarded:
    """A stream whose damage is an error that names it."""

    def __init__(self, name: str, file: IO[bytes], ratio: _Ratio) -> None:
        self._name = name
        self._file = file
        self._stream: Readable | None = None
        self._ratio = ratio

    def read(self, size: int, /) -> bytes:
        try:
            if self._stream is None:
                self._stream = _unpacked(self._file)
            data = self._stream.read(size)
        except _DAMAGE as error:
            raise GeoJSONError(f"{self._name} cannot be read: {error}") from None
        if not self._ratio.add(len(data)):
            raise GeoJSONError(
                f"{self._name} unpacks to more than {BOMB_RATIO} times its size: "
                "it is no export of objects"
            )
        return data


class _Rewound:
    """A stream of which the first bytes were read already."""

    def __init__(self, first: bytes, stream: Readable) -> None:
        self._first = first
        self._stream = stream

    def read(self, size: int, /) -> bytes:
        if self._first and size:
            data, self._first = self._first[:size], self._first[size:]
            return data
        return self._stream.read(size)


class _Broken:
    """An entry that does not even open."""

    def __init__(self, name: str, error: Exception) -> None:
        self._message = f"{name} cannot be read: {error}"

    def read(self, size: int, /) -> bytes:
        raise GeoJSONError(self._message)
