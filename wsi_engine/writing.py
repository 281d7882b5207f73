"""Files that appear whole or not at all, and clear words for why they cannot."""

from __future__ import annotations

import errno
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wsi_engine.errors import OutputError

_PROBLEMS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EACCES: "no permission to write there",
    errno.EPERM: "no permission to write there",
    errno.EROFS: "the disk is read-only",
    errno.ENOENT: "there is no such folder",
    errno.ENOTDIR: "part of the path is a file",
    errno.EEXIST: "a file is in the way",
    errno.EISDIR: "a folder is in the way",
    errno.ENAMETOOLONG: "the name is too long",
    errno.EFBIG: "a file would grow larger than is allowed there",
}


@contextmanager
def atomic_path(path: Path, *, keep_name: bool = False) -> Iterator[Path]:
    """Give a temporary path beside the target, and move it there when the block succeeds.

    The data is on disk before the name is; when the block raises, or the process dies, a
    file of the target's name is either absent or the old one.

    Parameters
    ----------
    path
        The target; its folder must exist.
    keep_name
        For writers that go by the name of a file: the temporary path has that of the target.
    """
    if keep_name:
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
            yield Path(folder) / path.name
            _move(Path(folder) / path.name, path)
        return
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        _move(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _move(partial: Path, path: Path) -> None:
    sync(partial)
    partial.replace(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Flush a file, or a folder's list of names, to disk."""
    if path.is_dir() and os.name != "posix":
        return  # Windows has no handle on a folder to flush
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def clear_write_errors(place: Path) -> Iterator[None]:
    """Turn the ways in which writing fails into one sentence that names the place."""
    try:
        yield
    except OSError as error:
        problem = _PROBLEMS.get(error.errno or 0)
        if problem is None:
            raise
        raise OutputError(f"cannot write to {place}: {problem}") from None
    except sqlite3.Error as error:
        raise OutputError(f"cannot write to {place}: {error}") from None
