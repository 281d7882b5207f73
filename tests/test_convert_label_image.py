"""Label images: what is traced and drawn again is the image."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from scipy import ndimage
from skimage import measure

from wsi_engine.convert.convert import convert
from wsi_engine.convert.label_image import LABEL, read_label_image
from wsi_engine.errors import ConversionError
from wsi_engine.nuclei.raster import rasterise
from wsi_engine.qupath.reader import read_objects


def whole_labels(noise):
    """One 4-connected part without holes per label, as nuclei are."""
    labels = np.zeros(noise.shape, np.int32)
    for part in measure.regionprops(measure.label(noise, connectivity=1, background=0)):
        filled = ndimage.binary_fill_holes(part.image)
        where = labels[part.slice]
        if not where[filled].any():
            where[filled] = part.label
    for label in np.unique(labels[labels > 0]):
        if measure.label(labels == label, connectivity=1).max() > 1:
            labels[labels == label] = 0
    return labels


def drawn(objects, shape, placed=lambda points: points):
    """Draw polygons into a label image, back in its own pixels."""
    image = np.zeros(shape, np.int32)
    for item in objects:
        ring = placed(shapely.get_coordinates(item.roi.geometry.exterior)[:-1])
        image[rasterise(ring, np.array([0, len(ring)]), shape) > 0] = int(item.metadata[LABEL])
    return image


@settings(deadline=None, max_examples=60)
@given(hnp.arrays(np.int32, (15, 19), elements=st.integers(0, 4)))
def test_what_is_traced_and_drawn_again_is_the_image(tmp_path_factory, noise):
    labels = whole_labels(noise)
    path = tmp_path_factory.mktemp("labels") / "x.npy"
    np.save(path, labels)
    objects = list(read_label_image(path))
    np.testing.assert_array_equal(drawn(objects, labels.shape), labels)
    assert [item.metadata[LABEL] for item in objects] == [str(k) for k in np.unique(labels) if k]


@pytest.mark.parametrize(
    ("scale", "origin"), [(1.0, (0, 0)), (2.0, (100, -40)), (1.9786, (7, 3)), (0.5, (0.25, 9))]
)
def test_the_same_by_way_of_a_file_for_qupath(tmp_path, scale, origin):
    rng = np.random.default_rng(5)
    noise = ndimage.gaussian_filter(rng.normal(size=(90, 110)), 2.5)
    labels = whole_labels(measure.label(noise > 0.05, connectivity=1))
    assert labels.max() > 5
    tifffile.imwrite(tmp_path / "x.tif", labels)
    convert(tmp_path / "x.tif", tmp_path / "x.geojson", scale=scale, origin=origin)
    objects = read_objects(tmp_path / "x.geojson")
    back = drawn(objects, labels.shape, lambda xy: (xy - np.array(origin)) / scale)
    np.testing.assert_array_equal(back, labels)


def test_every_kind_of_file_and_number(tmp_path):
    labels = np.zeros((6, 8), np.int64)
    labels[1:3, 1:3], labels[3:5, 4:7] = 1, 200
    np.save(tmp_path / "a.npy", labels)
    tifffile.imwrite(tmp_path / "b.tif", labels.astype(np.uint32))
    tifffile.imwrite(tmp_path / "c.tif", labels.astype(np.uint8), compression="zlib")
    Image.fromarray(labels.astype(np.uint8)).save(tmp_path / "d.png")
    Image.fromarray(labels.astype(np.uint16)).save(tmp_path / "e.png")
    paths = sorted(tmp_path.iterdir())
    assert len(paths) == 5
    first, *others = [list(read_label_image(path)) for path in paths]
    assert [item.roi.geometry.area for item in first] == [3.5, 5.5]
    for other in others:
        assert other == first


def test_an_image_without_nuclei(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((5, 5), np.uint8))
    assert list(read_label_image(tmp_path / "x.npy")) == []


def save(path, pixels):
    if path.suffix == ".npy":
        np.save(path, pixels)
    else:
        Image.fromarray(pixels).save(path)


@pytest.mark.parametrize(
    ("name", "pixels", "words"),
    [
        ("x.npy", np.zeros((4, 4)), "whole number per pixel"),
        ("x.npy", np.zeros((4, 4, 3), np.uint8), "whole number per pixel"),
        ("x.npy", np.full((4, 4), -1), "from 0"),
        ("x.npy", np.full((4, 4), 1 << 40), "from 0"),
        ("x.npy", np.array([{}], object), "cannot be read"),
        ("x.png", np.zeros((4, 4, 3), np.uint8), "in colour"),
    ],
)
def test_what_is_no_label_image(tmp_path, name, pixels, words):
    save(tmp_path / name, pixels)
    with pytest.raises(ConversionError, match=words):
        list(read_label_image(tmp_path / name))


@pytest.mark.parametrize("name", ["x.npy", "x.tif", "x.png"])
def test_a_broken_image(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x93NUMPY II*\0 \x89PNG")
    with pytest.raises(ConversionError, match="cannot be read"):
        list(read_label_image(tmp_path / name))
    with pytest.raises(ConversionError, match="no such file"):
        list(read_label_image(tmp_path / f"absent{name}"))
