from .archive.run import ArchiveSummary, run_archive
from .config import RunSettings
from .corrections.diff import diff
from .engine.applying import apply_corrections
from .engine.measuring import measure
from .engine.progress import Progress
from .engine.run import Result, run
from .errors import EngineError
from .models.registry import available_models
from .nuclei.table import NucleusTable
from .qupath.reader import iter_objects, read_objects
from .qupath.writer import write_objects
from .slide.opening import open_slide
from .version import __version__

__all__ = [
    "ArchiveSummary",
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
    "run_archive",
    "write_objects",
]
