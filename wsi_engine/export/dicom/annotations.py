"""Nuclei as DICOM Microscopy Bulk Simple Annotations (PS3.3, A.87)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from wsi_engine.errors import ExportError
from wsi_engine.export.dicom import codes
from wsi_engine.export.dicom.identity import Identity, made_of
from wsi_engine.export.dicom.outlines import Outlines
from wsi_engine.export.dicom.regions import segmentation
from wsi_engine.export.dicom.slide import DicomSlide, dicom_slide_of
from wsi_engine.export.dicom.streaming import Item, held, require_length, write_file
from wsi_engine.export.extras import extra
from wsi_engine.export.options import Options
from wsi_engine.export.qupath_geojson import chosen_measurements
from wsi_engine.results.finished import SlideResult
from wsi_engine.results.nucleus_table import PROBABILITY
from wsi_engine.results.record import RunRecord
from wsi_engine.writing import atomic_path

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_MEASUREMENTS, _FLOATS, _OF_ANNOTATIONS = 0x0066_0121, 0x0066_0125, 0x006A_0011
_VALUES = 0x0066_0132
_GROUPS = 0x006A_0002


def write(run: SlideResult, path: Path, options: Options) -> list[Path]:
    """Write one annotation group per class, with outlines and measurements, and the regions.

    Annotation k of a class is its k-th nucleus in every table. Outlines are exteriors, in pixels
    of the total pixel matrix of the slide's finest level: exact, and the same numbers as in all
    other files. With ``mm`` they are in the slide's frame of reference in place of pixels. Patient,
    study and specimen are those of the slide. A row group and one column are in memory at a time,
    and six bytes for each nucleus.

    Raises
    ------
    ExportError
        When highdicom is not installed, the slide is not in DICOM, there are no nuclei, or those
        of a class take more bytes than an element of DICOM holds.
    """
    if len(run) == 0:
        raise ExportError(f"{run.name} holds no nuclei, and DICOM no annotations without one")
    slide = dicom_slide_of(run, options.slide)
    outlines = Outlines(run, slide, in_mm=options.mm)
    identity = Identity.of(run, slide, f"{options.mm} {options.measurements}")
    names = [
        "score",
        *_probabilities(run, options),
        *chosen_measurements(run, options.measurements),
    ]
    groups = _classes(run)
    item = Item(
        _object(run, slide, identity, names, in_mm=options.mm),
        sequences={_GROUPS: (_group(run, outlines, identity, names, *each) for each in groups)},
    )
    for _, label in groups:
        require_length(outlines.length(label), f"the outlines of {_word(run, label)}")
    regions = segmentation(run, slide, identity)
    beside = path.with_name(f"{path.stem}_regions{path.suffix}")
    with atomic_path(path) as partial:
        write_file(partial, item)
    if regions is None:
        beside.unlink(missing_ok=True)  # of an earlier export
        return [path]
    with atomic_path(beside) as partial:
        regions.save_as(partial)
    return [path, beside]


def _probabilities(run: SlideResult, options: Options) -> list[str]:
    if options.measurements != "all":
        return []
    return [PROBABILITY + name for name in run.table.classes]


def _classes(run: SlideResult) -> list[tuple[int, int]]:
    """Return a number from 1 and the label of each class that nuclei have; no class is last."""
    labels = sorted(np.unique(run.labels).tolist(), key=lambda label: (label < 0, label))
    return list(enumerate(labels, start=1))


def _word(run: SlideResult, label: int) -> str:
    return "nuclei without a class" if label < 0 else f"the class {run.classes[label]!r}"


def _object(
    run: SlideResult, slide: DicomSlide, identity: Identity, names: Sequence[str], *, in_mm: bool
) -> Dataset:
    """Return the annotations without their groups."""
    used = [codes.nucleus_code(name)[1] for name in run.classes]
    used += [codes.measurement_code(run.described(name)) for name in names]
    sources = slide.levels if in_mm else (slide.finest,)
    own = identity.arguments("annotations", used)
    annotations = extra("highdicom.ann", "dicom").MicroscopyBulkSimpleAnnotations
    return made_of(
        slide,
        lambda: annotations(
            source_images=sources,
            annotation_coordinate_type="3D" if in_mm else "2D",
            annotation_groups=[],
            content_label="NUCLEI",
            content_description=f"Nuclei found by {codes.text(run.record.model.name)}",
            **own,
        ),
        identity,
    )


def _group(
    run: SlideResult,
    outlines: Outlines,
    identity: Identity,
    names: Sequence[str],
    number: int,
    label: int,
) -> Item:
    """Return the annotation group of a class."""
    dataset = extra("pydicom.dataset", "dicom").Dataset()
    name = None if label < 0 else run.classes[label]
    category, kind = codes.nucleus_code(name)
    dataset.AnnotationGroupNumber = number
    dataset.AnnotationGroupUID = identity.uid(f"group {number}")
    dataset.AnnotationGroupLabel = codes.text(name or codes.NUCLEUS.meaning)
    dataset.AnnotationGroupDescription = name or "Nuclei without a class"
    dataset.AnnotationGroupGenerationType = "SEMIAUTOMATIC" if _is_corrected(run) else "AUTOMATIC"
    dataset.AnnotationGroupAlgorithmIdentificationSequence = identity.algorithm(
        run.record.model.name
    )
    dataset.AnnotationPropertyCategoryCodeSequence = [codes.concept(category)]
    dataset.AnnotationPropertyTypeCodeSequence = [codes.concept(kind)]
    dataset.NumberOfAnnotations = outlines.count(label)
    dataset.AnnotationAppliesToAllOpticalPaths = "YES"
    dataset.GraphicType = "POLYGON"
    if outlines.common_z is not None:
        dataset.AnnotationAppliesToAllZPlanes = "NO"
        dataset.CommonZCoordinateValue = outlines.common_z
    if (colour := run.record.model.class_colours.get(name or "")) is not None:
        lab = extra("highdicom.color", "dicom").CIELabColor.from_rgb(*colour)
        dataset.RecommendedDisplayCIELabValue = list(lab.value)
    chosen = outlines.labels == label
    measured = (_measurement(run, name, chosen) for name in names)
    return Item(
        dataset,
        values=outlines.values(label),
        sequences={_MEASUREMENTS: (item for item in measured if item is not None)},
    )


def _is_corrected(run: SlideResult) -> bool:
    return isinstance(run.record, RunRecord) and run.record.corrections is not None


def _measurement(run: SlideResult, name: str, chosen: npt.NDArray[np.bool_]) -> Item | None:
    """Return one measurement of a group; ``None`` where it is defined for none of its nuclei."""
    values = np.asarray(run.table.column(name).to_numpy(), "<f4")[chosen]
    defined = np.isfinite(values)
    if not defined.any():
        return None
    column = run.described(name)
    dataset = extra("pydicom.dataset", "dicom").Dataset()
    dataset.ConceptNameCodeSequence = [codes.concept(codes.measurement_code(column))]
    dataset.MeasurementUnitsCodeSequence = [codes.concept(codes.unit_code(column))]
    long = {_FLOATS: held("OF", values[defined])}
    if not defined.all():
        # Counted from 1, as all indices of annotations are.
        long[_OF_ANNOTATIONS] = held("OL", (np.flatnonzero(defined) + 1).astype("<u4"))
    return Item(dataset, sequences={_VALUES: [Item(extra("pydicom.dataset").Dataset(), long)]})
