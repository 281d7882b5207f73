"""Writing QuPath GeoJSON as a stream: no more than one chunk of features is in memory."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import IO

import orjson

from wsi_engine.closing import Closing
from wsi_engine.qupath.features import Feature

GZIP_LEVEL = 3
"""Twice as fast as gzip's default for a tenth more bytes, measured on nuclei."""


class GeoJSONWriter(Closing):
    """Writes one FeatureCollection, feature by feature.

    Parameters
    ----------
    path
        Compressed if it ends in ``.gz``.

    Attributes
    ----------
    count
        Features written so far.

    Examples
    --------
    >>> with GeoJSONWriter(Path("nuclei.geojson.gz")) as writer:  # doctest: +SKIP
    ...     writer.write(features)
    """

    def __init__(self, path: Path) -> None:
        self.count = 0
        self._file = path.open("wb")
        self._stream: IO[bytes] = self._file
        if path.suffix == ".gz":
            # No time stamp and no name: the same nuclei give the same bytes.
            packed = gzip.GzipFile("", "wb", GZIP_LEVEL, self._file, mtime=0)
            self._stream = io.BufferedWriter(packed, 1 << 20)
        self._separator = b"\n"
        self._stream.write(b'{"type":"FeatureCollection","features":[')

    def write(self, features: list[Feature]) -> None:
        """Append features."""
        for feature in features:
            self._stream.write(self._separator)
            self._stream.write(orjson.dumps(feature, option=orjson.OPT_SERIALIZE_NUMPY))
            self._separator = b",\n"
        self.count += len(features)

    def close(self) -> None:
        """Finish the collection and close the file."""
        if not self._stream.closed:
            self._stream.write(b"\n]}\n")
            self._stream.close()
        if self._stream is not self._file:
            self._file.close()


def write_features(path: Path, features: list[Feature]) -> None:
    """Write a small collection, such as annotations, in one go."""
    with GeoJSONWriter(path) as writer:
        writer.write(features)
