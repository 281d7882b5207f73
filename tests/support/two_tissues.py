"""A generated slide with two kinds of tissue, glands in stroma, and what a person draws on it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely

from tests.support.objects_by_hand import item, write_file
from tests.support.slides import glass
from wsi_engine.phantom import lay_out_tissue, render_tissue, scatter_nuclei
from wsi_engine.slide.pyramid import write_pyramid
from wsi_engine.slide.tissue import outline

MPP = 0.5
SIDE_PX, BORDER_PX = 960, 100


@dataclass(frozen=True)
class TwoTissues:
    """A slide and the truth about it, in QuPath pixels.

    Attributes
    ----------
    field
        The tissue; all around it is glass.
    glands
        The glands in it with their lumens, whole polygons; the rest is stroma.
    """

    path: Path
    field: shapely.Polygon
    glands: tuple[shapely.Polygon, ...]

    @property
    def inner(self) -> shapely.Geometry:
        """The field without its edges, where glands are cut open as no tissue is."""
        return self.field.buffer(-60)

    @property
    def glandular(self) -> shapely.Geometry:
        return shapely.union_all(self.glands)

    def drawn(self, path: Path) -> Path:
        """Annotations as a person draws them: half of the glands, some stroma, some glass."""
        glands = sorted(self.glands, key=lambda gland: gland.area)[::2]
        stroma = shapely.get_parts(self.field - self.glandular.buffer(6))
        left, top, right, bottom = self.field.bounds
        middle = (left + right) / 2
        bands = [
            shapely.box(left, y, right, y + (bottom - top) / 6)
            for y in np.linspace(top, bottom, 4)[:3]
        ]
        strips = [shapely.union_all(stroma) & band for band in bands]
        # Without what is beside it on both sides, the edge of tissue is taken for that of a lumen.
        strips.append(shapely.union_all(stroma) - self.field.buffer(-50))
        around = self.field.buffer(80, join_style="mitre") - self.field
        empty = [around & shapely.box(0, 0, middle, 2e3), around - shapely.box(0, 0, middle, 2e3)]
        classes = {"Gland": glands, "Stroma": strips, "Ignore*": empty}
        shapes = [(name, shape) for name, group in classes.items() for shape in group]
        return write_file(
            path,
            [
                item(shape, k, name, object_type="annotation")
                for k, (name, shape) in enumerate(shapes)
            ],
        )


def write_two_tissues(path: Path, seed: int = 0) -> TwoTissues:
    """Write a slide of 0.5 mm a side; another seed is another slide."""
    rng = np.random.default_rng(seed)
    shape = (SIDE_PX, SIDE_PX)
    tissue = lay_out_tissue(shape, MPP, rng, gland_share=0.4)
    field = render_tissue(shape, scatter_nuclei(tissue, rng), MPP, rng, tissue)
    slide = glass(SIDE_PX + 2 * BORDER_PX, SIDE_PX + 2 * BORDER_PX, seed)
    inside = slice(BORDER_PX, BORDER_PX + SIDE_PX)
    slide[inside, inside] = field
    write_pyramid(path, slide, MPP)
    step = SIDE_PX / tissue.depth_um.shape[0]
    glands = shapely.transform(
        outline(tissue.depth_um > 0), lambda xy: np.round(xy * step + BORDER_PX)
    )
    box = shapely.box(BORDER_PX, BORDER_PX, BORDER_PX + SIDE_PX, BORDER_PX + SIDE_PX)
    whole = [part.buffer(0) for part in shapely.get_parts(glands)]
    return TwoTissues(path, box, tuple(whole))
