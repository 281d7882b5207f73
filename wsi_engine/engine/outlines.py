"""Where nuclei were looked for, as annotations for QuPath."""

from __future__ import annotations

import uuid
from pathlib import Path

from wsi_engine.engine.plan import Plan
from wsi_engine.qupath.features import Feature, annotation_feature
from wsi_engine.qupath.objects import object_features
from wsi_engine.qupath.writer import write_features
from wsi_engine.results.layout import ROI_FILE, TISSUE_FILE


def write_outlines(plan: Plan, folder: Path) -> None:
    """Write the tissue, and the regions that bound the work, as annotations for QuPath."""
    write_features(folder / TISSUE_FILE, _tissue_features(plan))
    if plan.regions is not None:
        drawn = (*plan.regions.wanted, *plan.regions.excluded, *plan.regions.missing)
        write_features(folder / ROI_FILE, object_features(drawn))


def _tissue_features(plan: Plan) -> list[Feature]:
    pixel_mm2 = plan.reader.grid.slide_mpp.pixel_area_um2 / 1e6
    pieces = plan.tissue.pieces if plan.tissue is not None else ()
    return [
        annotation_feature(
            str(uuid.uuid5(plan.namespace, f"tissue {k}")),
            piece,
            name=f"Tissue {k}",
            classification="Tissue",
            locked=True,
            measurements={"Area mm^2": piece.area * pixel_mm2},
        )
        for k, piece in enumerate(pieces, start=1)
    ]
