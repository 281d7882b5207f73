"""What was made last, kept for whoever asks again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Kept(Generic[Key, Value]):
    """The last few things that were made, each of them once, whoever asks.

    Parameters
    ----------
    make
        Makes the thing of a key.
    room
        How much is kept, at least the last thing.
    size
        What a thing takes of the room; 1 unless given.
    """

    def __init__(
        self,
        make: Callable[[Key], Value],
        room: int,
        size: Callable[[Value], int] = lambda value: 1,
    ) -> None:
        self._make, self._room, self._size = make, room, size
        self._kept: OrderedDict[Key, Value] = OrderedDict()
        self._lock = threading.Lock()

    def __getitem__(self, key: Key) -> Value:
        with self._lock:
            if key not in self._kept:
                self._kept[key] = self._make(key)
                while len(self._kept) > 1 and self._taken() > self._room:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(key)
            return self._kept[key]

    def _taken(self) -> int:
        return sum(map(self._size, self._kept.values()))
