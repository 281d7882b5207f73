from .archive.run import ArchiveSummary, run_archive
from .config import RunSettings
from .corrections.diff import diff
from .engine.apply import apply_corrections
from .engine.classify import classify
from .engine.measure import measure
from .engine.progress import Progress
from .engine.run import run
from .errors import EngineError
from .export.export import export_result
from .models.check import check_model
from .models.protocol import Model, ModelSpec
from .models.registry import ModelEntry, available_models
from .nuclei.predictions import Predictions
from .nuclei.table import NucleusTable
from .qupath.reader import iter_objects, read_objects
from .qupath.writer import write_objects
from .regions.cohort import build_cohort
from .regions.measure import measure_regions
from .report.cohort import write_cohort_report
from .report.slide import write_report
from .results.result import Result, RunResult
from .slide.opening import open_slide
from .training.object_classifier import train_classifier
from .version import __version__

__all__ = [
    "ArchiveSummary",
    "EngineError",
    "Model",
    "ModelEntry",
    "ModelSpec",
    "NucleusTable",
    "Predictions",
    "Progress",
    "Result",
    "RunResult",
    "RunSettings",
    "__version__",
    "apply_corrections",
    "available_models",
    "build_cohort",
    "check_model",
    "classify",
    "diff",
    "export_result",
    "iter_objects",
    "measure",
    "measure_regions",
    "open_slide",
    "read_objects",
    "run",
    "run_archive",
    "train_classifier",
    "write_cohort_report",
    "write_objects",
    "write_report",
]
