"""A cheap fingerprint of a slide's content, and a watch on its files."""

from __future__ import annotations

import hashlib
import time
from bisect import bisect_right
from itertools import accumulate
from pathlib import Path

from wsi_engine.errors import SlideChangedError, SlideError
from wsi_engine.slide.slide_files import SlideFile, slide_files

SAMPLE_BYTES = 1 << 20

SMALLEST_SAMPLE_BYTES, SAMPLES_OF_A_SLIDE_BYTES = 1 << 14, 1 << 26
"""Bytes that are sampled of all files of a slide: of each the fewer, the more there are."""

MOST_TIME_WATCHING = 0.05
"""Share of the time that may go into looking at the files of a folder again and again."""


def fingerprint(path: Path) -> str:
    """Hash the size of a slide and three megabytes of it: its beginning, middle and end.

    Enough to tell slides apart and to notice that one was exchanged, at no cost for files
    of gigabytes; no proof against tampering. The name does not count. A slide that is a folder
    counts as its files one after the other, those near the top and small ones first, as they hold
    what describes the others; all their names and sizes count, too. Of a slide that is several
    files (DICOM, MIRAX, VMS and their like) each is sampled; it does not matter which was named.

    Returns
    -------
    str
        32 hexadecimal digits.
    """
    files = _files(path)
    if not path.is_dir() and len(files) > 1:
        share = SAMPLES_OF_A_SLIDE_BYTES // (3 * len(files))
        sample = min(SAMPLE_BYTES, max(SMALLEST_SAMPLE_BYTES, share))
        digest = hashlib.sha256()
        for file, length in files:
            digest.update(f"\0{file.label}\0{length}\0".encode(errors="surrogatepass"))
            digest.update(_sampled([(file, length)], sample).digest())
        return digest.hexdigest()[:32]
    if path.is_dir():
        names = "".join(f"\0{file.label}\0{length}" for file, length in files)
        return _sampled(files, SAMPLE_BYTES, names).hexdigest()[:32]
    return _sampled(files, SAMPLE_BYTES).hexdigest()[:32]


class FileWatch:
    """Notices that a slide vanishes or changes, by the names, sizes and times of its files.

    Parameters
    ----------
    path
        File or folder; as it is now is how it shall stay, with all files of the slide.
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

    def _look(self) -> int:
        began = time.monotonic()
        try:
            self._path.stat()
            seen = hash(
                tuple(
                    (file.label, size, file.path.stat().st_mtime_ns)
                    for file, size in _files(self._path)
                )
            )
        except OSError as error:
            raise SlideError(
                f"{self._path} is gone ({error.strerror}): what was found is kept, and the same "
                "command goes on when the slide is back"
            ) from None
        ended = time.monotonic()
        self._rests_until = ended + (ended - began) / MOST_TIME_WATCHING
        return seen


def _files(path: Path) -> list[tuple[SlideFile, int]]:
    """Return the files of a slide and their sizes, those near the top and small ones first."""
    files = [(file, file.path.stat().st_size) for file in slide_files(path)]
    return sorted(files, key=lambda it: (it[0].label.count("/"), it[1], it[0].label))


def _sampled(files: list[tuple[SlideFile, int]], sample: int, names: str = "") -> hashlib._Hash:
    """Hash the size of files, and samples of them, as if they followed each other."""
    size = sum(length for _, length in files)
    digest = hashlib.sha256(f"{size}{names}".encode(errors="surrogatepass"))
    for start in (0, max(0, size // 2 - sample // 2), max(0, size - sample)):
        for part in _read(files, start, sample):
            digest.update(part)
    return digest


def _read(files: list[tuple[SlideFile, int]], start: int, count: int) -> list[bytes]:
    """Read bytes from files as if they followed each other."""
    ends = list(accumulate(length for _, length in files))
    parts = []
    for k in range(bisect_right(ends, start), len(files)):
        file, length = files[k]
        with file.path.open("rb") as stream:
            stream.seek(start - (ends[k] - length))
            parts.append(stream.read(min(count, length)))
        start, count = ends[k], count - len(parts[-1])
        if count <= 0:
            break
    return parts
