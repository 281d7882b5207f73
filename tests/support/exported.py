"""Finished results to be exported: a corrected one, and those in which something is missing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import shapely

from tests.support.results import write_result
from wsi_engine.engine.apply import apply_corrections
from wsi_engine.qupath.objects import PathClass, PathObject
from wsi_engine.qupath.reader import read_objects
from wsi_engine.qupath.roi import ROI
from wsi_engine.qupath.writer import write_objects
from wsi_engine.results.nucleus_table import read_nuclei

STRANGE = ('Tumor: "A", B; ü/µ', "=1+1", "A: B", " 'x' ")

AREAS = {"Area µm^2": [12.5, np.nan, 1e-7], "Nucleus/Cell area ratio": [0.1, 0.2, np.nan]}

CASES: dict[str, dict[str, Any]] = {
    "nothing found": {"anchors": []},
    "one nucleus": {"anchors": [(100, 200)], "measurements": {"Area µm^2": [12.5]}},
    "nothing measured": {"anchors": [(100, 200), (300, 200)], "classes": ("A",), "labels": [0, -1]},
    "values missing": {"anchors": [(10, 20), (30, 20), (3000, 3999)], "measurements": AREAS},
    "strange names": {
        "anchors": [(100, 100 * k) for k in range(1, 6)],
        "classes": STRANGE,
        "labels": [0, 1, 2, 3, -1],
        "measurements": {"Area µm^2": range(5), "=a, \"b\"": range(5)},
    },
    "of two classes, none of the first": {
        "anchors": [(100, 200)], "classes": ("A", "B"), "labels": [1],
    },
}  # fmt: skip
"""What `results.write_result` makes a folder of."""


def case(folder: Path, name: str) -> Path:
    """Write the folder of a case."""
    return write_result(folder / "slide", **CASES[name])


def corrected(finished: Path, folder: Path) -> Path:
    """Copy a result and correct it: one edited with all that there is, one deleted, one drawn."""
    copy = Path(shutil.copytree(finished, folder / finished.name))
    objects = read_objects(copy / "nuclei.geojson.gz")
    first = objects[0]
    first.classification = PathClass(("Tumor", "Positive"), (1, 2, 3))
    first.name, first.metadata["Note"] = "odd one", "ask again"
    hole = shapely.Point(700, 700).buffer(9).difference(shapely.Point(700, 700).buffer(3))
    drawn = PathObject(
        object_type="detection",
        roi=ROI(shapely.set_precision(hole, 0.01)),
        id="8f14e45f-ceea-467f-a1b2-3c4d5e6f7a8b",
        classification=PathClass.of("Drawn; new"),
    )
    write_objects(folder / "corrected.geojson", [*objects[:1], *objects[2:], drawn])
    apply_corrections(folder / "corrected.geojson", copy)
    return copy


def truth(folder: Path) -> pa.Table:
    """The table of a result; what is not defined is NaN or null."""
    return read_nuclei(folder / "nuclei.parquet").arrow


def polygons(folder: Path) -> np.ndarray:
    return read_nuclei(folder / "nuclei.parquet").polygons


def with_slide(folder: Path, **facts: Any) -> Path:
    """Change what ``run.json`` says of the slide."""
    record = json.loads((folder / "run.json").read_text("utf-8"))
    record["slide"] |= facts
    (folder / "run.json").write_text(json.dumps(record), "utf-8")
    return folder
