"""The context of everything that holds something open."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self


class Closing(ABC):
    """A context that closes itself at the end, whatever happened in between."""

    @abstractmethod
    def close(self) -> None:
        """Let go of what is held open; closing again does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
