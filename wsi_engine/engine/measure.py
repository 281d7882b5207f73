"""Nuclei of another program, measured on their slide tile by tile."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely

from wsi_engine.config import RunSettings, make_settings
from wsi_engine.engine.notebook import observing
from wsi_engine.engine.placed_nuclei import LARGEST_UM, PlacedNuclei
from wsi_engine.engine.progress import Observer, Progress
from wsi_engine.engine.provenance import (
    describe_measurements,
    describe_settings,
    describe_slide,
    describe_unreadable,
    now,
    peak_rss_mb,
)
from wsi_engine.engine.tile_choice import PREFERRED_PX
from wsi_engine.engine.versions import versions
from wsi_engine.errors import GeoJSONError, ResultError
from wsi_engine.kernel_cache import tell_when_compiling
from wsi_engine.nuclei.cells import expanded
from wsi_engine.nuclei.diameter import is_usual, median_diameter_um
from wsi_engine.nuclei.identity import namespace_of, nucleus_ids
from wsi_engine.nuclei.labels import Labels
from wsi_engine.nuclei.measure.cell_shape import CELL_COLUMNS, measure_cells
from wsi_engine.nuclei.measure.context import measure_context
from wsi_engine.nuclei.measure.groups import columns_of, measurer_of
from wsi_engine.nuclei.polygons import repaired_on_grid
from wsi_engine.qupath.nuclei import ForeignNuclei, read_nuclei
from wsi_engine.results.facts import MeasuredNuclei, NucleusSource
from wsi_engine.results.folder import ResultFolder, has_result
from wsi_engine.results.layout import (
    CLASSIFIER_FILES,
    NUCLEI_FILES,
    ROI_FILE,
    SUMMARY_FILES,
    TISSUE_FILE,
)
from wsi_engine.results.nucleus_files import NucleusFiles, columns_for_qupath
from wsi_engine.results.record import MeasureRecord, RunRecord, read_record
from wsi_engine.results.result import Result
from wsi_engine.slide.fields import sample_fields
from wsi_engine.slide.fingerprint import fingerprint
from wsi_engine.slide.grid_reader import GridReader
from wsi_engine.slide.opening import open_slide
from wsi_engine.slide.protocol import Slide, SlideInfo
from wsi_engine.slide.resolution import resolution_warnings, with_resolution
from wsi_engine.slide.stain_vectors import H_AND_E, Stains, choose_stains, stain_warnings
from wsi_engine.slide.tissue import find_tissue
from wsi_engine.slide.whole_pixels import make_measured_grid
from wsi_engine.store.tile_store import JOURNAL
from wsi_engine.writing import clear_write_errors

_OF_A_RESULT = (NUCLEI_FILES, ROI_FILE, TISSUE_FILE, *CLASSIFIER_FILES, *SUMMARY_FILES)
"""Files of an earlier result that describe other nuclei, or bounds that are no more."""


def measure(
    slide: str | Path,
    nuclei: str | Path,
    output: str | Path,
    *,
    config: str | Path | None = None,
    observe: Observer | None = None,
    force: bool = False,
    **settings: Any,
) -> Result:
    """Measure nuclei that some other program found, as ``run`` measures its own.

    Parameters
    ----------
    slide
        The slide that they lie on.
    nuclei
        QuPath GeoJSON: its detections and cells, or where there are none all its objects. Ids
        and classes are kept; parts that do not touch are nuclei of their own.
    output
        Folder that gets ``<slide>/nuclei.geojson.gz``, ``nuclei.parquet``, ``columns.json`` and
        ``run.json``.
    config
        YAML file with settings.
    observe
        Function that is called with a ``Progress`` now and then; by default a bar in a notebook.
    force
        Replace what a `run` left in the folder. What was measured before is always replaced.
    **settings
        Fields of ``RunSettings`` that concern slide and measurements: ``mpp``, ``measure``,
        ``stains``, ``cells``, ``geojson_measurements``, ``tile_size``, ``workers``, ``split``.

    Returns
    -------
    Result
        The nuclei with their measurements, in ``output/<slide>``.

    Raises
    ------
    EngineError
        When slide or nuclei cannot be read, or the folder holds a run; says what to do.

    Examples
    --------
    >>> import wsi_engine as we
    >>> result = we.measure("slide.tif", "results/slide/nuclei.geojson.gz", "measured")
    >>> "Hematoxylin: Mean" in result.nuclei.arrow.column_names
    True
    """
    chosen = make_settings(Path(config) if config else None, **settings)
    tell_when_compiling()
    with (
        open_slide(slide) as opened,
        ResultFolder(Path(output), Path(slide).stem) as folder,
        observing(observe) as observer,
    ):
        if not force:
            _refuse_a_run(folder)
        found = read_nuclei(nuclei)
        with clear_write_errors(folder.path):
            record = _measure(opened, found, Path(nuclei).name, chosen, folder, observer)
            record = folder.publish(record, replaced=_OF_A_RESULT)
            folder.forget_tiles()
    return Result(folder.path, record)


def _refuse_a_run(folder: ResultFolder) -> None:
    """Raise `ResultError` if the folder holds what a run computed."""
    instead = "choose another --output, or replace it with --force"
    if (folder.tiles / JOURNAL).exists() and any(folder.tiles.glob("part-*.arrow")):
        raise ResultError(f"{folder.path} holds an unfinished run: {instead}")
    if has_result(folder.path) and isinstance(read_record(folder.path), RunRecord):
        raise ResultError(f"{folder.path} holds the result of a run: {instead}")


def _measure(
    slide: Slide,
    found: ForeignNuclei,
    source: str,
    settings: RunSettings,
    folder: ResultFolder,
    observe: Observer,
) -> MeasureRecord:
    """Measure and write; return the record."""
    started = now()
    info = with_resolution(slide.info, settings.mpp)
    reader = GridReader(slide, make_measured_grid(info))
    stains = _stains(slide, info, reader, settings)
    measurer = measurer_of(settings.measure, stains, settings.cells)
    columns = columns_of(settings.measure, stains, reader.grid.pixel, settings.cells)
    polygons, kept = repaired_on_grid(found.geometries)
    if len(kept) + found.skipped > 0 and not kept.any():
        raise GeoJSONError(
            f"{source}: none of its {len(kept) + found.skipped:,} objects can be measured, as none "
            "has an area that could be read; export nuclei as polygons"
        )
    found = found.take(np.flatnonzero(kept))
    side = PREFERRED_PX if settings.tile_size == "auto" else settings.tile_size
    placed = PlacedNuclei(polygons, reader, measurer, side)
    identity = fingerprint(info.path)
    ids, shared = _ids(found.ids, placed.anchors, namespace_of(identity, "measure"))
    without_area = int((~kept).sum())
    classes, numbers = _classes(found.classes)
    described = describe_slide(info, identity)
    measured = describe_measurements(settings.measure, stains, reader.grid.pixel)
    facts = {
        "slide": described.model_dump(mode="json"),
        "model": source,
        "measurements": measured.model_dump(mode="json"),
    }
    context = np.empty((len(polygons), 0), np.float32)
    if "context" in settings.measure:
        context = measure_context(placed.anchors, placed.grid.slide_mpp)
    cells = None
    if settings.cells is not None:
        size = (float(reader.grid.slide_width), float(reader.grid.slide_height))
        cells = expanded(polygons, settings.cells, reader.grid.slide_mpp, size)
        columns = (*columns, *CELL_COLUMNS)
        context = np.hstack([context, measure_cells(polygons, cells, reader.grid.slide_mpp)])
    for_qupath = columns_for_qupath(columns, settings.geojson_measurements)
    with NucleusFiles(
        folder.growing, classes, columns, for_qupath, folder.path.name, facts, settings.split
    ) as files:
        for done, (rows, values) in enumerate(placed.measured(settings.threads), start=1):
            some = placed.columns(rows, numbers, np.hstack([values, context[rows]]))
            labels = Labels.of_other_program(len(rows))
            around = None if cells is None else cells[rows]
            files.write([ids[k] for k in rows], some, labels, around)
            observe(Progress(info.path.name, "measuring", done, len(placed.tiles)))
    warnings = [
        *resolution_warnings(slide.info, settings.mpp),
        *stain_warnings(settings.stains, stains),
        *_left_out(found, without_area, shared, source),
        *_plausibility_warnings(placed, source),
    ]
    return MeasureRecord(
        files={},  # until they are published
        slide=described,
        slide_path=str(info.path.resolve()),
        unreadable=describe_unreadable(reader),
        warnings=tuple(warnings),
        nuclei=MeasuredNuclei(count=files.count, left_out=without_area + found.skipped),
        model=NucleusSource(name=source, classes=classes),
        measurements=measured,
        # All of the slide may hold nuclei of another program.
        settings=describe_settings(settings).model_copy(update={"tissue": False}),
        peak_rss_mb=peak_rss_mb(),
        versions=versions(),
        started=started,
        finished=now(),
    )


def _stains(slide: Slide, info: SlideInfo, reader: GridReader, settings: RunSettings) -> Stains:
    if settings.stains != "estimated":
        return choose_stains(settings.stains, np.empty((0, 0, 0, 3), np.uint8))
    area = shapely.box(0, 0, info.bounds.width, info.bounds.height)
    if settings.tissue:
        tissue = shapely.union_all(find_tissue(slide, info).pieces)
        if tissue.is_empty:
            return H_AND_E
        area = tissue
    return choose_stains(settings.stains, sample_fields(reader, area))


def _ids(
    given: list[str | None], anchors: npt.NDArray[np.float64], namespace: uuid.UUID
) -> tuple[list[str], int]:
    """Keep the UUIDs that there are, and name the others by their position.

    The first of several nuclei with one UUID keeps it; returns how many others there are, too.
    """
    made = nucleus_ids(namespace, anchors)
    reserved = {own for own in given if own}
    ids: dict[str, None] = {}
    shared = 0
    for own, identity in zip(given, made, strict=True):
        if own and own not in ids:
            ids[own] = None
            continue
        shared += bool(own)
        while identity in ids or identity in reserved:  # two may lie at one place
            identity = str(uuid.uuid5(namespace, identity))
        ids[identity] = None
    return [*ids], shared


def _classes(given: list[str | None]) -> tuple[tuple[str, ...], npt.NDArray[np.int16]]:
    """Return the names of the classes, and the number of each nucleus's; -1 for none."""
    names = tuple(sorted({name for name in given if name}))
    index = {name: k for k, name in enumerate(names)}
    return names, np.array([index[name] if name else -1 for name in given], np.int16)


