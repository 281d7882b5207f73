"""MicroNet: nuclei as TIAToolbox's own post-processing finds them, and the same in every tiling."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from scipy import ndimage
from tiatoolbox import rcParam
from tiatoolbox.models import architecture
from tiatoolbox.models.architecture.micronet import MicroNet

from wsi_engine.errors import ModelError
from wsi_engine.evaluation.segmentations import polygon_overlaps
from wsi_engine.models.micronet import MicroNetModel, load_micronet
from wsi_engine.models.micronet_spec import LARGEST_OBJECT_PX, PATCH_PX, SPEC, STEP_PX
from wsi_engine.models.patches import in_patches
from wsi_engine.models.registry import find_model
from wsi_engine.nuclei.polygons import polygons_from_rings
from wsi_engine.nuclei.raster import rasterise

CPU = torch.device("cpu")


class DarkPatches(torch.nn.Module):
    """A network that calls nucleus what is darker than the mean, and knows patches only."""

    def infer_batch(self, network, images, device):
        assert images.shape[1:] == (PATCH_PX, PATCH_PX, 3)
        red = ndimage.gaussian_filter(images[..., 0].numpy(), (0, 1, 1))
        nucleus = 1 / (1 + np.exp(4 * red + 4))
        return (np.stack([1 - nucleus, nucleus], axis=-1),)


def stand_in() -> MicroNetModel:
    return MicroNetModel(DarkPatches(), CPU)


def random_maps(side: int, sigma: float, seed: int) -> np.ndarray:
    """Probabilities with blobs of many sizes and holes in them."""
    noise = np.random.default_rng(seed).normal(0, 1, (side, side))
    smooth = ndimage.gaussian_filter(noise, sigma)
    nucleus = 1 / (1 + np.exp(-3 * (smooth / smooth.std() - 0.8)))
    return np.stack([1 - nucleus, nucleus], axis=-1).astype(np.float32)


def as_tiatoolbox(maps: np.ndarray) -> np.ndarray:
    """Label image of TIAToolbox's own contours, drawn as it draws them."""
    named = SimpleNamespace(tasks=["nuclei"])  # all that it wants of the network
    (found,) = MicroNet.postproc(named, [maps], verbose=False)
    labels = np.zeros(maps.shape[:2], np.int32)
    for number, padded in enumerate(found["info_dict"]["contours"], start=1):
        contour = np.asarray(padded, np.int64)
        # In one array contours are padded, with points that are far from any image.
        on_image = (contour >= 0).all(axis=1) & (contour < max(labels.shape)).all(axis=1)
        cv2.fillPoly(labels, [contour[on_image].astype(np.int32)], number)
    return labels


@pytest.mark.parametrize(("sigma", "seed"), [(3, 0), (5, 1), (7, 2)])
def test_nuclei_are_those_of_tiatoolbox(sigma, seed):
    maps = random_maps(400, sigma, seed)
    theirs = as_tiatoolbox(maps)
    sides = [max(s.stop - s.start for s in box) for box in ndimage.find_objects(theirs)]
    fitting = np.flatnonzero(np.array(sides) <= LARGEST_OBJECT_PX) + 1
    found = stand_in().decode(maps)
    assert len(fitting) > 10
    assert abs(len(found) - len(fitting)) <= 0.005 * len(fitting)
    ours = rasterise(found.xy, found.offsets, maps.shape[:2])
    for number in fitting:
        true = theirs == number
        mine = ours == np.bincount(ours[true]).argmax()
        assert (true & mine).sum() / (true | mine).sum() >= 0.95


def test_spec_says_what_tiatoolbox_says():
    entry = rcParam["pretrained_model_info"][SPEC.name]
    assert entry["architecture"]["class"] == "micronet.MicroNet"
    (resolution,) = entry["ioconfig"]["kwargs"]["input_resolutions"]
    assert resolution == {"units": "mpp", "resolution": SPEC.mpp}
    assert entry["ioconfig"]["kwargs"]["patch_input_shape"] == [PATCH_PX] * 2
    assert entry["ioconfig"]["kwargs"]["stride_shape"] == [STEP_PX] * 2
    assert find_model(SPEC.name).spec is SPEC
    assert "Apache-2.0" in SPEC.licence
    assert not SPEC.embedded


