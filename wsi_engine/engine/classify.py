"""Classes for the nuclei of a finished result: from an object classifier, or positive ones."""

from __future__ import annotations

import uuid
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import shapely

from wsi_engine.corrections.classified import Classes, Doubt
from wsi_engine.corrections.positive import Intensities
from wsi_engine.corrections.record import Corrections, corrections_for
from wsi_engine.corrections.rewrite import CellExtent, write_corrected
from wsi_engine.digests import digest_of
from wsi_engine.engine.basis import basis_of_classes
from wsi_engine.engine.summaries import write_summaries
from wsi_engine.errors import ResultError
from wsi_engine.models.objects.classifier import LEARNT, ObjectClassifier
from wsi_engine.models.objects.file import classifier_bytes, read_classifier
from wsi_engine.nuclei.identity import namespace_of
from wsi_engine.nuclei.labels import ENGINE, OTHER
from wsi_engine.nuclei.positivity import Positivity
from wsi_engine.qupath.objects import PathObject, object_features
from wsi_engine.qupath.regions import read_bounds_of_work
from wsi_engine.qupath.roi import ROI
from wsi_engine.qupath.writer import write_features
from wsi_engine.results.facts import ClassifierFacts, PositivityFacts
from wsi_engine.results.folder import ResultFolder
from wsi_engine.results.layout import (
    CLASSIFIER,
    CLASSIFIER_FILES,
    DOUBTFUL,
    NUCLEI_FILES,
    REPORT_FILE,
    ROI_FILE,
)
from wsi_engine.results.record import Record, RunRecord, read_record, side_of_pixels
from wsi_engine.slide.frames import Mpp
from wsi_engine.writing import clear_write_errors

R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class Classified:
    """The outcome of classifying a result.

    Attributes
    ----------
    folder
        Folder of the result.
    counts
        Number of nuclei of each class; of ``None``, those of which too little is measured.
    doubtful
        The nuclei of which a new classifier is least sure, the least sure first.
    warnings
        Sentences on what is other on this slide than on those that the classifier learnt from.
    """

    folder: Path
    counts: dict[str | None, int]
    doubtful: tuple[Doubt, ...]
    warnings: tuple[str, ...]


def classify(
    folder: str | Path,
    classifier: ObjectClassifier | str | Path | None = None,
    positivity: Positivity | None = None,
) -> Classified:
    """Give the nuclei of a finished result the classes of a classifier, or intensities, or both.

    GeoJSON and table are written anew, with a probability for each class of a classifier; regions
    and page that were there are made again. A class that a person gave by `apply` stays. A
    classifier is kept beside the result, and so are the nuclei of which it is least sure, as
    points. No pixels are read. Memory: what `apply` needs, whatever the number of nuclei.

    Parameters
    ----------
    folder
        ``OUT/<slide>``, as `run` or `measure` wrote it.
    classifier
        The classifier, as `train_classifier` gives it, or its file; without one the classes stay,
        and are those of the classifier that the result has.
    positivity
        Thresholds that tell positive nuclei of each class; without any, those that the result
        has.

    Returns
    -------
    Classified
        How many nuclei each class has, and what to look at.

    Raises
    ------
    ModelError
        When the file holds no classifier.
    ResultError
        When there is no result, or it lacks a measurement that is looked at.
    BusyError
        When another process works in the folder.
    OutputError
        When the result cannot be written.

    Examples
    --------
    A classifier from nuclei that were given a class in QuPath, here by their size:

    >>> import wsi_engine
    >>> from wsi_engine.qupath.objects import PathClass
    >>> nuclei = wsi_engine.read_objects("results/slide/nuclei.geojson.gz")
    >>> areas = [nucleus.measurements["Area µm^2"] for nucleus in nuclei]
    >>> for nucleus, area in zip(nuclei, areas):
    ...     name = "Tumor" if area > np.median(areas) else "Lymphocyte"
    ...     nucleus.classification = PathClass.of(name)
    >>> count = wsi_engine.write_objects("corrected.geojson", nuclei)
    >>> trained = wsi_engine.train_classifier([("results/slide", ["corrected.geojson"])])
    >>> classified = wsi_engine.classify("results/slide", trained.classifier)
    >>> sorted(classified.counts)
    ['Lymphocyte', 'Tumor']
    """
    if isinstance(classifier, str | Path):
        classifier = read_classifier(Path(classifier))
    with ResultFolder.of_result(Path(folder)) as result:
        record, had_page = read_record(result.path), (result.path / REPORT_FILE).exists()
        with clear_write_errors(result.path):
            classes, intensities = _rewrite(result, record, classifier, positivity)
        write_summaries(result, regions=False, report=had_page)
        last = intensities or classes
        new = None if classifier is None else classes
        return Classified(
            result.path,
            {} if last is None else dict(last.counts),
            () if new is None else tuple(new.doubtful),
            () if new is None else tuple(_differences(record, new.classifier)),
        )


def classes_of(
    folder: Path,
    record: Record,
    corrections: Corrections,
    classifier: ObjectClassifier | None = None,
    positivity: Positivity | None = None,
) -> tuple[Classes | None, Intensities | None]:
    """Return what gives a result its classes: what is given, else what it has."""
    if classifier is None and record.classifier is not None:
        classifier = read_classifier(folder / CLASSIFIER)
    if positivity is None and record.positivity is not None:
        positivity = record.positivity.rule
    return (
        None if classifier is None else Classes(classifier, corrections),
        None if positivity is None else Intensities(positivity),
    )


