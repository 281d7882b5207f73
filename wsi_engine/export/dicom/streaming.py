"""Datasets with values that are too long to be held, written as a stream (PS3.5, section 7)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy.typing as npt

from wsi_engine.errors import ExportError
from wsi_engine.export.extras import extra

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

LONGEST_VALUE = 0xFFFF_FFFE
"""Bytes of a value: its length is an even number of 32 bits."""

_UNDEFINED = 0xFFFF_FFFF
_ITEM, _END_OF_ITEM, _END_OF_SEQUENCE = 0xFFFE_E000, 0xFFFE_E00D, 0xFFFE_E0DD


@dataclass(frozen=True)
class LongValue:
    """The value of an element, made when it is written.

    Attributes
    ----------
    vr
        Value representation: OF, OD or OL.
    length
        Bytes that the parts have together.
    parts
        Makes the parts, little endian, in their order.
    """

    vr: str
    length: int
    parts: Callable[[], Iterator[bytes]]


@dataclass(frozen=True)
class Item:
    """A dataset, and beside it what is written as a stream.

    Attributes
    ----------
    dataset
        All other elements.
    values
        Long values by tag.
    sequences
        Items by the tag of their sequence; they are made one after the other.
    """

    dataset: Dataset
    values: Mapping[int, LongValue] = field(default_factory=dict)
    sequences: Mapping[int, Iterable[Item]] = field(default_factory=dict)


def held(vr: str, values: npt.NDArray[Any]) -> LongValue:
    """Return an array, little endian, as the value of an element."""
    return LongValue(vr, values.nbytes, lambda: iter((values.tobytes(),)))


def require_length(length: int, what: str) -> None:
    """Raise if a value is longer than an element of DICOM can be.

    Raises
    ------
    ExportError
        In one sentence, which begins with ``what``.
    """
    if length > LONGEST_VALUE:
        raise ExportError(
            f"{what} take {length:,} bytes, and an element of DICOM holds {LONGEST_VALUE:,}: "
            "export geoparquet, or run parts of the slide (--roi)"
        )


def write_file(path: Path, item: Item) -> None:
    """Write a DICOM file in explicit little endian; what is streamed has undefined length."""
    with path.open("wb") as stream:
        out = extra("pydicom.filebase", "dicom").DicomIO(stream)
        out.is_implicit_VR, out.is_little_endian = False, True
        stream.write(bytes(128) + b"DICM")
        writer = extra("pydicom.filewriter", "dicom")
        writer.write_file_meta_info(out, item.dataset.file_meta)
        _write(stream, out, item, item.dataset.SpecificCharacterSet)


def _write(stream: BinaryIO, out: object, item: Item, encoding: str) -> None:
    writer = extra("pydicom.filewriter", "dicom")
    for tag in sorted({*item.dataset.keys(), *item.values, *item.sequences}):
        if tag in item.values:
            value = item.values[tag]
            stream.write(_tag(tag) + value.vr.encode() + struct.pack("<2xI", value.length))
            for part in value.parts():
                stream.write(part)
        elif tag in item.sequences:
            stream.write(_tag(tag) + b"SQ" + struct.pack("<2xI", _UNDEFINED))
            for each in item.sequences[tag]:
                stream.write(_tag(_ITEM) + struct.pack("<I", _UNDEFINED))
                _write(stream, out, each, encoding)
                stream.write(_tag(_END_OF_ITEM) + bytes(4))
            stream.write(_tag(_END_OF_SEQUENCE) + bytes(4))
        else:
            writer.write_data_element(out, item.dataset[tag], encoding)


def _tag(tag: int) -> bytes:
    return struct.pack("<HH", tag >> 16, tag & 0xFFFF)
