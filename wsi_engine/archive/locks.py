"""Locks on files of this machine, which the system frees when their process dies."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Self

from wsi_engine.closing import Closing
from wsi_engine.errors import SlideError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


class FileLock(Closing):
    """A file that is held open to be locked; a context that ends the lock.

    Not for network disks: there, `store.claim` says who has what.

    Parameters
    ----------
    path
        Made if absent; never removed, as others may be waiting at it.
    """

    def __init__(self, path: Path) -> None:
        if fcntl is None:
            raise SlideError("slides named by URL need Linux or macOS: copy them to a disk first")
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)

    def share(self) -> Self:
        """Hold it together with others that share it; waits for one who has it alone."""
        fcntl.flock(self._handle, fcntl.LOCK_SH)
        return self

    def own(self) -> Self:
        """Hold it alone; waits for all others. What was shared is let go while waiting."""
        fcntl.flock(self._handle, fcntl.LOCK_EX)
        return self

    def try_own(self) -> bool:
        """Hold it alone, if nobody else has it now."""
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        """Let go."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1