def _rewrite(
    result: ResultFolder,
    record: Record,
    classifier: ObjectClassifier | None,
    positivity: Positivity | None,
) -> tuple[Classes | None, Intensities | None]:
    folder, model = result.path, record.model
    corrections = Corrections.none(record.slide.fingerprint, model.name)
    if isinstance(record, RunRecord):
        corrections = corrections_for(folder, record.slide.fingerprint, model.name)
    classes, intensities = classes_of(folder, record, corrections, classifier, positivity)
    rewrite(result, record, corrections, classes, intensities, drawn=corrections.added)
    asked = {} if classifier is None else {"classifier": CLASSIFIER}
    if positivity is not None:
        asked["positive"] = str(positivity)
    record = record.model_copy(update={"settings": record.settings.model_copy(update=asked)})
    result.publish(
        recorded(record, classes, intensities, result.growing, record.positivity),
        replaced=[NUCLEI_FILES, *CLASSIFIER_FILES, REPORT_FILE],
    )
    return classes, intensities


def rewrite(
    result: ResultFolder,
    record: Record,
    corrections: Corrections,
    classes: Classes | None,
    intensities: Intensities | None,
    drawn: Collection[str],
) -> int:
    """Write the nuclei of a finished result anew, to grow beside it; return their number.

    Parameters
    ----------
    result, record
        The result, and its record as it is.
    corrections
        Those that the nuclei are to have.
    classes, intensities
        What gives them their classes, as `classes_of` returns it.
    drawn
        Ids of nuclei in the result that a person drew.
    """
    folder, settings = result.path, record.settings
    regions = None
    if (folder / ROI_FILE).exists():
        regions = read_bounds_of_work(folder / ROI_FILE, settings.roi_class, settings.exclude_class)
    count, _ = write_corrected(
        folder,
        result.growing,
        corrections,
        slide=folder.name,
        mpp=Mpp(record.slide.mpp.x, record.slide.mpp.y),
        regions=regions,
        split=settings.split,
        colours=record.model.class_colours,
        drawn=drawn,
        classes=classes,
        intensities=intensities,
        origin=ENGINE if isinstance(record, RunRecord) else OTHER,
        cells=CellExtent.recorded(record),
    )
    return count


def recorded(
    record: R,
    classes: Classes | None,
    intensities: Intensities | None,
    growing: Path,
    before: PositivityFacts | None,
) -> R:
    """Write the classifier, and the nuclei of which it is least sure, and tell of it in a record.

    Parameters
    ----------
    record
        Record of the nuclei, with the classes that they had before.
    classes
        What has given all nuclei their classes.
    intensities
        What has told which of them are positive.
    growing
        Folder in which the files of the result grow.
    before
        Thresholds that the nuclei had so far.
    """
    if intensities is not None:
        positivity = intensities.positivity
        told = PositivityFacts(measurement=positivity.measurement, thresholds=positivity.thresholds)
        record = record.model_copy(update={"positivity": told.after(before)})
    if classes is not None:
        record = _with_classifier(record, classes, growing)
    if not isinstance(record, RunRecord):
        return record
    return record.model_copy(update={"basis": record.basis | basis_of_classes(record)})


def _with_classifier(record: R, classes: Classes, growing: Path) -> R:
    """Write a classifier and what it is not sure of, and return the record of its classes."""
    classifier, model, earlier = classes.classifier, record.model, record.classifier
    (growing / CLASSIFIER).write_bytes(classifier_bytes(classifier))
    namespace = namespace_of(record.slide.fingerprint, "doubtful")
    points = _as_points(classes.doubtful, namespace)
    write_features(growing / DOUBTFUL, object_features(points))
    facts = ClassifierFacts(
        file=CLASSIFIER,
        sha256=digest_of(growing / CLASSIFIER),
        kind=classifier.kind,
        model_classes=model.classes if earlier is None else earlier.model_classes,
        model_colours=model.colours if earlier is None else earlier.model_colours,
    )
    named = {"classes": classifier.classes, "colours": classifier.colours}
    earlier_warnings = [text for text in record.warnings if not text.startswith(LEARNT)]
    changes = {
        "model": model.model_copy(update=named),
        "classifier": facts,
        "warnings": (*earlier_warnings, *_differences(record, classifier)),
    }
    return record.model_copy(update=changes)


def thresholds_before(folder: Path) -> PositivityFacts | None:
    """Return the thresholds of the result that a folder holds so far, if it can be read."""
    try:
        return read_record(folder).positivity
    except ResultError:
        return None


def _differences(record: Record, classifier: ObjectClassifier) -> list[str]:
    stains = record.measurements.stains.name
    return classifier.learnt_on.differences(stains, side_of_pixels(record))


def _as_points(doubtful: list[Doubt], namespace: uuid.UUID) -> list[PathObject]:
    """Describe nuclei as points without a class, to be gone through in QuPath one by one."""
    return [
        PathObject(
            object_type="annotation",
            id=str(uuid.uuid5(namespace, doubt.id)),
            roi=ROI(shapely.Point(doubt.anchor)),
            name=f"{doubt.classes[0]} or {doubt.classes[1]}?",
            measurements={"Margin": doubt.margin},
        )
        for doubt in doubtful
    ]
