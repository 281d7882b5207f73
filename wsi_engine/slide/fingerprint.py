"""A cheap fingerprint of a slide's content, and a watch on its file."""

from __future__ import annotations

import hashlib
from pathlib import Path

from wsi_engine.errors import SlideChangedError, SlideError

SAMPLE_BYTES = 1 << 20


def fingerprint(path: Path) -> str:
    """Hash the size of a file and three megabytes of it: its beginning, middle and end.

    Enough to tell slides apart and to notice that one was exchanged, at no cost for files
    of gigabytes; no proof against tampering. The name does not count.

    Returns
    -------
    str
        32 hexadecimal digits.
    """
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as stream:
        for position in (0, max(0, size // 2 - SAMPLE_BYTES // 2), max(0, size - SAMPLE_BYTES)):
            stream.seek(position)
            digest.update(stream.read(SAMPLE_BYTES))
    return digest.hexdigest()[:32]


class FileWatch:
    """Notices that a file vanishes or changes, by its size and time.

    Parameters
    ----------
    path
        As it is now is how it shall stay.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._state = self._look() if path.exists() else None

    def check(self) -> None:
        """Look again.

        Raises
        ------
        SlideChangedError
            When the file is not what it was; nothing read since the last look can be trusted.
        SlideError
            When it is gone.
        """
        if self._look() != self._state:
            raise SlideChangedError(
                f"{self._path} was changed while it was read, and what was found so far is "
                "dropped: run it again once it is complete"
            )

    def _look(self) -> tuple[int, int]:
        try:
            status = self._path.stat()
        except OSError as error:
            raise SlideError(
                f"{self._path} is gone ({error.strerror}): what was found is kept, and the same "
                "command goes on when the slide is back"
            ) from None
        return status.st_size, status.st_mtime_ns
