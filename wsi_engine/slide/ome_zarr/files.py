"""The files of a Zarr hierarchy: in a folder, in a ZIP file, or on another file system."""

from __future__ import annotations

import json
import os
import stat
import threading
import zipfile
from pathlib import Path
from typing import Any, Protocol

from wsi_engine.errors import SlideError

LARGEST_METADATA_BYTES = 1 << 24
"""Consolidated metadata of many levels and labels have a few MiB."""

LARGEST_READ_BYTES = 1 << 29
"""No chunk, packed as it is, and no shard that has to be read as a whole may be larger."""


class Files(Protocol):
    """Files by name, parts of which are separated by ``/``; safe to use from many threads."""

    def size(self, name: str) -> int | None:
        """Return the bytes of a file, ``None`` if there is none of that name."""
        ...

    def read(self, name: str, start: int, count: int) -> bytes:
        """Read a part of a file, as much as there is of it."""
        ...

    def close(self) -> None:
        """Let go of what is held open."""
        ...


class FolderFiles:
    """The files below a folder. No symbolic link is followed: it may lead anywhere.

    The fingerprint of a slide, and the watch on it, do not look behind such links, either.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def size(self, name: str) -> int | None:
        """Return the bytes of a file, ``None`` if there is none.

        Raises
        ------
        OSError
            When it is, or lies behind, a symbolic link, or is no plain file.
        """
        place = str(self._root)
        parts = name.split("/")
        for part in parts:
            place = os.path.join(place, part)  # noqa: PTH118 - asked for each chunk
            try:
                status = os.lstat(place)
            except (FileNotFoundError, NotADirectoryError):
                return None
            if stat.S_ISLNK(status.st_mode):
                raise OSError(f"{name} leads through a symbolic link, and none is followed")
        if stat.S_ISDIR(status.st_mode):
            return None
        if not stat.S_ISREG(status.st_mode):
            raise OSError(f"{name} is no plain file")
        return status.st_size

    def read(self, name: str, start: int, count: int) -> bytes:
        """Read a part of a file."""
        with (self._root / name).open("rb") as stream:
            stream.seek(start)
            return stream.read(count)

    def close(self) -> None:
        """Do nothing: nothing is held open."""


class ZipFiles:
    """The files in a ZIP file, or in its only folder; it is held open."""

    def __init__(self, path: Path) -> None:
        try:
            self._zip = zipfile.ZipFile(path)
        except zipfile.BadZipFile as error:
            raise SlideError(f"{path.name} is damaged: {error}") from None
        self._lock = threading.Lock()
        tops = {name.partition("/")[0] for name in self._zip.NameToInfo}
        self._top = f"{tops.pop()}/" if len(tops) == 1 else ""

    def size(self, name: str) -> int | None:
        """Return the bytes of a file, ``None`` if there is none."""
        info = self._zip.NameToInfo.get(self._top + name)
        return None if info is None or info.is_dir() else info.file_size

    def read(self, name: str, start: int, count: int) -> bytes:
        """Read a part of a file."""
        try:
            with self._lock, self._zip.open(self._top + name) as stream:
                stream.seek(start)
                return stream.read(count)
        # Encrypted, of another compression, or damaged.
        except (RuntimeError, NotImplementedError, ValueError, zipfile.BadZipFile) as error:
            raise OSError(f"{name} cannot be read: {error}") from None

    def close(self) -> None:
        """Close the file."""
        self._zip.close()


def read_json(files: Files, name: str) -> dict[str, Any] | None:
    """Read a file of metadata, ``None`` if there is none.

    Raises
    ------
    ValueError
        When it is no JSON object, or larger than `LARGEST_METADATA_BYTES`.
    OSError
        When it cannot be read.
    """
    size = files.size(name)
    if size is None:
        return None
    if size > LARGEST_METADATA_BYTES:
        raise ValueError(f"{name} has {size / 1e6:.0f} MB, which is no metadata")
    try:
        content = json.loads(files.read(name, 0, size))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name} is no JSON: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{name} is no JSON object")  # noqa: TRY004 - a damaged file
    return content
