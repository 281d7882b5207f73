"""The log of a training run: JSON lines for people and scripts, events for TensorBoard.

TensorBoard's format is written directly: a record is a length and a protocol buffer, each
with its checksum. That is two screens of code, against a dependency of many packages.
"""

from __future__ import annotations

import json
import struct
import time
from pathlib import Path

from wsi_engine.closing import Closing

JSON_LOG = "log.jsonl"


def _crc_table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_CRC_TABLE = _crc_table()


def masked_crc32c(data: bytes) -> int:
    """Return the masked CRC-32C (Castagnoli) of TFRecord files."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC_TABLE[(crc ^ byte) & 0xFF]
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _message(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def scalar_event(step: int, values: dict[str, float], wall_time: float) -> bytes:
    """Encode scalars of one step as a ``tensorflow.Event`` protocol buffer."""
    summary = b"".join(
        _message(1, _message(1, tag.encode()) + b"\x15" + struct.pack("<f", value))
        for tag, value in values.items()
    )
    return b"\x09" + struct.pack("<d", wall_time) + b"\x10" + _varint(step) + _message(5, summary)


def _record(event: bytes) -> bytes:
    length = struct.pack("<Q", len(event))
    checks = struct.pack("<I", masked_crc32c(length)), struct.pack("<I", masked_crc32c(event))
    return length + checks[0] + event + checks[1]


class TrainingLog(Closing):
    """Appends scalars to ``log.jsonl`` and to a TensorBoard event file.

    Parameters
    ----------
    folder
        Folder of the files.
    step
        The step at which the run (re)starts: what a killed run logged beyond it is dropped.
    """

    def __init__(self, folder: Path, step: int) -> None:
        path = folder / JSON_LOG
        if path.exists():
            lines = path.read_text().splitlines(keepends=True)
            kept = [line for line in lines if json.loads(line)["step"] <= step]
            path.write_text("".join(kept))
        self._lines = path.open("a")
        self._events = (folder / f"events.out.tfevents.{time.time_ns()}").open("wb")
        version = b"\x09" + struct.pack("<d", time.time()) + _message(3, b"brain.Event:2")
        self._events.write(_record(version))

    def close(self) -> None:
        """Close both files."""
        self._lines.close()
        self._events.close()

    def write(self, step: int, values: dict[str, float]) -> None:
        """Log the scalars of one step."""
        self._lines.write(json.dumps({"step": step, **values}) + "\n")
        self._lines.flush()
        self._events.write(_record(scalar_event(step, values, time.time())))
        self._events.flush()
