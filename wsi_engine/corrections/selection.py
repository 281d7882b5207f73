"""The nuclei of a corrected file, as they are taken in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import shapely

from wsi_engine.corrections.marks import notes_of
from wsi_engine.nuclei.polygons import largest_part
from wsi_engine.qupath.nuclei import is_nucleus, nucleus_outline, separate_parts
from wsi_engine.qupath.objects import PathObject
from wsi_engine.qupath.roi import ROI

FLAT = "without an area"
CHECKED = "Checked"
"""Class of the annotations in which a person has looked at everything."""


class NucleusSelection:
    """Takes the nuclei, as `wsi_engine.qupath.nuclei` has them, out of a stream of objects.

    Parameters
    ----------
    drawn_class
        Classes of annotations that are nuclei.

    Attributes
    ----------
    left_out
        Number of objects that were no nuclei, by type, or for want of an area.
    checked
        Areas of the annotations whose class is `CHECKED`, on the 0.01 px grid.
    """

    def __init__(self, drawn_class: Sequence[str] = ()) -> None:
        self.left_out: Counter[str] = Counter()
        self.checked: list[shapely.Geometry] = []
        self._drawn_class = drawn_class

    def nuclei(self, objects: Iterable[PathObject]) -> Iterator[PathObject]:
        """Yield nuclei as detections of one polygon each; parts that do not touch one by one."""
        for item in objects:
            if not is_nucleus(item, self._drawn_class):
                if (area := _checked_area(item)) is None:
                    self.left_out[item.object_type] += 1
                else:
                    self.checked.append(area)
                continue
            polygons = [
                polygon
                for part in separate_parts(nucleus_outline(item))
                if (polygon := largest_part(part)).area > 0
            ]
            if not polygons:
                self.left_out[FLAT] += 1
                continue
            for k, polygon in enumerate(polygons):
                yield replace(
                    item,
                    id=item.id if k == 0 else None,
                    object_type="detection",
                    roi=ROI(polygon),
                    nucleus=None,
                    metadata=notes_of(item),
                    children=[],
                )


def _checked_area(item: PathObject) -> shapely.Geometry | None:
    """Return the area of an annotation that says where everything was looked at."""
    if item.object_type != "annotation" or item.class_name != CHECKED:
        return None
    area = shapely.set_precision(shapely.make_valid(item.geometry), 0.01)
    return shapely.normalize(area) if area.area > 0 else None
