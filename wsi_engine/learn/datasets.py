"""Annotated images: found, read, checked, and split by patient."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from wsi_engine.learn.config import Annotation, DataConfig, SplitConfig
from wsi_engine.learn.errors import DatasetError
from wsi_engine.learn.images import IMAGE_SUFFIXES, read_image, read_labels
from wsi_engine.learn.segmentations import (
    Polygons,
    is_geojson,
    is_segmentation,
    read_polygons,
    stem_of,
)
from wsi_engine.learn.targets import UNKNOWN, boundary_peaks
from wsi_engine.learn.weak import labels_from_partial, labels_from_points


@dataclass(frozen=True, slots=True)
class Field:
    """One annotated image.

    Attributes
    ----------
    name, group
        Stem of the file, and the patient or slide that it comes from.
    image
        uint8 (h, w, 3).
    labels
        uint16 (h, w); see `wsi_engine.learn.targets`.
    peaks
        Largest distance to the boundary by label, in pixels of this image.
    """

    name: str
    group: str
    image: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.uint16]
    peaks: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class DataSet:
    """The fields of one set, in the order of their names.

    Attributes
    ----------
    white
        Intensity of empty background over the whole set, (R, G, B). One number per set and
        not per image: an image may hold no background.
    """

    config: DataConfig
    fields: tuple[Field, ...]
    white: npt.NDArray[np.float64]


def pair_files(images: Path, labels: Path) -> list[tuple[Path, Path]]:
    """Pair images with their label images or GeoJSON by stem, in the order of the stems.

    Raises
    ------
    DatasetError
        If a folder is missing or empty, or an image has no labels.
    """
    for folder in (images, labels):
        if not folder.is_dir():
            raise DatasetError(f"The folder {folder} does not exist.")
    pixels = {p.stem: p for p in sorted(images.iterdir()) if p.suffix.lower() in IMAGE_SUFFIXES}
    drawn = {stem_of(p): p for p in sorted(labels.iterdir()) if is_segmentation(p)}
    for folder, files in ((images, pixels), (labels, drawn)):
        if not files:
            raise DatasetError(f"The folder {folder} holds no files that could be used.")
    missing = sorted(set(pixels) - set(drawn))
    if missing:
        raise DatasetError(
            f"{len(missing)} images in {images} have no labels of the same name in {labels}, "
            f"the first is {missing[0]!r}."
        )
    return [(pixels[stem], drawn[stem]) for stem in sorted(pixels)]


def load_field(
    image_path: Path,
    label_path: Path,
    *,
    group: str,
    mpp: float,
    annotation: Annotation = "dense",
) -> Field:
    """Read an image with its labels: a label image, or polygons in the image's pixels.

    Raises
    ------
    DatasetError
        If either cannot be read, or their sizes differ, or a partial or point annotation is
        empty. In a dense annotation an empty label image means that there is no nucleus.
    """
    image = read_image(image_path)
    if is_geojson(label_path):
        labels = labels_from_polygons(read_polygons(label_path), image.shape[:2])
    else:
        labels = read_labels(label_path)
    if image.shape[:2] != labels.shape:
        raise DatasetError(
            f"{label_path} has {labels.shape[1]} x {labels.shape[0]} pixels, its image "
            f"{image.shape[1]} x {image.shape[0]}: they do not belong together."
        )
    if annotation != "dense" and not labels.any():
        raise DatasetError(
            f"{label_path} is empty, so nothing is known about its image. Leave it out."
        )
    if annotation == "partial":
        labels = labels_from_partial(labels, mpp)
    elif annotation == "points":
        labels = labels_from_points(image, labels, mpp)
    return Field(image_path.stem, group, image, labels, boundary_peaks(labels))


def labels_from_polygons(nuclei: Polygons, shape: tuple[int, ...]) -> npt.NDArray[np.uint16]:
    """Draw nuclei into labels; outside of the fields that were annotated nothing is known."""
    height, width = shape
    labels = nuclei.draw((height, width)).astype(np.uint16)
    if nuclei.field is not None:
        fields = Polygons(np.array([nuclei.field], object), np.array([""]))
        labels[(fields.draw((height, width)) == 0) & (labels == 0)] = UNKNOWN
    return labels


def load_dataset(config: DataConfig) -> DataSet:
    """Read all fields of a set.

    Raises
    ------
    DatasetError
        If anything in it cannot be used, or no image of it holds a nucleus.
    """
    fields = tuple(
        load_field(
            image,
            labels,
            group=group_of(image.stem, config.split),
            mpp=config.mpp,
            annotation=config.annotation,
        )
        for image, labels in pair_files(config.images, config.labels)
    )
    if not any(len(field.peaks) > 1 for field in fields):
        raise DatasetError(
            f"No label image of the set {config.name!r} ({config.labels}) holds a nucleus."
        )
    sample = np.concatenate([field.image[::4, ::4].reshape(-1, 3) for field in fields])
    return DataSet(config, fields, np.percentile(sample, 99.5, axis=0))


def group_of(stem: str, split: SplitConfig) -> str:
    """Name the patient or slide of a file.

    Raises
    ------
    DatasetError
        If the pattern does not match the name.
    """
    match = re.search(split.group, stem)
    if match is None:
        raise DatasetError(f"The file {stem!r} does not match the split's pattern {split.group!r}.")
    return match.group(1) if match.groups() else match.group(0)


def split_groups(groups: list[str], split: SplitConfig) -> set[str]:
    """Choose the groups that are held out for validation."""
    unique = sorted(set(groups))
    unknown = sorted(set(split.validation) - set(unique))
    if unknown:
        raise DatasetError(
            f"The validation group {unknown[0]!r} does not exist; there are {', '.join(unique)}."
        )
    held_out = set(split.validation)
    if split.every is not None:
        held_out |= {g for i, g in enumerate(unique) if (i // split.block) % split.every == 0}
    return held_out


def split_dataset(data: DataSet) -> tuple[tuple[Field, ...], tuple[Field, ...]]:
    """Split a set into training and validation fields; a group is never in both."""
    held_out = split_groups([field.group for field in data.fields], data.config.split)
    training = tuple(field for field in data.fields if field.group not in held_out)
    validation = tuple(field for field in data.fields if field.group in held_out)
    return training, validation
