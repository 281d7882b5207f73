"""Outlines of nuclei in coordinates of DICOM, class by class."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import shapely

from wsi_engine.errors import ExportError
from wsi_engine.export.dicom.slide import DicomSlide
from wsi_engine.export.dicom.streaming import LongValue, held
from wsi_engine.nuclei.polygons import Polygons
from wsi_engine.results.finished import SlideResult
from wsi_engine.results.nucleus_table import polygons_of

FLOAT32_HOLDS_PX = 1 << 17
"""Up to here float32 is off by at most 0.004 px, so that outlines keep their two decimals."""

_POINTS, _DOUBLE_POINTS, _FIRST_POINTS = 0x0066_0016, 0x0066_0022, 0x0066_0040


class Outlines:
    """Outlines of nuclei in coordinates of DICOM, class by class.

    Parameters
    ----------
    run
        A finished result.
    slide
        Its images in DICOM.
    in_mm
        In mm of the frame of reference, in place of pixels of the finest level.

    Attributes
    ----------
    labels
        Class of each nucleus, -1 for none, shape (n,).
    common_z
        Position in µm along the slide's normal; ``None`` for pixels.
    """

    def __init__(self, run: SlideResult, slide: DicomSlide, *, in_mm: bool) -> None:
        self._table = run.table
        self.labels = run.labels
        self._matrix = np.array([[1.0, 0.0, slide.offset[0]], [0.0, 1.0, slide.offset[1]]])
        self.common_z: float | None = None
        size = max(run.record.slide.width, run.record.slide.height)
        self._dtype = np.dtype("<f4" if size <= FLOAT32_HOLDS_PX and not in_mm else "<f8")
        if in_mm:
            reference = slide.to_reference
            if reference[2, :2].any():
                raise ExportError(
                    f"{slide.path.name} lies askew in its frame of reference: leave --mm out"
                )
            self.common_z = float(reference[2, 2])
            self._matrix = reference[:2] @ np.vstack([self._matrix, [0, 0, 1]])
        self._points = self._count_points()

    def count(self, label: int) -> int:
        """Return the number of nuclei of a class."""
        return int(np.count_nonzero(self.labels == label))

    def length(self, label: int) -> int:
        """Return how many bytes the coordinates of a class take."""
        points = int(self._points[self.labels == label].sum(dtype=np.int64))
        return points * 2 * self._dtype.itemsize

    def values(self, label: int) -> dict[int, LongValue]:
        """Return the coordinates of a class, and with which of them each outline begins."""
        points = self._points[self.labels == label]
        first = np.concatenate([[0], np.cumsum(points[:-1], dtype=np.int64)]) * 2 + 1
        single = self._dtype.itemsize == 4
        coordinates = LongValue(
            "OF" if single else "OD", self.length(label), lambda: self._coordinates(label)
        )
        return {
            _POINTS if single else _DOUBLE_POINTS: coordinates,
            _FIRST_POINTS: held("OL", first.astype("<u4")),
        }

    def _count_points(self) -> npt.NDArray[np.int32]:
        groups = self._table.groups(["geometry"])
        parts = [_counts(_rings(polygons_of(group))) for group in groups]
        return np.concatenate([np.empty(0, np.int32), *parts])

    def _coordinates(self, label: int) -> Iterator[bytes]:
        starts = self._table.group_starts.tolist()
        for k, (start, stop) in enumerate(pairwise(starts)):
            chosen = self.labels[start:stop] == label
            if chosen.any():
                rings = _rings(polygons_of(self._table.group(k, ["geometry"]))[chosen])
                ends = np.cumsum(_counts(rings) + 1) - 1
                px = np.delete(shapely.get_coordinates(rings), ends, axis=0)
                made = px @ self._matrix[:, :2].T + self._matrix[:, 2]
                yield made.astype(self._dtype).tobytes()


def _rings(polygons: Polygons) -> npt.NDArray[np.object_]:
    return np.asarray(shapely.get_exterior_ring(polygons), object)


def _counts(rings: npt.NDArray[np.object_]) -> npt.NDArray[np.int32]:
    """Return the number of points of rings, of which DICOM does not repeat the first as last."""
    return np.asarray(shapely.get_num_coordinates(rings) - 1, np.int32)
