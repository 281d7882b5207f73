"""Small DICOM whole slide images, written element by element (PS3.5, explicit little endian)."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

WHOLE_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
TILE = 64

Element = tuple[int, str, object]


def element(tag: int, kind: str, value: object) -> bytes:
    """Encode one element; a list of lists of elements is a sequence."""
    match value:
        case str():
            data = value.encode()
        case bytes():
            data = value
        case int():
            data = struct.pack("<H" if kind == "US" else "<I", value)
        case list():
            data = b"".join(item(elements) for elements in value)
        case _:
            raise TypeError(value)
    data += (b"\0" if kind in ("UI", "OB") else b" ") * (len(data) % 2)
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + kind.encode()
    if kind in ("OB", "SQ", "UN"):
        # Sequences of undefined length, as many writers write them.
        length = 0xFFFFFFFF if kind == "SQ" else len(data)
        end = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0) if kind == "SQ" else b""
        return head + struct.pack("<2xI", length) + data + end
    return head + struct.pack("<H", len(data)) + data


def item(elements: list[Element]) -> bytes:
    data = b"".join(element(*each) for each in elements)
    end = struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
    return struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF) + data + end


def write_dicom(
    path: Path,
    pixels: np.ndarray,
    *,
    series: str,
    instance: str,
    flavor: str = "VOLUME",
    mpp: float = 0.5,
    sop_class: str = WHOLE_SLIDE,
    grey: bool = False,
    focal_planes: int = 1,
    study: str = "1.2.3",
) -> None:
    """Write an image of a slide, shape (height, width, 3), in uncompressed tiles.

    ``grey`` drops two of three channels; more focal planes repeat the one that is given.
    """
    height, width = pixels.shape[:2]
    down, across = -(-height // TILE), -(-width // TILE)
    padded = np.full((down * TILE, across * TILE, 3), 255, np.uint8)
    padded[:height, :width] = pixels
    tiles = padded.reshape(down, TILE, across, TILE, 3).swapaxes(1, 2)
    tiles = tiles[..., :1] if grey else tiles
    spacing = f"{mpp / 1000:.7f}"
    code = [[(0x0008_0100, "SH", "111744"), (0x0008_0102, "SH", "DCM"), (0x0008_0104, "LO", "x")]]
    shared = [[(0x0028_9110, "SQ", [[(0x0028_0030, "DS", f"{spacing}\\{spacing}")]])]]
    meta = b"".join(
        element(*each)
        for each in (
            (0x0002_0001, "OB", b"\0\1"),
            (0x0002_0002, "UI", sop_class),
            (0x0002_0003, "UI", instance),
            (0x0002_0010, "UI", EXPLICIT_LITTLE_ENDIAN),
        )
    )
    elements: list[Element] = [
        (0x0008_0008, "CS", f"DERIVED\\PRIMARY\\{flavor}\\NONE"),
        (0x0008_0016, "UI", sop_class),
        (0x0008_0018, "UI", instance),
        (0x0008_0060, "CS", "SM"),
        (0x0008_1115, "SQ", [[(0x0020_000E, "UI", "9.9.9")]]),
        (0x0020_000D, "UI", study),
        (0x0020_000E, "UI", series),
        (0x0020_0052, "UI", f"{study}.1"),
        (0x0020_9311, "CS", "TILED_FULL"),
        (0x0028_0002, "US", 1 if grey else 3),
        (0x0028_0004, "CS", "MONOCHROME2" if grey else "RGB"),
        *([] if grey else [(0x0028_0006, "US", 0)]),
        (0x0028_0008, "IS", str(down * across * focal_planes)),
        (0x0028_0010, "US", TILE),
        (0x0028_0011, "US", TILE),
        (0x0028_0100, "US", 8),
        (0x0028_0101, "US", 8),
        (0x0028_0102, "US", 7),
        (0x0028_0103, "US", 0),
        (0x0048_0006, "UL", width),
        (0x0048_0007, "UL", height),
        (0x0048_0102, "DS", "0\\-1\\0\\-1\\0\\0"),
        (0x0048_0105, "SQ", [[(0x0022_0016, "SQ", code), (0x0048_0106, "SH", "0")]]),
        (0x0048_0303, "UL", focal_planes),
        (0x5200_9229, "SQ", shared),
        (0x7FE0_0010, "OB", np.ascontiguousarray(tiles).tobytes() * focal_planes),
    ]
    head = element(0x0002_0000, "UL", len(meta))
    body = b"".join(element(*each) for each in elements)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(128) + b"DICM" + head + meta + body)


def write_dicom_slide(folder: Path, pixels: np.ndarray, series: str = "1.2.3.4", **changes) -> None:
    """Write a slide of four files: two levels, a label and an overview."""
    images = {
        "label.dcm": ("LABEL", np.full((64, 64, 3), 200, np.uint8), 20.0),
        "level0.dcm": ("VOLUME", pixels, 0.5),
        "level1.dcm": ("VOLUME", pixels[::2, ::2], 1.0),
        "overview.dcm": ("OVERVIEW", pixels[::4, ::4], 2.0),
    }
    for number, (name, (flavor, image, mpp)) in enumerate(images.items(), start=1):
        made = {"series": series, "instance": f"{series}.{number}", "flavor": flavor, "mpp": mpp}
        write_dicom(folder / name, image, **made | changes.get(name.removesuffix(".dcm"), {}))
