"""Walking through a large JSON object member by member, without holding the file."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import orjson

from wsi_engine.errors import ConversionError, reason_for

BLOCK_BYTES = 1 << 22
MAX_VALUE_BYTES = 1 << 28
"""Longest value, such as one cell: what is larger belongs to no list of nuclei."""

_BLANK = re.compile(rb"[ \t\r\n]*")
_STRING = rb'"[^"\\]*(?:\\.[^"\\]*)*"'
# A quote that no string matches has no end yet.
_STEPS = {
    b"{": re.compile(_STRING + rb'|[{}"]', re.DOTALL),
    b"[": re.compile(_STRING + rb'|[\[\]"]', re.DOTALL),
}
_WORD = re.compile(rb"[^,:\[\]{}\s]+(?=[,:\[\]{}\s])")
_TEXT = re.compile(_STRING, re.DOTALL)


class Member(NamedTuple):
    """One value of a JSON object.

    Attributes
    ----------
    name
        Name of the member of the document.
    key
        Name within a member that was opened, or the place in its list from 0;
        ``None`` for a member that is given whole.
    value
        Parsed value.
    """

    name: str
    key: str | int | None
    value: Any


def json_members(path: Path, opened: frozenset[str] = frozenset()) -> Iterator[Member]:
    """Yield the members of the object that a JSON file holds, in their order.

    Parameters
    ----------
    path
        UTF-8, plain or gzipped.
    opened
        Members whose own values, of a list or an object, come one by one, after a member
        without a value that announces them.

    Raises
    ------
    ConversionError
        Where the file is absent, truncated or no JSON object.
    """
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            stream = gzip.GzipFile(fileobj=file) if packed else file
            yield from _Cursor(stream, path.name).document(opened)
    except FileNotFoundError:
        raise ConversionError(f"{path}: no such file") from None
    except (OSError, EOFError, zlib.error) as error:
        raise ConversionError(f"{path.name} cannot be read: {reason_for(error)}") from None


class _Cursor:
    """A place in a stream; ``data[position:]`` is still to be read."""

    def __init__(self, stream: IO[bytes] | gzip.GzipFile, name: str) -> None:
        self._stream = stream
        self._name = name
        self._data = b""
        self._position = 0
        self._offset = 0

    def document(self, opened: frozenset[str]) -> Iterator[Member]:
        if self._peek() == b"\xef":
            self._position += 3
        if self._peek() != b"{":
            raise self._broken("it does not begin with {")
        for name in self._object():
            if name in opened and self._peek() in (b"{", b"["):
                yield Member(name, None, None)
                keys = self._object() if self._peek() == b"{" else self._list()
                for key in keys:
                    yield Member(name, key, self._value())
            else:
                yield Member(name, None, self._value())

    def _object(self) -> Iterator[str]:
        """Yield the names of an object; between two of them a value must be read."""
        self._position += 1
        while self._peek() != b"}":
            name = self._value()
            if not isinstance(name, str):
                raise self._broken("what should be a name is none")
            self._take(b":")
            yield name
            if self._peek() != b"}":
                self._take(b",")
        self._position += 1

    def _list(self) -> Iterator[int]:
        self._position += 1
        place = 0
        while self._peek() != b"]":
            yield place
            place += 1
            if self._peek() != b"]":
                self._take(b",")
        self._position += 1

    def _peek(self) -> bytes:
        while True:
            blank = _BLANK.match(self._data, self._position)
            assert blank is not None
            self._position = blank.end()
            if self._position < len(self._data):
                return self._data[self._position : self._position + 1]
            self._more()

    def _take(self, sign: bytes) -> None:
        if self._peek() != sign:
            raise self._broken(f"{sign.decode()!r} is missing")
        self._position += 1

    def _value(self) -> Any:
        first = self._peek()
        while (end := self._end_of_value(first)) is None:
            self._more()
        raw = self._data[self._position : end]
        try:
            value = orjson.loads(raw)
        except orjson.JSONDecodeError:
            try:
                value = json.loads(raw)  # Python's own writer prints bare NaN, and reads it
            except (ValueError, RecursionError) as error:
                raise self._broken(str(error)) from None
        self._position = end
        return value

    def _end_of_value(self, first: bytes) -> int | None:
        if first not in _STEPS:
            value = (_TEXT if first == b'"' else _WORD).match(self._data, self._position)
            return None if value is None else value.end()
        depth = 0
        for step in _STEPS[first].finditer(self._data, self._position):
            sign = self._data[step.start() : step.end()]
            if sign == b'"':
                return None
            if sign in (b"{", b"["):
                depth += 1
            elif sign in (b"}", b"]"):
                depth -= 1
                if depth == 0:
                    return step.end()
        return None

    def _more(self) -> None:
        kept = self._data[self._position :]
        if len(kept) > MAX_VALUE_BYTES:
            raise self._broken(f"it holds a value larger than {MAX_VALUE_BYTES >> 20} MiB")
        # A large value is read in steps that grow with it, or scanning would be quadratic.
        more = self._stream.read(max(BLOCK_BYTES, len(kept)))
        if not more:
            raise ConversionError(
                f"{self._name} ends too early: it is truncated, or no JSON object"
            )
        self._offset += self._position
        self._data, self._position = kept + more, 0

    def _broken(self, what: str) -> ConversionError:
        at = self._offset + self._position
        return ConversionError(f"{self._name} is no JSON object: {what} (byte {at})")
