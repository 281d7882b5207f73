"""Annotated images: found, read, checked, and split by patient."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image, UnidentifiedImageError

from wsi_engine.learn.config import Annotation, DataConfig, SplitConfig
from wsi_engine.learn.errors import DatasetError
from wsi_engine.learn.targets import UNKNOWN, boundary_peaks
from wsi_engine.learn.weak import labels_from_partial, labels_from_points

_SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".npy")


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


def read_image(path: Path) -> npt.NDArray[np.uint8]:
    """Read an RGB image as uint8 (h, w, 3).

    Raises
    ------
    DatasetError
        If the file cannot be read or is not an RGB (or grey) image of 8 bits.
    """
    pixels = _read_array(path)
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    if pixels.ndim != 3 or pixels.shape[2] not in (3, 4) or pixels.dtype != np.uint8:
        raise DatasetError(
            f"{path} is no 8-bit RGB image: it has shape {pixels.shape} and type {pixels.dtype}."
        )
    return np.ascontiguousarray(pixels[..., :3])


def read_labels(path: Path) -> npt.NDArray[np.uint16]:
    """Read a label image as uint16 (h, w): 0 background, ``UNKNOWN`` unknown, else nuclei.

    Raises
    ------
    DatasetError
        If the file cannot be read or does not hold whole numbers from 0 to 65535.
    """
    labels = _read_array(path)
    if labels.ndim != 2 or not np.issubdtype(labels.dtype, np.integer):
        raise DatasetError(
            f"{path} is no label image: it has shape {labels.shape} and type {labels.dtype}, "
            "where one whole number per pixel is expected (0 background, k nucleus k)."
        )
    if labels.min(initial=0) < 0 or labels.max(initial=0) > UNKNOWN:
        raise DatasetError(f"{path} holds labels outside of 0 to {UNKNOWN}.")
    return np.ascontiguousarray(labels, np.uint16)


def _read_array(path: Path) -> npt.NDArray[np.generic]:
    try:
        if path.suffix.lower() == ".npy":
            return np.asarray(np.load(path, allow_pickle=False))
        if path.suffix.lower() in (".tif", ".tiff"):
            return np.asarray(tifffile.imread(path))
        with Image.open(path) as file:
            convert = file.mode in ("P", "CMYK", "LA", "PA")
            return np.asarray(file.convert("RGB") if convert else file)
    except (OSError, EOFError, ValueError, UnidentifiedImageError, tifffile.TiffFileError) as error:
        raise DatasetError(f"Cannot read {path}: {error}") from error


def pair_files(images: Path, labels: Path) -> list[tuple[Path, Path]]:
    """Pair the files of two folders by stem, in the order of the stems.

    Raises
    ------
    DatasetError
        If a folder is missing or empty, or an image has no labels.
    """
    found = {}
    for folder in (images, labels):
        if not folder.is_dir():
            raise DatasetError(f"The folder {folder} does not exist.")
        files = sorted(p for p in folder.iterdir() if p.suffix.lower() in _SUFFIXES)
        if not files:
            raise DatasetError(f"The folder {folder} holds no images ({', '.join(_SUFFIXES)}).")
        found[folder] = {path.stem: path for path in files}
    missing = sorted(set(found[images]) - set(found[labels]))
    if missing:
        raise DatasetError(
            f"{len(missing)} images in {images} have no labels of the same name in {labels}, "
            f"the first is {missing[0]!r}."
        )
    return [(found[images][stem], found[labels][stem]) for stem in sorted(found[images])]


def load_field(
    image_path: Path,
    label_path: Path,
    *,
    group: str,
    mpp: float,
    annotation: Annotation = "dense",
) -> Field:
    """Read an image with its labels.

    Raises
    ------
    DatasetError
        If either cannot be read, or their sizes differ, or a partial or point annotation is
        empty. In a dense annotation an empty label image means that there is no nucleus.
    """
    image, labels = read_image(image_path), read_labels(label_path)
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
