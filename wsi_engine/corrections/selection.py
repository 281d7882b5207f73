"""Which objects of a corrected file are nuclei, and as what they are taken in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import shapely

from wsi_engine.nuclei.labels import OWN_KEYS
from wsi_engine.nuclei.polygons import largest_part
from wsi_engine.qupath.objects import PathObject
from wsi_engine.qupath.regions import is_of_class
from wsi_engine.qupath.roi import ROI

FLAT = "without an area"


class NucleusSelection:
    """Takes the nuclei out of a stream of objects.

    Detections are nuclei, and so are the nuclei of cells, or the cells that have none. What
    is drawn by hand in QuPath is an annotation: those of some classes can be taken for nuclei.
    Of a shape in several parts the largest is taken.

    Parameters
    ----------
    drawn_class
        Classes of annotations that are nuclei.

    Attributes
    ----------
    left_out
        How many objects were no nuclei, by type, or for want of an area.
    """

    def __init__(self, drawn_class: Sequence[str] = ()) -> None:
        self.left_out: Counter[str] = Counter()
        self._drawn_class = drawn_class

    def nuclei(self, objects: Iterable[PathObject]) -> Iterator[PathObject]:
        """Yield nuclei as detections of one polygon each."""
        for item in objects:
            if not self._is_nucleus(item):
                self.left_out[item.object_type] += 1
                continue
            polygon = _one_polygon(item.geometry if item.nucleus is None else item.nucleus.geometry)
            if polygon is None:
                self.left_out[FLAT] += 1
                continue
            metadata = {key: text for key, text in item.metadata.items() if key not in OWN_KEYS}
            yield replace(
                item,
                object_type="detection",
                roi=ROI(polygon),
                nucleus=None,
                metadata=metadata,
                children=[],
            )

    def _is_nucleus(self, item: PathObject) -> bool:
        if item.object_type == "annotation":
            return is_of_class(item.classification, self._drawn_class)
        return item.object_type in ("detection", "cell")


def _one_polygon(shape: shapely.Geometry) -> shapely.Polygon | None:
    largest = largest_part(shape)
    return largest if largest.area > 0 else None
