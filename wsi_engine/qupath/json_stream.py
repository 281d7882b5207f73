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

import numpy as np
import orjson

from wsi_engine.errors import GeoJSONError
from wsi_engine.qupath.json_scanner import Scan
from wsi_engine.qupath.lenient_json import JSONError, parse_json

BLOCK_BYTES = 1 << 22
MAX_FEATURE_BYTES = 1 << 29
"""The largest feature that is read: a polygon of 10 million vertices takes some 200 MB."""
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
        Place of its first byte in the (unpacked) file.
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
        scan = Scan()
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
        scan = Scan()
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

    def more(self, scan: Scan) -> bool:
        """Read on, keeping the value that has been begun; false at the end of the stream."""
        start = scan.start if scan.started else self.position
        if scan.started:
            scan.start = 0
        return self._fill(start)

    def forget(self, scan: Scan) -> None:
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
