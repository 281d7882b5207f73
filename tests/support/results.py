"""Finished results made by hand: a folder as a run leaves it, without a slide or a model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import shapely

from tests.support.nuclei_by_hand import some_nuclei
from wsi_engine.config import RunSettings
from wsi_engine.engine.provenance import describe_measurements, describe_settings
from wsi_engine.nuclei.identity import namespace_of, nucleus_ids
from wsi_engine.qupath.features import annotation_feature
from wsi_engine.qupath.writer import write_features
from wsi_engine.results.facts import (
    Bounds,
    FoundNuclei,
    MachineFacts,
    ModelFacts,
    PixelSize,
    SlideFacts,
    TileFacts,
    TissueFacts,
)
from wsi_engine.results.nucleus_table import GeoParquetWriter
from wsi_engine.results.record import RunRecord
from wsi_engine.slide.stain_vectors import H_AND_E

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
    table = folder / "nuclei.parquet"
    with GeoParquetWriter(table, classes, list(columns), {}, slide=folder.name) as writer:
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
    record = make_record(
        slide=slide_facts(f"{folder.name}.svs", mpp),
        slide_path=str(folder / "gone.svs"),
        nuclei=FoundNuclei(count=count, area_mm2=1.0, density_per_mm2=float(count)),
        model=model_facts(tuple(classes)),
        settings=describe_settings(
            RunSettings(tissue=tissue is not None, regions=False, report=False, **settings)
        ),
        finished=finished,
    )
    (folder / "run.json").write_text(record.text(), encoding="utf-8")
    return folder


def make_record(**facts) -> RunRecord:
    """Return the record of a run that found nothing, but for some facts."""
    usual = {
        "files": {},
        "slide": slide_facts("slide.svs", 0.25),
        "slide_path": "gone.svs",
        "unreadable": (),
        "warnings": (),
        "tissue": TissueFacts(pieces=None, area_mm2=None, threshold_od=None),
        "nuclei": FoundNuclei(count=0, area_mm2=1.0, density_per_mm2=0.0),
        "corrections": None,
        "model": model_facts(()),
        "measurements": describe_measurements((), H_AND_E),
        "settings": describe_settings(RunSettings(regions=False, report=False)),
        "basis": {},
        "tiles": TileFacts(
            count=1, resumed=0, core_px=1024, halo_px=64, read_level=0, megapixels=1.0,
            seconds=1.0, model_busy=0.5,
        ),
        "workers": (),
        "stages": {},
        "peak_rss_mb": None,
        "versions": {},
        "machine": MachineFacts(platform="by hand", devices=()),
        "started": "2026-01-01T00:00:00+00:00",
        "finished": "2026-01-01T00:00:00+00:00",
    }  # fmt: skip
    return RunRecord(**usual | facts)


def slide_facts(name: str, mpp: float) -> SlideFacts:
    return SlideFacts(
        name=name,
        fingerprint=f"of {name}",
        vendor="none",
        width=SIDE_PX,
        height=SIDE_PX,
        bounds=Bounds(x=0, y=0, width=SIDE_PX, height=SIDE_PX),
        mpp=PixelSize(x=mpp, y=mpp),
        mpp_source="by hand",
        objective_power=None,
    )


def model_facts(classes: tuple[str, ...]) -> ModelFacts:
    return ModelFacts(
        name="model", summary="none", mpp=0.5, stride=1, receptive_radius_px=1,
        largest_object_px=64, classes=classes, licence="none", embedded=True, max_overlap=0.3,
        reach_px=None, calibration={},
    )  # fmt: skip


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
