"""The rows of a page's tables: headline, classes, regions, how the run was done."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from wsi_engine.report.colours import UNCLASSIFIED
from wsi_engine.report.maps import class_colours
from wsi_engine.results.facts import CorrectionFacts, ModelFacts, SlideFacts
from wsi_engine.results.finished import SlideResult
from wsi_engine.results.layout import REGIONS_TABLE, ROI_FILE
from wsi_engine.results.record import Record, RunRecord
from wsi_engine.results.table_metadata import facts_of

Rows = list[tuple[str, str]]

REGION_COLUMNS = {
    "Searched area mm^2": "mm²",
    "Nuclei": "nuclei",
    "Nuclei per mm^2": "per mm²",
    "Positive %": "positive %",
    "H-score": "H-score",
    "Area µm^2: Median": "median area, µm²",
    "Circularity: Median": "median circularity",
    "Hematoxylin: Mean: Median": "median haematoxylin, OD",
}
LISTED_REGIONS, LISTED_BOXES = 60, 12


def headline(result: SlideResult) -> list[tuple[str, str]]:
    """Return the three numbers that matter, and what they are."""
    area = float(result.searched.area) * result.mpp.pixel_area_um2 / 1e6
    count = int(result.on_slide.sum())
    density = f"{count / area:,.0f}" if area > 0 else "–"
    bounded = (result.folder / ROI_FILE).exists()
    place = "tissue" if result.record.settings.tissue and not bounded else "searched"
    return [
        (f"{count:,}", "nuclei"),
        (density, "nuclei per mm²"),
        (f"{area:.2f}" if area >= 0.1 else f"{area:.3g}", f"mm² {place}"),
    ]


def class_rows(result: SlideResult) -> list[dict[str, Any]]:
    """Return name, colour, count and share of each class, the unclassified last."""
    if not result.classes:
        return []
    labels = result.labels[result.on_slide]
    counts = np.bincount(labels + 1, minlength=len(result.classes) + 1)
    named = [*class_colours(result.classes).items(), ("unclassified", UNCLASSIFIED)]
    ordered = [*counts[1:].tolist(), int(counts[0])]
    return [
        {"name": name, "colour": colour, "count": n, "share": 100 * n / max(len(labels), 1)}
        for (name, colour), n in zip(named, ordered, strict=True)
        if n or name != "unclassified"
    ]


def region_rows(result: SlideResult) -> dict[str, Any] | None:
    """Return what ``regions.parquet`` says of these nuclei; ``None`` if nothing."""
    path = result.folder / REGIONS_TABLE
    try:
        table = pq.read_table(path)
        nuclei = facts_of(table.schema)["nuclei_sha256"]
    except (OSError, pa.ArrowInvalid, KeyError, TypeError, ValueError):
        return None
    if nuclei != result.digest:
        return None
    shown = {k: title for k, title in REGION_COLUMNS.items() if k in table.column_names}
    names = [name for name in ("region", "kind", "class") if name in table.column_names]
    rows = table.select([*names, *shown]).slice(0, LISTED_REGIONS).to_pylist()
    return {
        "names": names,
        "numbers": shown,
        "rows": rows,
        "more": max(0, len(table) - LISTED_REGIONS),
    }


def facts_of_run(result: SlideResult) -> dict[str, Any]:
    """Return what a reader needs to trust a result, or to do it again."""
    record = result.record
    slide, boxes = record.slide, record.unreadable
    return {
        "warnings": record.warnings,
        "unreadable": [
            f"x {box.x_min:.0f} to {box.x_max:.0f}, y {box.y_min:.0f} to {box.y_max:.0f}"
            for box in boxes[:LISTED_BOXES]
        ],
        "unreadable_count": len(boxes),
        "tables": {
            "Slide": _present(
                ("file", slide.name),
                ("size", _size(slide)),
                ("pixel size", f"{result.mpp.x:.4g} × {result.mpp.y:.4g} µm"),
                ("stated by", slide.mpp_source),
                ("objective", _formatted(slide.objective_power, "{:g}×")),
                ("format", slide.vendor),
            ),
            "Model": _model_rows(record),
            "Run": _run_rows(record),
            "Settings": _present(*((name, _setting(v)) for name, v in record.settings)),
            "Versions": [*record.versions.items()],
        },
    }


def _model_rows(record: Record) -> Rows:
    model = record.model
    what = reads_at = licence = corrected = None
    if isinstance(model, ModelFacts):
        what, licence, reads_at = model.summary, model.licence, f"{model.mpp:g} µm per pixel"
    if isinstance(record, RunRecord):
        corrected = _corrections(record.corrections)
    return _present(
        ("name", model.name),
        ("what", what),
        ("reads at", reads_at),
        ("classes", ", ".join(model.classes) or "none"),
        ("licence", licence),
        ("stains", record.measurements.stains.name),
        ("corrected in QuPath", corrected),
    )


def _run_rows(record: Record) -> Rows:
    times = [("started", _time(record.started)), ("finished", _time(record.finished))]
    memory = ("memory", _formatted(record.peak_rss_mb, "{:,.0f} MB at the peak"))
    if not isinstance(record, RunRecord):
        return _present(*times, memory)
    slowest = sorted(record.stages.items(), key=lambda stage: -stage[1].wall_s)[:4]
    return _present(
        *times,
        ("computing", f"{record.tiles.seconds:.1f} s"),
        ("tiles", f"{record.tiles.count:,}"),
        ("longest stages", ", ".join(f"{name} {took.wall_s:.1f} s" for name, took in slowest)),
        memory,
        ("device", ", ".join(record.machine.devices)),
        ("platform", record.machine.platform),
    )


def _present(*rows: tuple[str, str | None]) -> Rows:
    return [(name, value) for name, value in rows if value]


def _formatted(value: float | None, form: str) -> str | None:
    return None if value is None else form.format(value)


def _size(slide: SlideFacts) -> str:
    return f"{slide.bounds.width:,} × {slide.bounds.height:,} px"


def _time(stamp: str) -> str:
    try:
        return datetime.fromisoformat(stamp).strftime("%Y-%m-%d %H:%M:%S %Z").strip()
    except ValueError:
        return stamp


def _setting(value: Any) -> str | None:
    """Write a setting; ``None`` for one that was left open."""
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return None if value is None else str(value)


def _corrections(made: CorrectionFacts | None) -> str | None:
    if made is None:
        return None
    counts = {k: v for k, v in made.model_dump().items() if isinstance(v, int) and v}
    return ", ".join(f"{k} {v:,}" for k, v in counts.items()) or "yes"
