"""Splitting a GeoJSON stream into its features, without holding the file.

Only the ends of values are found here, so that each feature can be parsed by itself and a bad
one be named. What QuPath's own parser (Gson, lenient) takes for a string or a comment is taken
for one here: single quotes, bare words, ``//``, ``/* */`` and ``#``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numba
import numpy as np
import numpy.typing as npt
import orjson

from wsi_engine.errors import GeoJSONError
from wsi_engine.qupath.lenient_json import JSONError, parse_json

BLOCK_BYTES = 1 << 22
MAX_FEATURE_BYTES = 1 << 29
"""Of one feature: a polygon of 10 million vertices takes some 200 MB."""
TOO_LARGE = (
    f"holds a single feature larger than {MAX_FEATURE_BYTES >> 20} MiB: split it into several"
)

GEOMETRY_TYPES = frozenset(
    {
        "Point",
        "MultiPoint",
        "LineString",
        "MultiLineString",
        "Polygon",
        "MultiPolygon",
        "GeometryCollection",
    }
)


class Readable(Protocol):
    """Anything that gives bytes, and none at its end."""

    def read(self, size: int, /) -> bytes:
        """Return at most ``size`` bytes."""


@dataclass(slots=True)
class Element:
    """One feature as it stands in the file.

    Attributes
    ----------
    index
        Its place among the features, from 0.
    offset
        Of its first byte in the (unpacked) file.
    raw
        Its JSON; empty where the list has a comma and no feature.
    """

    index: int
    offset: int
    raw: bytes


class FeatureStream:
    """The features of a FeatureCollection, a bare array, a single Feature or a bare geometry.

    Parameters
    ----------
    stream
        UTF-8, with or without a byte order mark.
    name
        What messages call the file.

    Attributes
    ----------
    problems
        What is odd about the file as a whole; complete once all blocks were taken.
    in_collection
        Whether the features last yielded stand in a FeatureCollection.
    """

    def __init__(self, stream: Readable, name: str) -> None:
        self.name = name
        self.problems: list[str] = []
        self.in_collection = False
        self._input = _Input(stream, name)
        self._index = 0

    def blocks(self) -> Iterator[list[Element]]:
        """Yield the features in blocks of some megabytes.

        Raises
        ------
        GeoJSONError
            Where the file is truncated, no JSON, or holds a feature beyond
            `MAX_FEATURE_BYTES`; what stands before was yielded.
        """
        self._input.skip_byte_order_mark()
        first = self._input.peek()
        if first is None:
            self.problems.append("it is empty")
        while first is not None:
            self.in_collection = first == b"{"
            if first == b"[":
                yield from self._list()
            elif first == b"{":
                yield from self._document()
            elif self._value() != b"null":
                raise self._broken("is not GeoJSON: it begins with neither { nor [")
            else:
                self.problems.append("it holds no features but null")
            first = self._input.peek()
            if first is not None:
                if first not in (b"{", b"["):
                    raise self._broken("is not JSON: something follows its end")
                if "it holds more" not in (text[:13] for text in self.problems):
                    self.problems.append(
                        "it holds more than one JSON document: QuPath reads no such file"
                    )

    def __iter__(self) -> Iterator[Element]:
        for block in self.blocks():
            yield from block

    def _list(self) -> Iterator[list[Element]]:
        self._input.position += 1
        scan = _Scan()
        starts, stops = np.empty((2, 1 << 16), np.int64)
        while True:
            before = self._index
            elements = []
            data, offset = self._input.data, self._input.offset
            count = scan.go(self._input, starts, stops)
            for start, stop in zip(starts[:count].tolist(), stops[:count].tolist(), strict=True):
                elements.append(Element(self._index, offset + start, data[start:stop]))
                self._index += 1
            if elements:
                yield elements
            if scan.closed_by:
                if scan.closed_by == 2:
                    raise self._broken("is not JSON: its list of features ends with }")
                break
            if self._index == before and not self._input.more(scan):
                raise self._truncated()
        if scan.without_comma:
            self.problems.append(
                f"no comma stands between {scan.without_comma} of its features and the next"
            )

    def _document(self) -> Iterator[list[Element]]:
        self._input.position += 1
        offset = self._input.offset + self._input.position - 1
        members: dict[str, bytes] = {}
        kind: Any = None
        streamed = False
        while (name := self._name()) is not None:
            listed = self._input.peek() == b"["
            if name == "features" and listed and kind in (None, "FeatureCollection"):
                streamed = True
                yield from self._list()
            else:
                # Of a collection nothing but the features matters, however large the rest is.
                collection = streamed or kind == "FeatureCollection"
                value = self._value(keep=not collection or name in ("type", "features"))
                if name == "type":
                    kind = self._parsed(value)
                members[name] = value
                if sum(map(len, members.values())) > MAX_FEATURE_BYTES:
                    raise GeoJSONError(f"{self.name} {TOO_LARGE}")
            self._separator()
        if kind == "FeatureCollection":
            if not streamed:
                self._no_features(members.get("features"))
        elif streamed:
            self.problems.append(f"its type is {kind!r}: QuPath reads only a FeatureCollection")
        elif kind == "Feature" or (isinstance(kind, str) and kind in GEOMETRY_TYPES):
            self.in_collection = False
            yield [self._element(offset, _joined(members))]
        elif members.get("root", b"")[:1] == b"{":
            self.problems.append("it is a whole hierarchy, which QuPath itself does not import")
            yield [self._element(offset, members["root"])]
        else:
            self.problems.append(f"it holds no features: its type is {kind!r}")

    def _no_features(self, value: bytes | None) -> None:
        if value is not None and self._parsed(value) is not None:
            raise GeoJSONError(f"{self.name}: its features are not a list")
        self.problems.append("it is a FeatureCollection without features")

    def _element(self, offset: int, raw: bytes) -> Element:
        self._index += 1
        return Element(self._index - 1, offset, raw)

    def _name(self) -> str | None:
        """Read the name of a member and what parts it from its value; none at the end."""
        following = self._input.peek()
        if following is None:
            raise self._truncated()
        if following == b"}":
            self._input.position += 1
            return None
        raw = self._value()
        name = raw.decode() if re.fullmatch(rb"\w+", raw) else self._parsed(raw)
        if not isinstance(name, str):
            raise self._broken("is not JSON: what should be a name is none")
        sign = self._input.peek()
        if sign is None:
            raise self._truncated()
        if sign not in (b":", b"="):
            raise self._broken("is not JSON: a name has no value")
        self._input.position += 1
        if sign == b"=" and self._input.peek() == b">":
            self._input.position += 1
        return name

    def _separator(self) -> None:
        following = self._input.peek()
        if following in (b",", b";"):
            self._input.position += 1
        elif following is None:
            raise self._truncated()
        elif following != b"}":
            raise self._broken("is not JSON: a comma is missing")

    def _value(self, *, keep: bool = True) -> bytes:
        """Read one value; one that need not be kept comes back empty."""
        scan = _Scan()
        start, stop = np.empty((2, 1), np.int64)
        while not scan.go(self._input, start, stop):
            if scan.closed_by:
                raise self._broken("is not JSON: a value is missing")
            if not keep and scan.started:
                self._input.forget(scan)
            if not self._input.more(scan):
                # A word ends with the file.
                word = self._input.data[max(scan.start, 0) :] if scan.in_word else b""
                self._input.position = len(self._input.data)
                if not word:
                    raise self._truncated()
                return word
        return self._input.data[start[0] : stop[0]] if keep else b""

    def _parsed(self, raw: bytes) -> Any:
        try:
            return parse_json(raw)
        except JSONError as error:
            raise self._broken(f"is not JSON: {error}") from None

    def _broken(self, what: str) -> GeoJSONError:
        at = self._input.offset + self._input.position
        return GeoJSONError(f"{self.name} {what} (byte {at})")

    def _truncated(self) -> GeoJSONError:
        return GeoJSONError(
            f"{self.name} ends within feature {self._index}: it is truncated, export it again"
        )


def _joined(members: dict[str, bytes]) -> bytes:
    return b"{" + b",".join(orjson.dumps(n) + b":" + v for n, v in members.items()) + b"}"


class _Input:
    """The part of a stream that is being looked at.

    ``data[position:]`` is still to be read; ``offset`` is the place of ``data`` in the stream.
    """

    _BLANK = re.compile(rb"(?:[ \t\r\n]+|//[^\r\n]*[\r\n]|#[^\r\n]*[\r\n]|/\*(?s:.*?)\*/)*")

    def __init__(self, stream: Readable, name: str) -> None:
        self.data = b""
        self.position = 0
        self.offset = 0
        self._stream = stream
        self._name = name

    def skip_byte_order_mark(self) -> None:
        while len(self.data) < 3 and self._fill(0):
            pass
        if self.data.startswith(b"\xef\xbb\xbf"):
            self.position = 3
        elif self.data.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise GeoJSONError(f"{self._name} is UTF-16: save it as UTF-8")

    def peek(self) -> bytes | None:
        """Return the next byte that is neither blank nor comment, or none at the end."""
        while True:
            match = self._BLANK.match(self.data, self.position)
            assert match is not None
            self.position = match.end()
            byte = self.data[self.position : self.position + 1]
            if byte and byte not in b"/#":
                return byte
            if not self._fill(self.position):
                if self.data[self.position : self.position + 2] in (b"//", b""):
                    return None
                return None if byte == b"#" else byte

    def more(self, scan: _Scan) -> bool:
        """Read on, keeping the value that has been begun; false at the end of the stream."""
        start = scan.start if scan.started else self.position
        if scan.started:
            scan.start = 0
        return self._fill(start)

    def forget(self, scan: _Scan) -> None:
        """Let go of the bytes of a value that is read and not kept."""
        scan.start = self.position

    def _fill(self, start: int) -> bool:
        if len(self.data) - start > MAX_FEATURE_BYTES:
            raise GeoJSONError(f"{self._name}, from byte {self.offset + start}, {TOO_LARGE}")
        # A large value is read in steps that grow with it, or copying would be quadratic.
        kept = self.data[start:]
        more = self._stream.read(max(BLOCK_BYTES, len(kept)))
        self.data = kept + more
        self.position -= start
        self.offset += start
        return bool(more)


# What the scanner is within. A value begins and ends in PLAIN at depth 0.
PLAIN, QUOTED, QUOTED_ESCAPE, SINGLE, SINGLE_ESCAPE, WORD, SLASH, LINE, BLOCK, STAR = range(10)


class _Scan:
    """How far a list of values has been read: it can go on with the next bytes."""

    def __init__(self) -> None:
        self._state = np.array([PLAIN, 0, -1, 0, 0, 0], np.int64)

    def go(
        self, source: _Input, starts: npt.NDArray[np.int64], stops: npt.NDArray[np.int64]
    ) -> int:
        """Find values up to the end of the bytes, of the list or of the arrays."""
        data = np.frombuffer(source.data, np.uint8)
        count, source.position = _split(data, source.position, self._state, starts, stops)
        return int(count)

    @property
    def start(self) -> int:
        return int(self._state[2])

    @start.setter
    def start(self, value: int) -> None:
        self._state[2] = value

    @property
    def started(self) -> bool:
        return self.start >= 0

    @property
    def in_word(self) -> bool:
        return bool(self._state[0] == WORD and self._state[1] == 0)

    @property
    def closed_by(self) -> int:
        return int(self._state[4])

    @property
    def without_comma(self) -> int:
        return int(self._state[5])


# Ends a bare word, for Gson.
_ENDS_WORD = np.zeros(256, np.bool_)
_ENDS_WORD[list(b"/\\;#={}[]:, \t\f\r\n")] = True


@numba.njit(nogil=True, cache=True)
def _split(data, position, state, starts, stops):  # type: ignore[no-untyped-def]
    """Find where the values of a list begin and end.

    ``state`` is: what the scanner is within, depth, start of the value or -1, what stood last
    in the list (0 nothing, 1 a value, 2 a comma), what closed the list (1 for ], 2 for }), missing
    commas.
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
