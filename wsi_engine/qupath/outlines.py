"""The outlines of nuclei in a QuPath file, whoever drew them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from wsi_engine.qupath.reader import read_objects

NUCLEUS_TYPES = frozenset({"detection", "cell"})


@dataclass(frozen=True)
class ForeignNuclei:
    """Nuclei as columns.

    Attributes
    ----------
    geometries
        Shapely geometries in QuPath pixels, of any type and validity, shape (n,).
    ids
        UUIDs; ``None`` where there is none.
    classes
        Names; ``None`` for none.
    skipped
        How many features of the file could not be read.
    """

    geometries: npt.NDArray[np.object_]
    ids: list[str | None]
    classes: list[str | None]
    skipped: int = 0

    def take(self, rows: npt.NDArray[np.int64]) -> ForeignNuclei:
        """Return the nuclei at some positions."""
        return ForeignNuclei(
            self.geometries[rows],
            [self.ids[k] for k in rows],
            [self.classes[k] for k in rows],
            self.skipped,
        )


def read_nucleus_outlines(path: str | Path) -> ForeignNuclei:
    """Read the detections and cells of a GeoJSON file; where it has none, all its objects.

    Several programs write nuclei as annotations.

    Raises
    ------
    GeoJSONError
        When the file is absent or malformed.
    """
    read = read_objects(path)
    objects = [item for top in read for item in top.flattened()]
    nuclei = [item for item in objects if item.object_type in NUCLEUS_TYPES] or objects
    geometries = np.empty(len(nuclei), object)
    geometries[:] = [item.nucleus.geometry if item.nucleus else item.geometry for item in nuclei]
    return ForeignNuclei(
        geometries,
        [item.id for item in nuclei],
        [item.class_name for item in nuclei],
        sum(problem.skipped for problem in read.problems),
    )