def test_patches_lie_at_multiples_of_the_step_and_give_their_middle():
    image = np.random.default_rng(0).integers(0, 255, (60, 40, 3), np.uint8)
    corners = []

    def run(patch):
        assert patch.shape == (32, 32, 3)
        corners.append(tuple(patch[6, 6]))
        return patch.astype(np.float32)

    np.testing.assert_array_equal(in_patches(run, image, 32, 20), image)
    assert corners == [tuple(image[y, x]) for y in (0, 20, 40) for x in (0, 20)]


def test_standardisation_is_that_of_the_slide():
    fields = np.random.default_rng(0).normal((180, 130, 190), 20, (5, 256, 256, 3))
    fields = fields.clip(0, 255).astype(np.uint8)
    model = stand_in().calibrate(fields)
    # As TIAToolbox standardises one of them, to three digits.
    field = fields[0, :PATCH_PX, :PATCH_PX]
    theirs = MicroNet.preproc(field)
    ours = (field / 255 - model.mean) / model.deviation
    np.testing.assert_allclose(ours, theirs, atol=0.03)
    assert model.settings() == {"mean": model.mean, "deviation": model.deviation}
    assert stand_in().calibrate(np.full_like(fields, 255)).deviation > 0


def test_network_and_weights_are_tiatoolboxs(tmp_path: Path, monkeypatch):
    torch.manual_seed(0)
    weights = tmp_path / "random.pth"
    torch.save(MicroNet().half().state_dict(), weights)  # the network has 0.7 GB otherwise
    model = load_micronet(weights)
    network = model.network
    assert model.weights == weights
    image = np.random.default_rng(0).integers(0, 255, (1, STEP_PX, STEP_PX, 3), np.uint8)
    maps = model.maps(image)
    assert maps.shape == (1, STEP_PX, STEP_PX, 2)
    margin = (PATCH_PX - STEP_PX) // 2
    around = ((margin, margin), (margin, margin), (0, 0))
    patch = (np.pad(image[0], around, mode="symmetric") / 255 - model.mean) / model.deviation
    batch = torch.from_numpy(patch[None].astype(np.float32))
    (expected,) = network.infer_batch(network, batch, device="cpu")
    inner = slice(margin, -margin)
    np.testing.assert_allclose(maps[0], expected[0, inner, inner], atol=1e-5)
    moved = replace(model, mean=0.5).to(torch.device("meta"))
    assert (moved.device, moved.mean, model.device) == (torch.device("meta"), 0.5, CPU)

    torch.save({"layer.out.1.bias": torch.zeros(2)}, weights)
    with pytest.raises(ModelError, match="do not fit the network"):
        load_micronet(weights)
    asked = []
    monkeypatch.setattr(
        architecture, "fetch_pretrained_weights", lambda name: asked.append(name) or str(weights)
    )
    with pytest.raises(ModelError, match="do not fit the network"):
        load_micronet(None)
    assert asked == [SPEC.name]


def test_tiles_that_are_no_whole_patches_are_refused():
    with pytest.raises(ModelError, match=f"multiples of {STEP_PX} px, not 256 x 150"):
        stand_in().maps(np.zeros((1, 150, 256, 3), np.uint8))
    assert stand_in().maps(np.zeros((0, 150, 300, 3), np.uint8)).shape == (0, 150, 300, 2)


def test_windows_give_the_nuclei_of_the_whole():
    maps = random_maps(900, 5, 3)
    model = stand_in()

    def polygons(part, corner=0):
        found = model.decode(part)
        inside = ((found.anchors + corner >= 300) & (found.anchors + corner < 600)).all(axis=1)
        rings = polygons_from_rings(found.xy + corner, found.offsets)
        return rings[inside]

    whole = polygons(maps)
    margin = LARGEST_OBJECT_PX + 1
    cut = slice(300 - margin, 600 + margin)
    windowed = polygons(maps[cut, cut], 300 - margin)
    assert len(whole) == len(windowed) > 30
    assert (polygon_overlaps(whole, windowed).iou > 0.999).sum() == len(whole)
