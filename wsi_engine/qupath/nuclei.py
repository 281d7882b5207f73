"""What a nucleus is in a QuPath file, whoever wrote it.

A detection is one, and so is a cell, of which the nucleus counts, or the boundary where there is
nothing else. What a person draws is an annotation: it is a nucleus if its class is said to be that
of nuclei, or if the file holds neither detections nor cells. A nucleus has an area; parts
that do not touch are nuclei of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import shapely
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from wsi_engine.nuclei.polygons import polygon_parts
from wsi_engine.qupath.objects import PathObject
from wsi_engine.qupath.reader import read_objects

CLASS_PROPERTIES = ("class", "class_name", "cell_type", "type", "type_str", "type_name")
"""Where other programs, and tables written as GeoJSON, have the class that QuPath looks for in
``classification``."""


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
    divided
        How many objects had several parts that do not touch, each of which is a nucleus here.
    elsewhere
        Names of properties that seem to hold the class of nuclei, and are not read as one.
    in_text
        How many classes are JSON within a text, which makes a long name.
    """

    geometries: npt.NDArray[np.object_]
    ids: list[str | None]
    classes: list[str | None]
    skipped: int = 0
    divided: int = 0
    elsewhere: tuple[str, ...] = ()
    in_text: int = 0

    def take(self, rows: npt.NDArray[np.int64]) -> ForeignNuclei:
        """Return the nuclei at some positions."""
        return replace(
            self,
            geometries=self.geometries[rows],
            ids=[self.ids[k] for k in rows],
            classes=[self.classes[k] for k in rows],
        )


def is_nucleus(item: PathObject, drawn_class: Sequence[str] = ()) -> bool:
    """Whether an object is a nucleus: a detection, a cell, or an annotation of some classes."""
    if item.object_type == "annotation":
        return item.is_of_class(drawn_class)
    return item.object_type in ("detection", "cell")


def nucleus_outline(item: PathObject) -> shapely.Geometry:
    """Return the outline of a nucleus, which for a cell is that of its nucleus, if known."""
    return item.geometry if item.nucleus is None else item.nucleus.geometry


def separate_parts(outline: shapely.Geometry) -> list[shapely.Geometry]:
    """Return the parts of an outline that do not touch, the largest first; itself if it is one."""
    if outline.geom_type not in ("MultiPolygon", "GeometryCollection"):
        return [outline]
    joined = shapely.union_all([shapely.make_valid(part) for part in polygon_parts(outline)])
    parts = np.array(polygon_parts(joined), object)
    # An outline that crosses itself has parts that meet in a point.
    pairs = shapely.STRtree(parts).query(parts, "intersects")
    touching = coo_array((np.ones(pairs.shape[1]), pairs), shape=(len(parts), len(parts)))
    count, group = connected_components(touching, directed=False)
    if count <= 1:
        return [outline]
    separate = [shapely.union_all(parts[group == k]) for k in range(count)]
    return sorted(separate, key=lambda part: -part.area)


def read_nuclei(path: str | Path) -> ForeignNuclei:
    """Read the nuclei of a GeoJSON file; where it has none, all its objects.

    Several programs write nuclei as annotations, or all nuclei of a class as one shape: parts that
    do not touch are nuclei of their own, of which the largest keeps the id.

    Raises
    ------
    GeoJSONError
        When the file is absent or malformed.
    """
    read = read_objects(path)
    objects = [item for top in read for item in top.flattened()]
    nuclei = [item for item in objects if is_nucleus(item)] or objects
    parts = [separate_parts(nucleus_outline(item)) for item in nuclei]
    geometries = np.empty(sum(map(len, parts)), object)
    geometries[:] = [part for several in parts for part in several]
    owners = [
        (item, k) for item, several in zip(nuclei, parts, strict=True) for k in range(len(several))
    ]
    found = {
        name
        for item in nuclei
        if item.class_name is None
        for name in CLASS_PROPERTIES
        if isinstance(item.unknown_properties.get(name), str)
    }
    return ForeignNuclei(
        geometries,
        [item.id if k == 0 else None for item, k in owners],
        [item.class_name for item, _ in owners],
        sum(problem.skipped for problem in read.problems),
        sum(len(several) > 1 for several in parts),
        tuple(sorted(found)),
        sum((item.class_name or "").lstrip().startswith("{") for item in nuclei),
    )
