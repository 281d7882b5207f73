"""Finding where JSON values begin and end, at the speed of memory, however the bytes arrive."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from wsi_engine.kernels import kernel

# What the scanner is within. A value begins and ends in PLAIN at depth 0.
PLAIN, QUOTED, QUOTED_ESCAPE, SINGLE, SINGLE_ESCAPE, WORD, SLASH, LINE, BLOCK, STAR = range(10)


class Source(Protocol):
    """Bytes, and how far they have been read."""

    data: bytes
    position: int


class Scan:
    """The state of reading a list of values: it can go on with the next bytes."""

    def __init__(self) -> None:
        self._state = np.array([PLAIN, 0, -1, 0, 0, 0], np.int64)

    def go(
        self, source: Source, starts: npt.NDArray[np.int64], stops: npt.NDArray[np.int64]
    ) -> int:
        """Find values up to the end of the bytes, of the list or of the arrays."""
        data = np.frombuffer(source.data, np.uint8)
        count, source.position = _split(data, source.position, self._state, starts, stops)
        return int(count)

    @property
    def start(self) -> int:
        """Start of the value that has been begun; -1 between values."""
        return int(self._state[2])

    @start.setter
    def start(self, value: int) -> None:
        self._state[2] = value

    @property
    def started(self) -> bool:
        """Whether a value has been begun."""
        return self.start >= 0

    @property
    def in_word(self) -> bool:
        """Whether it is a bare word or a number, which may end with the file."""
        return bool(self._state[0] == WORD and self._state[1] == 0)

    @property
    def closed_by(self) -> int:
        """The bracket that closed the list: 1 for ], 2 for }, 0 if it is open."""
        return int(self._state[4])

    @property
    def without_comma(self) -> int:
        """Number of values that follow another without a comma."""
        return int(self._state[5])


# Ends a bare word, for Gson.
_ENDS_WORD = np.zeros(256, np.bool_)
_ENDS_WORD[list(b"/\\;#={}[]:, \t\f\r\n")] = True


@kernel
def _split(
    data: npt.NDArray[np.uint8],
    position: int,
    state: npt.NDArray[np.int64],
    starts: npt.NDArray[np.int64],
    stops: npt.NDArray[np.int64],
) -> tuple[int, int]:
    """Find where the values of a list begin and end.

    Parameters
    ----------
    data, position
        Bytes, shape (n,), and which of them is looked at first.
    state
        What the scanner is within, depth, start of the value or -1, what stood last in the list
        (0 nothing, 1 a value, 2 a comma), what closed the list (1 for ], 2 for }), missing
        commas; shape (6,), changed.
    starts, stops
        Filled with where values begin and end, as far as there is room, shape (k,).

    Returns
    -------
    count, position
        How many values were found, and how far the scanner came.
    """
    within, depth, start, last = state[0], state[1], state[2], state[3]
    length = len(data)
    count = 0
    while position < length:
        byte = data[position]
        if within == PLAIN:
            if byte <= 32:
                position += 1
                continue
            if byte == 44 or byte == 59:  # , ;
                if depth == 0:
                    if last != 1:
                        starts[count] = stops[count] = position
                        count += 1
                    last = 2
                position += 1
                if count == len(starts):
                    break
                continue
            if byte == 47:  # /
                within = SLASH
                position += 1
                continue
            if byte == 35:  # #
                within = LINE
                position += 1
                continue
            if byte == 93 or byte == 125:  # ] }
                if depth == 0:
                    if last == 2:
                        starts[count] = stops[count] = position
                        count += 1
                    state[4] = 1 if byte == 93 else 2
                    position += 1
                    break
                depth -= 1
                position += 1
                if depth > 0:
                    continue
            else:
                if depth == 0 and start < 0:
                    if last == 1:
                        state[5] += 1
                    start = position
                position += 1
                if byte == 91 or byte == 123:  # [ {
                    depth += 1
                elif byte == 34:
                    within = QUOTED
                elif byte == 39:
                    within = SINGLE
                elif byte != 58 and byte != 61:  # : =
                    within = WORD
                continue
        elif within == WORD:
            while position < length and not _ENDS_WORD[data[position]]:
                position += 1
            if position == length:
                break
            within = PLAIN
            if depth > 0:
                continue
        elif within in (QUOTED, SINGLE):
            quote = 34 if within == QUOTED else 39
            while position < length and data[position] != quote and data[position] != 92:
                position += 1
            if position == length:
                break
            position += 1
            if data[position - 1] == 92:
                within += 1
                continue
            within = PLAIN
            if depth > 0:
                continue
        elif within in (QUOTED_ESCAPE, SINGLE_ESCAPE):
            within -= 1
            position += 1
            continue
        elif within == SLASH:
            if byte == 47:
                within = LINE
                position += 1
            elif byte == 42:
                within = BLOCK
                position += 1
            else:
                within = WORD
                if depth == 0 and start < 0:
                    start = position
            continue
        elif within == LINE:
            while position < length and data[position] != 10 and data[position] != 13:
                position += 1
            if position < length:
                within = PLAIN
            continue
        elif within == BLOCK:
            while position < length and data[position] != 42:
                position += 1
            if position < length:
                within = STAR
                position += 1
            continue
        else:
            if byte == 47:
                within = PLAIN
                position += 1
            elif byte == 42:
                position += 1
            else:
                within = BLOCK
            continue
        # A value at depth 0 ends here.
        starts[count] = start
        stops[count] = position
        count += 1
        start = -1
        last = 1
        if count == len(starts):
            break
    state[0], state[1], state[2], state[3] = within, depth, start, last
    return count, position
