"""HoVer-Net as this package describes it: TIAToolbox's maps, by OpenVINO and by torch."""

import pickle

import numpy as np
import pytest
import torch
from tiatoolbox.models.architecture.hovernet import HoVerNet
from tiatoolbox.models.architecture.hovernetplus import HoVerNetPlus

from wsi_engine.models.hovernet_network import CROP_PX, Architecture, parameter_shapes
from wsi_engine.models.hovernet_openvino import OpenVinoHoVerNet
from wsi_engine.models.hovernet_torch import TorchHoVerNet
from wsi_engine.models.state_dict import read_state

ARCHITECTURES = {
    "fast": Architecture("fast", types=6),
    "original": Architecture("original"),
    "original with types": Architecture("original", types=5),
    "plus": Architecture("fast", types=3, layers=5),
}


def peer(architecture):
    """TIAToolbox's network with random weights and statistics."""
    torch.manual_seed(0)
    types = architecture.types or None
    if architecture.layers:
        network = HoVerNetPlus(num_types=types, num_layers=architecture.layers)
    else:
        network = HoVerNet(num_types=types, mode=architecture.mode)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return network.eval()


@pytest.fixture(scope="module", params=ARCHITECTURES)
def both(request, tmp_path_factory):
    """An architecture, TIAToolbox's network, and the file of its weights."""
    architecture = ARCHITECTURES[request.param]
    network = peer(architecture)
    path = tmp_path_factory.mktemp("weights") / "random.pth"
    torch.save(network.state_dict(), path)
    return architecture, network, path


def image_for(architecture, side):
    side += 6 * (architecture.mode == "original")
    return np.random.default_rng(0).integers(0, 255, (1, side, side, 3), np.uint8)


RUNS = {
    "openvino": OpenVinoHoVerNet,
    "torch": lambda architecture, path: TorchHoVerNet(architecture, path, "cpu"),
}


def test_parameters_are_those_of_tiatoolbox(both):
    architecture, network, path = both
    shapes = {key: value.shape for key, value in network.state_dict().items()}
    assert parameter_shapes(architecture) == shapes
    assert {key: value.shape for key, value in read_state(path).items()} == shapes


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_maps_are_those_of_tiatoolbox(both, run):
    architecture, network, path = both
    image = image_for(architecture, 208)
    heads = network.infer_batch(network, torch.from_numpy(image), device="cpu")
    expected = np.concatenate(heads[:3], axis=-1)
    ours = run(architecture, path)
    np.testing.assert_allclose(ours(image, 0), expected, atol=1e-6)
    np.testing.assert_allclose(ours(image, 0, types=False), expected[..., :3], atol=1e-6)


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_what_is_cropped_is_only_not_computed(both, run):
    architecture, _, path = both
    # The smallest that leaves something once it is cropped.
    image = image_for(architecture, 240 if architecture.mode == "fast" else 328)
    network = run(architecture, path)
    whole, part = network(image, 0), network(image, CROP_PX)
    inner = slice(CROP_PX, -CROP_PX)
    assert part.shape == whole[:, inner, inner].shape
    # A late layer of each branch pads with zeros, too, which reach so far in.
    kept = slice(architecture.kernel // 2, -(architecture.kernel // 2))
    np.testing.assert_allclose(
        part[:, kept, kept], whole[:, inner, inner][:, kept, kept], atol=1e-6
    )


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_a_network_goes_to_another_process(run, tmp_path):
    path = tmp_path / "random.pth"
    architecture = ARCHITECTURES["fast"]
    torch.save(peer(architecture).state_dict(), path)
    network = run(architecture, path)
    again = pickle.loads(pickle.dumps(network))
    image = image_for(architecture, 104)
    np.testing.assert_array_equal(again(image, 0), network(image, 0))
