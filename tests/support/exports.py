"""Files that QuPath itself wrote, shared beside the project."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

EXPORTS = Path(__file__).resolve().parents[3] / "shared" / "qupath" / "exports"

EXPORTS_OF_EVERY_KIND = (
    "01_annotations_all_shapes.geojson",
    "04_annotations_locked_named_coloured.geojson",
    "05_annotations_classified_and_derived.geojson",
    "05_annotation_class_colour_with_alpha.geojson",
    "06_annotation_measurements_metadata.geojson",
    "07_detections_measurements_nan_inf.geojson",
    "07_detections_other_rois.geojson",
    "08_cells_nucleus_geometry.geojson",
    "09_tma_cores_incl_missing.geojson",
    "11_planes_z_t_c.geojson",
    "14_unicode_names.geojson",
    "old_v0.6.0_mixed_feature_collection.geojson",
)
"""All shapes, types of objects, classes, measurements and planes between them."""


def shared_export(name: str) -> Path:
    """Return one of QuPath's exports; without it the test is skipped, in CI it fails."""
    path = EXPORTS / name
    if not path.exists():
        if os.environ.get("CI"):
            pytest.fail(f"CI must have QuPath's export {name} in {EXPORTS}")
        pytest.skip(f"QuPath's export {name} is not there")
    return path
