"""The few facts of a DICOM file by which slides are told apart, read without its pixels."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

WHOLE_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"
"""SOP class of whole slide microscopy images, the one that OpenSlide opens."""

IMPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2"
_UNREAD = ("1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99")
"""Transfer syntaxes, retired or deflated as a whole, that no slide is known to have."""

_LONG = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR"}) | {
    b"UT",
    b"UV",
}
"""Value representations whose length takes four bytes (PS3.5, section 7.1.2)."""

_UNDEFINED = 0xFFFFFFFF
_ITEM, _END_OF_ITEM, _END_OF_SEQUENCE = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_LAST = 0x0048_0303
_LONGEST_VALUE = 4096
_MOST_ELEMENTS = 20_000
_DEEPEST = 16

_TRANSFER_SYNTAX = 0x0002_0010
_IMAGE_TYPE, _SOP_CLASS, _SOP_INSTANCE = 0x0008_0008, 0x0008_0016, 0x0008_0018
_SERIES, _PHOTOMETRIC = 0x0020_000E, 0x0028_0004
_COLUMNS, _ROWS, _FOCAL_PLANES = 0x0048_0006, 0x0048_0007, _LAST
_WANTED = {_TRANSFER_SYNTAX, _IMAGE_TYPE, _SOP_CLASS, _SOP_INSTANCE, _SERIES, _PHOTOMETRIC} | {
    _COLUMNS,
    _ROWS,
    _FOCAL_PLANES,
}


@dataclass(frozen=True, slots=True)
class DicomHeader:
    """What one DICOM file says of itself; empty or 0 where it says nothing.

    Attributes
    ----------
    sop_class, sop_instance, series
        UIDs: the kind of object, this object, and the series that it belongs to.
    flavor
        Third value of the image type: VOLUME, THUMBNAIL, LABEL or OVERVIEW.
    photometric
        Photometric interpretation, such as YBR_FULL_422 or MONOCHROME2.
    columns, rows
        Size of the whole image in pixels.
    focal_planes
        Number of focal planes in this file.
    """

    sop_class: str
    sop_instance: str
    series: str
    flavor: str
    photometric: str
    columns: int
    rows: int
    focal_planes: int

    @property
    def is_whole_slide(self) -> bool:
        """Whether the object is an image of a slide; segmentations and annotations are none."""
        return self.sop_class == WHOLE_SLIDE

    @property
    def has_levels(self) -> bool:
        """Whether the image is a level of a pyramid, not a label or an overview."""
        return self.is_whole_slide and self.flavor in ("VOLUME", "THUMBNAIL")


def read_header(path: Path) -> DicomHeader | None:
    """Read the header of a file; ``None`` if it is no DICOM file, or a damaged one.

    Raises
    ------
    OSError
        When the file cannot be read.
    """
    status = path.stat()
    return _read_cached(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=4096)
def _read_cached(path: Path, size: int, modified_ns: int) -> DicomHeader | None:
    with path.open("rb") as stream:
        if stream.read(132)[128:] != b"DICM":
            return None
        try:
            found = _Elements(stream, size).read()
        except (struct.error, ValueError):
            return None
    text = {tag: value.decode("ascii", "replace").strip("\0 ") for tag, value in found.items()}
    image_type = text.get(_IMAGE_TYPE, "").split("\\")
    return DicomHeader(
        sop_class=text.get(_SOP_CLASS, ""),
        sop_instance=text.get(_SOP_INSTANCE, ""),
        series=text.get(_SERIES, ""),
        flavor=image_type[2].strip() if len(image_type) > 2 else "",
        photometric=text.get(_PHOTOMETRIC, ""),
        columns=_number(found.get(_COLUMNS)),
        rows=_number(found.get(_ROWS)),
        focal_planes=_number(found.get(_FOCAL_PLANES)),
    )


def _number(value: bytes | None) -> int:
    return int.from_bytes(value, "little") if value is not None else 0


class _Elements:
    """The elements at the top of a file, one after the other; values of no interest are skipped.

    Raises ``ValueError`` or ``struct.error`` where the bytes make no sense.
    """

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream = stream
        self._size = size
        self._left = _MOST_ELEMENTS

    def read(self) -> dict[int, bytes]:
        found: dict[int, bytes] = {}
        implicit = False
        while self._stream.tell() < self._size:
            tag, kind, length = self._next(implicit)
            if tag > _LAST:
                break
            if tag in _WANTED and length <= _LONGEST_VALUE:
                found[tag] = self._stream.read(length)
            else:
                self._skip(kind, length, implicit)
            if tag == _TRANSFER_SYNTAX:
                syntax = found[tag].decode("ascii", "replace").strip("\0 ")
                if syntax in _UNREAD:
                    raise ValueError(syntax)
            if tag >> 16 == 2 and self._peek_group() != 2:
                syntax = found.get(_TRANSFER_SYNTAX, b"").decode("ascii", "replace").strip("\0 ")
                implicit = syntax == IMPLICIT_LITTLE_ENDIAN
        return found

    def _peek_group(self) -> int:
        (group,) = struct.unpack("<H", self._stream.read(2))
        self._stream.seek(-2, 1)
        return int(group)

    def _next(self, implicit: bool) -> tuple[int, bytes, int]:
        """Read the tag, value representation and length of the next element."""
        self._left -= 1
        if self._left < 0:
            raise ValueError("too many elements")
        group, element = struct.unpack("<HH", self._stream.read(4))
        tag = group << 16 | element
        if implicit or group == 0xFFFE:
            (length,) = struct.unpack("<I", self._stream.read(4))
            return tag, b"", length
        kind = self._stream.read(2)
        if kind in _LONG:
            (length,) = struct.unpack("<2xI", self._stream.read(6))
        elif kind.isalpha() and kind.isupper():
            (length,) = struct.unpack("<H", self._stream.read(2))
        else:
            raise ValueError("no value representation")
        return tag, kind, length

    def _skip(self, kind: bytes, length: int, implicit: bool, depth: int = 0) -> None:
        if length != _UNDEFINED:
            self._stream.seek(length, 1)
            return
        if depth > _DEEPEST:
            raise ValueError("nested too deeply")
        # PS3.5, section 6.2.2: of unknown kind and undefined length is a sequence, implicit within.
        implicit = implicit or kind == b"UN"
        while True:
            tag, _, length = self._next(implicit)
            if tag == _END_OF_SEQUENCE:
                return
            if tag != _ITEM:
                raise ValueError("no item where one should be")
            if length != _UNDEFINED:
                self._stream.seek(length, 1)
                continue
            while True:
                tag, kind, length = self._next(implicit)
                if tag == _END_OF_ITEM:
                    break
                self._skip(kind, length, implicit, depth + 1)
