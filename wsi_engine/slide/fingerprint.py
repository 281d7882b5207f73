"""A cheap fingerprint of a slide's content, and a watch on its files."""

from __future__ import annotations

import hashlib
import os
import time
from bisect import bisect_right
from itertools import accumulate
from pathlib import Path

from wsi_engine.errors import SlideChangedError, SlideError

SAMPLE_BYTES = 1 << 20

MOST_TIME_WATCHING = 0.05
"""Share of the time that may go into looking at the files of a folder again and again."""


def fingerprint(path: Path) -> str:
    """Hash the size of a slide and three megabytes of it: its beginning, middle and end.

    Enough to tell slides apart and to notice that one was exchanged, at no cost for files
    of gigabytes; no proof against tampering. The name does not count. A slide that is a folder
    counts as its files one after the other, those near the top and small ones first, as they hold
    what describes the others; all their names and sizes count, too.

    Returns
    -------
    str
        32 hexadecimal digits.
    """
    files = _files(path)
    size = sum(length for _, length in files)
    digest = hashlib.sha256(str(size).encode())
    if path.is_dir():
        for name, length in files:
            digest.update(f"\0{name}\0{length}".encode(errors="surrogatepass"))
    for start in (0, max(0, size // 2 - SAMPLE_BYTES // 2), max(0, size - SAMPLE_BYTES)):
        for part in _read(path, files, start, SAMPLE_BYTES):
            digest.update(part)
    return digest.hexdigest()[:32]


class FileWatch:
    """Notices that a slide vanishes or changes, by the names, sizes and times of its files.

    Parameters
    ----------
    path
        File or folder; as it is now is how it shall stay.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rests_until = 0.0
        self._state = self._look() if path.exists() else None

    def check(self, *, now: bool = False) -> None:
        """Look again; at a folder of many files only now and then, unless it must be now.

        Raises
        ------
        SlideChangedError
            When the slide is not what it was; nothing read since the last look can be trusted.
        SlideError
            When it is gone.
        """
        if not now and time.monotonic() < self._rests_until:
            return
        if self._look() != self._state:
            raise SlideChangedError(
                f"{self._path} was changed while it was read, and what was found so far is "
                "dropped: run it again once it is complete"
            )

    def _look(self) -> tuple[int, ...]:
        began = time.monotonic()
        try:
            status = self._path.stat()
            if not self._path.is_dir():
                return status.st_size, status.st_mtime_ns
            seen = hash(
                tuple(
                    (name, size, (self._path / name).stat().st_mtime_ns)
                    for name, size in _files(self._path)
                )
            )
        except OSError as error:
            raise SlideError(
                f"{self._path} is gone ({error.strerror}): what was found is kept, and the same "
                "command goes on when the slide is back"
            ) from None
        ended = time.monotonic()
        self._rests_until = ended + (ended - began) / MOST_TIME_WATCHING
        return (seen,)


def _files(path: Path) -> list[tuple[str, int]]:
    """Return names within a slide, with ``/``, and sizes; a file is the only one of itself."""
    if not path.is_dir():
        return [("", path.stat().st_size)]
    found = []
    for folder, below, names in os.walk(path, onerror=_raise):
        below.sort()
        for name in names:
            file = Path(folder, name)
            found.append((file.relative_to(path).as_posix(), file.stat().st_size))
    return sorted(found, key=lambda file: (file[0].count("/"), file[1], file[0]))


def _raise(error: OSError) -> None:
    raise error


def _read(path: Path, files: list[tuple[str, int]], start: int, count: int) -> list[bytes]:
    """Read bytes from files as if they followed each other."""
    ends = list(accumulate(length for _, length in files))
    parts = []
    for k in range(bisect_right(ends, start), len(files)):
        name, length = files[k]
        with (path / name).open("rb") as stream:
            stream.seek(start - (ends[k] - length))
            parts.append(stream.read(min(count, length)))
        start, count = ends[k], count - len(parts[-1])
        if count <= 0:
            break
    return parts
