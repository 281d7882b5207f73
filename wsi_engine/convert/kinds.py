"""What kind a file is: of one to read by its content, of one to write by its name."""

from __future__ import annotations

import gzip
import re
import zlib
from pathlib import Path
from typing import Literal, get_args

from wsi_engine.errors import ConversionError, reason_for

Kind = Literal["qupath", "geoparquet", "cellvit", "hovernet", "tiatoolbox", "labels"]
KINDS: tuple[Kind, ...] = get_args(Kind)

TargetKind = Literal["qupath", "geoparquet", "tiatoolbox"]

DIALECTS = ("0.2", "0.3", "0.4", "0.5", "0.6", "0.7")
"""Versions of QuPath that a file of kind qupath can be written for."""
OLD_DIALECTS = ("0.2", "0.3")

_HEAD_BYTES = 1 << 16
_IMAGES = (b"\x89PNG", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"\x93NUMPY")
# The first that is found decides.
_JSON: tuple[tuple[re.Pattern[bytes], Kind], ...] = (
    (re.compile(rb'^\s*\{\s*"(mag|nuc)"\s*:'), "hovernet"),
    (re.compile(rb'"(cells|wsi_metadata|type_map)"\s*:'), "cellvit"),
    (re.compile(rb'"(Feature|FeatureCollection)"|"features"\s*:'), "qupath"),
    (re.compile(rb'"nuc"\s*:'), "hovernet"),
    (re.compile(rb'^\s*\{\s*"[^"]*"\s*:\s*\{[^{}]*"(contour|centroid)"\s*:'), "hovernet"),
    (re.compile(rb"^\s*[\[{]"), "qupath"),
)


def kind_of_source(path: Path) -> Kind:
    """Look into a file.

    Raises
    ------
    ConversionError
        When it is absent, or of no kind that can be read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
        if head[:2] == b"\x1f\x8b":
            with gzip.open(path) as file:
                head = file.read(_HEAD_BYTES)
    except FileNotFoundError:
        raise ConversionError(f"{path}: no such file") from None
    except (OSError, EOFError, zlib.error) as error:
        raise ConversionError(f"{path} cannot be read: {reason_for(error)}") from None
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ConversionError(f"{path.name} is UTF-16: save it as UTF-8")
    if head.startswith(b"SQLite format 3\0"):
        return "tiatoolbox"
    if head.startswith(b"PAR1"):
        return "geoparquet"
    if head.startswith(_IMAGES):
        return "labels"
    if head.startswith(b"PK\x03\x04"):
        return "qupath"
    for pattern, kind in _JSON:
        if pattern.search(head.removeprefix(b"\xef\xbb\xbf")):
            return kind
    if path.suffix == ".snappy":
        raise ConversionError(f"{path.name} is packed with snappy: unpack it first")
    if path.suffix in (".dat", ".pkl", ".pickle"):
        raise ConversionError(
            f"{path.name} is a Python pickle, which can run any code: save it as JSON instead"
        )
    raise ConversionError(
        f"{path.name} is of no known kind: say with --from which it is ({', '.join(KINDS)})"
    )


def kind_of_target(path: Path) -> TargetKind:
    """Look at a name.

    Raises
    ------
    ConversionError
        When its extension is none that can be written.
    """
    name = path.name.lower()
    if name.removesuffix(".gz").endswith((".geojson", ".json")) or name.endswith(".zip"):
        return "qupath"
    if name.endswith((".parquet", ".geoparquet")):
        return "geoparquet"
    if name.endswith(".db"):
        return "tiatoolbox"
    raise ConversionError(
        f"{path.name}: its extension says not what to write: "
        "give .geojson, .geojson.gz, .zip, .parquet or .db"
    )
