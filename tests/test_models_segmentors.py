"""TIAToolbox's semantic segmentors as models of regions.

The published weights cannot be fetched in a test; the networks here have random ones.
"""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from tiatoolbox import rcParam
from tiatoolbox.models.architecture.unet import UNetModel

from wsi_engine.errors import ModelError
from wsi_engine.installing import install_command
from wsi_engine.models.regions.loading import load_regions_model
from wsi_engine.models.regions.segmentor_spec import MARGIN_PX, SPECS, STRIDE

MASK = "fcn-tissue_mask"
OF_QUPATH = {"Tumour": "Tumor", "Inflamatory": "Immune cells", "Others": "Other"}


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    network = UNetModel(3, 2, encoder="resnet50", decoder_block=(3,)).eval()
    # Random weights answer alike everywhere: let the last layer tell pixels apart.
    with torch.no_grad():
        network.clf.weight *= 30
    return network


@pytest.fixture(scope="module")
def weights(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "random.pth"
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def model(weights):
    return load_regions_model(MASK, weights)


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 256, (832, 800, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", SPECS)
def test_spec_says_what_tiatoolbox_says(name):
    known, spec = rcParam["pretrained_model_info"][name], SPECS[name]
    [resolution] = known["ioconfig"]["kwargs"]["input_resolutions"]
    assert resolution == {"units": "mpp", "resolution": spec.mpp}
    kwargs = known["architecture"]["kwargs"]
    assert len(spec.classes) == kwargs["num_output_channels"]
    for k, theirs in kwargs["class_dict"].items():
        assert spec.classes[k] == OF_QUPATH.get(theirs, theirs)
    assert (known["ioconfig"]["kwargs"].get("ignore_index") == 0) == (spec.classes[0][-1] == "*")


def test_probabilities_are_those_of_tiatoolbox(network, model, image):
    """Its ``infer_batch`` keeps the central half of a window."""
    theirs = UNetModel.infer_batch(network, torch.from_numpy(image[None]), device="cpu")[0]
    assert theirs.shape == (416, 400, 2)
    assert theirs[..., 0].std() > 0.01
    rows, columns = (slice(MARGIN_PX - side // 4, side // 4 - MARGIN_PX) for side in (832, 800))
    assert np.allclose(model.probabilities(image), theirs[rows, columns], atol=1e-4)


def test_probabilities_do_not_depend_on_the_window(model, image):
    whole = model.probabilities(image)
    assert whole.std() > 0.01
    part = model.probabilities(image[2 * STRIDE :, 3 * STRIDE :])
    assert np.allclose(part, whole[2 * STRIDE :, 3 * STRIDE :], atol=1e-4)


def test_bad_weights_are_one_sentence(weights, tmp_path):
    with pytest.raises(ModelError, match="no weights file"):
        load_regions_model(MASK, tmp_path / "absent.pth")
    (tmp_path / "short.pth").write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError, match="is no weights file"):
        load_regions_model(MASK, tmp_path / "short.pth")
    other = torch.load(weights, weights_only=True)
    other["clf.weight"] = torch.zeros(5, 64, 1, 1)
    torch.save(other, tmp_path / "other.pth")
    with pytest.raises(ModelError, match=r"do not fit the network: .*clf.weight"):
        load_regions_model(MASK, tmp_path / "other.pth")


def test_without_tiatoolbox_there_is_the_line_that_installs_it(monkeypatch, weights):
    for module in [m for m in sys.modules if m.partition(".")[0] == "tiatoolbox"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "tiatoolbox", None)
    with pytest.raises(ModelError) as caught:
        load_regions_model(MASK, weights)
    assert install_command("tiatoolbox") in str(caught.value)
