"""The regions that bound a run: drawn by a person, or found first by a model of regions."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import shapely

from wsi_engine.config import RunSettings
from wsi_engine.errors import RegionError, SettingsError
from wsi_engine.models.regions.labelling import Labelling, Tidying
from wsi_engine.models.regions.loading import load_regions_model
from wsi_engine.models.regions.protocol import RegionsModel
from wsi_engine.nuclei.identity import namespace_of
from wsi_engine.qupath.objects import PathClass, PathObject, object_features
from wsi_engine.qupath.regions import (
    Regions,
    choose_bounds_of_work,
    read_annotations,
    read_bounds_of_work,
)
from wsi_engine.qupath.roi import ROI
from wsi_engine.qupath.writer import write_features
from wsi_engine.results.layout import ROI_FILE
from wsi_engine.slide.fingerprint import fingerprint
from wsi_engine.slide.grid_reader import GridReader, make_grid
from wsi_engine.slide.protocol import Slide, SlideInfo
from wsi_engine.slide.tissue import Tissue
from wsi_engine.writing import atomic_path


def regions_of_run(
    slide: Slide,
    info: SlideInfo,
    tissue: Tissue | None,
    settings: RunSettings,
    device: str,
    kept: Path | None = None,
) -> Regions | None:
    """Return the regions that bound a run; ``None`` where nothing does.

    Parameters
    ----------
    tissue
        Where regions are looked for; ``None`` for all of the slide.
    device
        Where the model of regions runs.
    kept
        File of the regions that are found: written once, and read by a run that goes on. Its name
        must say what they depend on.

    Raises
    ------
    EngineError
        When regions or their model cannot be read, or none is left to work in.
    """
    # Not where settings are made: the manifest of an archive names the file of each slide.
    if settings.regions_model is None:
        if settings.roi is not None:
            return read_bounds_of_work(settings.roi, settings.roi_class, settings.exclude_class)
        if settings.roi_class or settings.exclude_class:
            raise SettingsError(
                "classes of annotations need a file of annotations or a model that finds them: "
                "give --roi or --regions-model, too"
            )
        return None
    if settings.roi is not None:
        raise SettingsError("regions are drawn or found: give --roi or --regions-model, not both")
    model = load_regions_model(settings.regions_model, settings.regions_weights)
    _require_classes(model, (*settings.roi_class, *settings.exclude_class))
    if tissue is not None and not tissue.pieces:
        return None  # whoever needs tissue says so better
    with TemporaryDirectory() as scratch:
        path = Path(scratch) / ROI_FILE if kept is None else kept
        if not path.exists():
            found = _found(slide, info, tissue, model.to(device), settings)
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(path) as partial:
                write_features(partial, object_features(found))
        # From the file even so, for its numbers are rounded as QuPath keeps them.
        annotations = [*read_annotations(path).values()]
    source = f"{model.spec.name} on {info.path.name}"
    if not annotations:
        raise RegionError(f"{source}: no region is found: was the model trained on such slides?")
    return choose_bounds_of_work(annotations, source, settings.roi_class, settings.exclude_class)


def _require_classes(model: RegionsModel, asked: Sequence[str]) -> None:
    there = [PathClass.of(name) for name in model.spec.regions]
    for name in asked:
        stem = PathClass.of(name).names
        if not any(each.names[: len(stem)] == stem for each in there):
            raise SettingsError(
                f"{model.spec.name} finds no regions of class {name!r}: there are "
                f"{', '.join(model.spec.regions)}"
            )


def _found(
    slide: Slide, info: SlideInfo, tissue: Tissue | None, model: RegionsModel, settings: RunSettings
) -> list[PathObject]:
    """Find the regions of a slide; each has a name, and an id that goes with it."""
    grid = make_grid(info, model.spec.mpp)
    area = shapely.box(0, 0, info.bounds.width, info.bounds.height)
    if tissue is not None:
        area = shapely.union_all(tissue.pieces)
    labelling = Labelling(
        model,
        GridReader(slide, grid).read,
        shapely.transform(area, grid.from_qupath),
        grid.extent,
        Tidying(settings.region_smoothing, settings.min_region_area, settings.min_region_hole),
    )
    namespace = namespace_of(fingerprint(info.path), model.spec.name)
    numbers: Counter[str] = Counter()
    found = []
    for class_name, polygon in labelling.regions(settings.threads):
        numbers[class_name] += 1
        name = f"{class_name} {numbers[class_name]}"
        found.append(
            PathObject(
                object_type="annotation",
                roi=ROI(shapely.transform(polygon, grid.to_qupath)),
                id=str(uuid.uuid5(namespace, name)),
                name=name,
                classification=PathClass.of(class_name),
                # Neither QuPath nor `regions-train` learns from what is locked.
                is_locked=True,
            )
        )
    return found
