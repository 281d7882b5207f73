"""Copies of remote slides on a disk of this machine, of bounded size, shared by processes.

Every entry is a folder, and beside it its size, noted before the first byte comes, and a file
that is locked: alone while the entry is made or removed, together while it is read. The system
frees the locks of a process that dies.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from wsi_engine.archive.locks import FileLock
from wsi_engine.archive.names import is_url
from wsi_engine.archive.remote import file_system, files_of
from wsi_engine.errors import SettingsError, SlideError
from wsi_engine.writing import atomic_path, clear_write_errors

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_CHUNK = 1 << 22
_FILES_AT_ONCE = 16
_LONGEST_NAME = 100
_SECONDS_BETWEEN_TRIES = 0.2


@dataclass(frozen=True, slots=True)
class CacheSettings:
    """Where copies are kept, and how many bytes of them."""

    folder: Path
    most_bytes: int = 100 * 10**9


def default_folder() -> Path:
    """Return the place for copies of slides in the user's folder for caches."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "wsi-engine" / "slides"


def parse_bytes(text: str) -> int:
    """Read a size such as ``500MB`` or ``1.5 TB``.

    Raises
    ------
    SettingsError
        When it is none.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)b?", text.strip().lower())
    if match is None or float(match[1]) == 0:
        raise SettingsError(f"--cache-size {text}: give a size, such as 500GB")
    return round(float(match[1]) * _UNITS[match[2]])


@contextmanager
def local_copy(path: str, cache: CacheSettings) -> Iterator[Path]:
    """Give a local path of a slide for the block; a path of this machine is given as it is.

    A slide that is named by URL is copied with all of its files. While it is in use it stays;
    afterwards it goes when room is needed, the longest unused first.

    Raises
    ------
    SlideError
        When it cannot be fetched, or is larger than the whole cache.
    OutputError
        When the copy cannot be written.
    """
    if not is_url(path):
        yield Path(path)
        return
    with clear_write_errors(cache.folder):
        cache.folder.mkdir(parents=True, exist_ok=True)
        system, there = file_system(path)
        files = _listed(path, system, there)
    entry = cache.folder / _key(path, system, files)
    with FileLock(_lock(entry)) as lock:
        lock.share()
        while not entry.is_dir():
            # Of several that want it one copies it, and the others wait.
            lock.own()
            if not entry.is_dir():
                with clear_write_errors(cache.folder):
                    _fetch(path, system, files, entry, cache.most_bytes)
            lock.share()  # in between somebody may have made room of it
        os.utime(entry)
        yield entry / _safe(files[0][1]).parts[0]


_Files = list[tuple[str, PurePosixPath, int]]


def _listed(url: str, system: Any, there: str) -> _Files:
    try:
        files = list(files_of(system, there))
    except FileNotFoundError:
        raise SlideError(f"{url}: no such file") from None
    # Every file system has errors of its own.
    except Exception as error:
        raise SlideError(f"{url} cannot be looked at: {error}") from None
    if not files:
        raise SlideError(f"{url} is an empty folder")
    return files


def _key(url: str, system: Any, files: _Files) -> str:
    """Name of an entry: another one when the file there has changed."""
    token = str(system.ukey(files[0][0])) if hasattr(system, "ukey") else ""
    content = [url, token, *[f"{beside} {size}" for _, beside, size in files]]
    return hashlib.sha256("\n".join(content).encode(errors="surrogatepass")).hexdigest()[:32]


def _safe(beside: PurePosixPath) -> Path:
    """Return a path in the entry that cannot leave it, and is no longer than file systems allow."""
    parts = [part for part in beside.parts if part not in ("/", "..", ".")]
    first = parts[0]
    if len(first.encode()) > _LONGEST_NAME * 2:
        stem, suffix = PurePosixPath(first).stem, PurePosixPath(first).suffix
        parts[0] = stem[:_LONGEST_NAME] + suffix
    return Path(*parts)


def _fetch(url: str, system: Any, files: _Files, entry: Path, most_bytes: int) -> None:
    size = sum(size for *_, size in files)
    if size > most_bytes:
        raise SlideError(
            f"{url} has {size / 1e9:.2f} GB, which do not fit into a cache of "
            f"{most_bytes / 1e9:.2f} GB: give a larger --cache-size"
        )
    while not _reserve(size, entry, most_bytes):
        time.sleep(_SECONDS_BETWEEN_TRIES)  # all that is there is in use
    growing = entry.with_suffix(".growing")
    shutil.rmtree(growing, ignore_errors=True)

    def copy(there: str, beside: PurePosixPath) -> None:
        target = growing / _safe(beside)
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as sink:
            for chunk in _chunks(url, system, there):
                sink.write(chunk)

    # Of many small files, as OME-Zarr has, each costs the way there and back.
    at_once = _FILES_AT_ONCE if getattr(system, "async_impl", False) else 1
    with ThreadPoolExecutor(at_once) as pool:
        for _ in pool.map(copy, [there for there, *_ in files], [file[1] for file in files]):
            pass
    growing.rename(entry)


def _chunks(url: str, system: Any, there: str) -> Iterator[bytes]:
    try:
        with system.open(there, "rb") as source:
            while chunk := source.read(_CHUNK):
                yield chunk
    except FileNotFoundError:
        raise SlideError(f"{url}: no such file") from None
    # Every file system has errors of its own.
    except Exception as error:
        raise SlideError(f"{url} cannot be read: {error}") from None


def _reserve(size: int, entry: Path, most_bytes: int) -> bool:
    """Note the size of an entry that will be made, removing the longest unused ones for it."""
    with FileLock(entry.parent / "room.lock") as room:
        room.own()
        sizes = {path: int(path.read_text()) for path in entry.parent.glob("*.size")}
        sizes.pop(entry.with_suffix(".size"), None)
        for path in sorted(sizes, key=lambda path: _used_at(path.with_suffix(""))):
            if sum(sizes.values()) + size <= most_bytes:
                break
            if _remove(path.with_suffix("")):
                del sizes[path]
        if sum(sizes.values()) + size > most_bytes:
            return False
        with atomic_path(entry.with_suffix(".size")) as partial:
            partial.write_text(str(size))
        return True


def _remove(entry: Path) -> bool:
    """Remove an entry, also one that was never finished, unless it is in use."""
    with FileLock(_lock(entry)) as lock:
        if not lock.try_own():
            return False
        if entry.is_dir():
            entry.rename(entry.with_suffix(".growing"))  # at once: never is a part of it there
        shutil.rmtree(entry.with_suffix(".growing"), ignore_errors=True)
        entry.with_suffix(".size").unlink()
        return True


def _lock(entry: Path) -> Path:
    return entry.with_suffix(".lock")


def _used_at(entry: Path) -> int:
    """When an entry was last asked for, as the disk counts time; one without copy comes first."""
    return entry.stat().st_mtime_ns if entry.is_dir() else 0