def _left_out(found: ForeignNuclei, without_area: int, shared: int, source: str) -> list[str]:
    """Say which objects of the file are no nuclei, or not under their own name."""
    warnings = []
    if found.skipped:
        warnings.append(
            f"{source}: {found.skipped:,} feature(s) that could not be read were left out"
        )
    if found.divided:
        warnings.append(
            f"{source}: {found.divided:,} objects have several parts that do not touch: each part "
            "is a nucleus of its own"
        )
    if found.elsewhere:
        names = " and ".join(map(repr, found.elsewhere))
        warnings.append(
            f"{source}: nuclei have no class, but {names}, which QuPath does not know: write it as "
            '"classification": {"name": ...}'
        )
    if found.in_text:
        warnings.append(
            f"{source}: {found.in_text:,} classes are JSON within a text, and their whole text is "
            "their name: write the object itself"
        )
    if without_area:
        warnings.append(f"{source}: {without_area:,} objects without an area were left out")
    if shared:
        warnings.append(
            f"{source}: {shared:,} nuclei have the id of another one before them, and were given "
            "ids of their own"
        )
    return warnings


def _plausibility_warnings(placed: PlacedNuclei, source: str) -> list[str]:
    """Say what was not measured, and what does not look like nuclei on this slide."""
    warnings = []
    count, slide_mpp = len(placed.polygons), placed.grid.slide_mpp
    if count == 0:
        return [f"{source} holds no nuclei: there is nothing to measure"]
    if outside := int(placed.outside.sum()):
        warnings.append(
            f"{source}: {outside:,} of {count:,} nuclei lie outside the slide and have no pixels: "
            "do they belong to it?"
        )
    if large := int((~placed.fitting).sum()):
        warnings.append(
            f"{source}: {large:,} of {count:,} objects are larger than {LARGEST_UM:g} µm: only "
            "their shape is measured"
        )
    median = median_diameter_um(shapely.area(placed.polygons) * slide_mpp.pixel_area_um2)
    if median is not None and not is_usual(median):
        warnings.append(
            f"{source}: at {slide_mpp.mean:.4g} µm per pixel the median nucleus is {median:.1f} µm "
            "across: is the pixel size right, and is the file in full-resolution pixels?"
        )
    return warnings
