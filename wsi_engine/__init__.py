"""Whole slide in, every nucleus out: a QuPath-interoperable whole-slide processing engine.

The way of the data, left to right, no way back::

    slide/ -> schedule/ -> models/ -> nuclei/ -> store/ -> qupath/, export/
    pixels    tiles,       maps,      columns    parts +   GeoJSON, tables
              batches      polygons              journal

``engine/`` wires the stages together, ``cli.py`` parses and prints, ``config.py`` holds every
setting once.
"""

from wsi_engine.config import RunSettings
from wsi_engine.corrections.diff import diff
from wsi_engine.engine.applying import apply_corrections
from wsi_engine.engine.measuring import measure
from wsi_engine.engine.progress import Progress
from wsi_engine.engine.run import Result, run
from wsi_engine.errors import EngineError
from wsi_engine.models.registry import available_models
from wsi_engine.nuclei.table import NucleusTable
from wsi_engine.qupath.reader import iter_objects, read_objects
from wsi_engine.qupath.writer import write_objects
from wsi_engine.slide.opening import open_slide
from wsi_engine.version import __version__

__all__ = [
    "EngineError",
    "NucleusTable",
    "Progress",
    "Result",
    "RunSettings",
    "__version__",
    "apply_corrections",
    "available_models",
    "diff",
    "iter_objects",
    "measure",
    "open_slide",
    "read_objects",
    "run",
    "write_objects",
]
