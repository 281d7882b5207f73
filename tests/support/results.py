"""Finished results made by hand: a folder as a run leaves it, without a slide or a model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import shapely

from tests.support.nuclei_by_hand import some_nuclei
from wsi_engine.nuclei.identity import namespace_of, nucleus_ids
from wsi_engine.qupath.features import annotation_feature
from wsi_engine.qupath.writer import write_features
from wsi_engine.results.nucleus_table import GeoParquetWriter

SIDE_PX = 4000
"""Side of the slide, which is a square of 1 mm."""

WHOLE_SLIDE = shapely.box(0, 0, SIDE_PX, SIDE_PX)


def write_result(
    folder: Path,
    anchors,
    *,
    tissue=(WHOLE_SLIDE,),
    classes=(),
    labels=None,
    measurements=None,
    roi=None,
    mpp=0.25,
    finished="2026-01-01T00:00:00+00:00",
    **settings,
) -> Path:
    """Write a result; ``tissue`` of ``None`` is that of a run that did not look for any."""
    anchors = np.array(anchors, float).reshape(-1, 2)
    count = len(anchors)
    nuclei = replace(
        some_nuclei(count, len(classes)),
        polygons=np.asarray(shapely.buffer(shapely.points(anchors), 4), object).reshape(count),
        anchors=anchors,
        scores=np.full(count, 0.5, np.float32),
        classes=np.full(count, -1, np.int16) if labels is None else np.array(labels, np.int16),
    )
    columns = {k: np.array(v, np.float32) for k, v in (measurements or {}).items()}
    folder.mkdir(parents=True)
    with GeoParquetWriter(folder / "nuclei.parquet", classes, list(columns), {}) as writer:
        ids = nucleus_ids(namespace_of(folder.name, "model"), anchors)
        writer.write(ids, nuclei, columns)
    ids = nucleus_ids(namespace_of(folder.name, "tissue"), np.arange(20.0).reshape(10, 2))
    pieces = [
        annotation_feature(
            ids[k], piece, name=f"Tissue {k + 1}", classification="Tissue", locked=True
        )
        for k, piece in enumerate(tissue or ())
    ]
    write_features(folder / "tissue.geojson", pieces)
    if roi is not None:
        write_annotations_by_hand(folder / "roi.geojson", roi)
    record = {
        "slide": {
            "name": f"{folder.name}.svs",
            "bounds": {"x": 0, "y": 0, "width": SIDE_PX, "height": SIDE_PX},
            "mpp": {"x": mpp, "y": mpp},
        },
        "settings": {"tissue": tissue is not None, "roi_class": [], "exclude_class": []} | settings,
        "model": {"classes": list(classes)},
        "finished": finished,
    }
    (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    return folder


def write_annotations_by_hand(path: Path, *areas, names=None, classes=None) -> Path:
    """Write annotations as QuPath exports them, one per area."""
    ids = nucleus_ids(namespace_of("annotations", path.name), np.arange(200.0).reshape(100, 2))
    names, classes = names or [None] * len(areas), classes or [None] * len(areas)
    features = [
        annotation_feature(ids[k], area, name=name, classification=class_name)
        for k, (area, name, class_name) in enumerate(zip(areas, names, classes, strict=True))
    ]
    write_features(path, features)
    return path
