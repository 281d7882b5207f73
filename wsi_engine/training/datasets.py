"""Sets of annotated fields: found, read, checked, and split by patient."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from wsi_engine.errors import DatasetError
from wsi_engine.evaluation.drawings import read_drawing
from wsi_engine.evaluation.images import is_image, read_image, read_labels, read_taught
from wsi_engine.evaluation.pairing import (
    files_by_stem,
    is_geojson,
    is_label_image,
    is_segmentation,
    paired,
    stem_of,
)
from wsi_engine.slide.readers import may_be_slide
from wsi_engine.training.classes import NO_CLASS, Classes, ClassIndex, classes_from_image
from wsi_engine.training.config import (
    AnySet,
    CorrectionsDataConfig,
    DataConfig,
    SetConfig,
    SlideDataConfig,
    SplitConfig,
)
from wsi_engine.training.corrected import fields_of_results, held_out_fifth
from wsi_engine.training.fields import (
    Field,
    labels_from_polygons,
    make_field,
    refuse_points,
)
from wsi_engine.training.slides import fields_of_slide

# Of more pixels than this every sixteenth is more than need be looked at.
_SAMPLED_PX = 2**30


@dataclass(frozen=True, slots=True)
class DataSet:
    """The fields of one set, in the order of their names.

    Attributes
    ----------
    white
        Intensity of empty background over the whole set, (R, G, B). One number per set and
        not per image: an image may hold no background.
    """

    config: SetConfig
    fields: tuple[Field, ...]
    white: npt.NDArray[np.float64]


def load_dataset(config: AnySet, classes: tuple[str, ...] = ()) -> DataSet:
    """Read all fields of a set.

    Parameters
    ----------
    classes
        Names of the classes that the run learns; without any, classes are not looked at.

    Raises
    ------
    DatasetError
        If anything in it cannot be used, or no field of it holds a nucleus.
    """
    index = ClassIndex(classes, config.rename)
    if isinstance(config, SlideDataConfig):
        where: object = config.annotations
        fields = _slide_fields(config, index)
    elif isinstance(config, CorrectionsDataConfig):
        where = ", ".join(map(str, config.results))
        fields = fields_of_results(config, index)
        if "split" in config.model_fields_set:
            fields = [replace(f, group=group_of(f.group, config.split)) for f in fields]
        else:
            fields, split = held_out_fifth(fields)
            config = config.model_copy(update={"split": split})
    else:
        where = config.labels
        fields = _image_fields(config, index)
    if not config.empty and not any(len(field.peaks) > 1 for field in fields):
        raise DatasetError(f"no field of the set {config.name!r} ({where}) holds a nucleus")
    step = 4 * max(1, math.ceil(math.sqrt(sum(f.labels.size for f in fields) / _SAMPLED_PX)))
    sample = np.concatenate([field.image[::step, ::step].reshape(-1, 3) for field in fields])
    return DataSet(config, tuple(fields), np.percentile(sample, 99.5, axis=0))


def _slide_fields(config: SlideDataConfig, index: ClassIndex) -> list[Field]:
    slides = files_by_stem(config.slides, may_be_slide)
    drawings = files_by_stem(config.annotations, is_geojson)
    return [
        field
        for slide, drawing in paired(slides, drawings, where=config.annotations, what="annotations")
        for field in fields_of_slide(
            slide, drawing, config, index, group_of(stem_of(slide), config.split)
        )
    ]


def _image_fields(config: DataConfig, index: ClassIndex) -> list[Field]:
    images = files_by_stem(config.images, is_image)
    labels = files_by_stem(config.labels, is_segmentation)
    kinds: dict[str, Path] = {}
    if config.classes is not None and index.known:
        kinds = files_by_stem(config.classes, is_label_image)
        paired(images, kinds, where=config.classes, what="class image")
    taught: dict[str, Path] = {}
    if config.taught is not None:
        taught = files_by_stem(config.taught, is_label_image)
    fields = []
    for image, drawn in paired(images, labels, where=config.labels, what="labels"):
        field = load_field(image, drawn, config, index, kinds.get(image.stem))
        if image.stem in taught:
            field = replace(field, taught=read_taught(taught[image.stem]))
        fields.append(field)
    return fields


def load_field(
    image_path: Path,
    label_path: Path,
    config: DataConfig,
    index: ClassIndex,
    kind_path: Path | None = None,
) -> Field:
    """Read an image with its labels: a label image, or polygons in the image's pixels.

    Parameters
    ----------
    kind_path
        Image of the classes of the label image's nuclei.

    Raises
    ------
    DatasetError
        If anything cannot be read or does not fit, or a partial or point annotation is
        empty. In a dense annotation an empty label image means that there is no nucleus.
    """
    image = read_image(image_path)
    if is_geojson(label_path):
        labels, classes = _read_polygons(label_path, image.shape[:2], config, index)
    else:
        labels, classes = read_labels(label_path), np.full(1, NO_CLASS, np.int16)
    if image.shape[:2] != labels.shape:
        raise DatasetError(
            f"{label_path} has {labels.shape[1]} x {labels.shape[0]} pixels, its image "
            f"{image.shape[1]} x {image.shape[0]}: they do not belong together"
        )
    if kind_path is not None and not is_geojson(label_path):
        names = config.class_names or index.known
        classes = classes_from_image(labels, read_labels(kind_path), names, index, kind_path)
    if config.annotation != "dense" and not labels.any():
        raise DatasetError(
            f"{label_path} is empty, so nothing is known about its image: leave it out"
        )
    return make_field(
        image_path.stem,
        group_of(image_path.stem, config.split),
        image,
        labels,
        classes,
        mpp=config.mpp,
        annotation=config.annotation,
    )


def _read_polygons(
    path: Path, shape: tuple[int, int], config: DataConfig, index: ClassIndex
) -> tuple[npt.NDArray[np.uint16], Classes]:
    drawing = read_drawing(path)
    pointed = config.annotation == "points"
    if len(drawing.points) and not pointed:
        refuse_points(path, config)
    nuclei = drawing.nuclei_of_image(points=pointed).parts()
    classes = index.by_label(nuclei.classes.tolist(), path)
    return labels_from_polygons(nuclei, shape), classes


def group_of(stem: str, split: SplitConfig) -> str:
    """Name the patient or slide of a file.

    Raises
    ------
    DatasetError
        If the pattern does not match the name.
    """
    match = re.search(split.group, stem)
    if match is None:
        raise DatasetError(f"the file {stem!r} does not match the split's pattern {split.group!r}")
    return match.group(1) if match.groups() else match.group(0)


def split_groups(groups: list[str], split: SplitConfig) -> set[str]:
    """Choose the groups that are held out for validation."""
    unique = sorted(set(groups))
    unknown = sorted(set(split.validation) - set(unique))
    if unknown:
        raise DatasetError(
            f"the validation group {unknown[0]!r} does not exist; there are {', '.join(unique)}"
        )
    held_out = set(split.validation)
    if split.every is not None:
        held_out |= {g for i, g in enumerate(unique) if (i // split.block) % split.every == 0}
    return held_out


def split_dataset(data: DataSet) -> tuple[tuple[Field, ...], tuple[Field, ...]]:
    """Split a set into training and validation fields; a group is never in both."""
    if data.config.empty:
        return data.fields, ()
    held_out = split_groups([field.group for field in data.fields], data.config.split)
    training = tuple(field for field in data.fields if field.group not in held_out)
    validation = tuple(field for field in data.fields if field.group in held_out)
    return training, validation
