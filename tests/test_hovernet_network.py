"""HoVer-Net as this package describes it: TIAToolbox's maps, by OpenVINO and by torch."""

import numpy as np
import openvino
import pytest
import torch
from tiatoolbox.models.architecture.hovernet import HoVerNet
from tiatoolbox.models.architecture.hovernetplus import HoVerNetPlus

from wsi_engine.models import hovernet_torch
from wsi_engine.models.hovernet_network import Architecture, parameter_shapes
from wsi_engine.models.hovernet_openvino import described

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


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_parameters_and_maps_are_those_of_tiatoolbox(name, monkeypatch):
    architecture = ARCHITECTURES[name]
    network = peer(architecture)
    state = {key: value.numpy() for key, value in network.state_dict().items()}
    assert parameter_shapes(architecture) == {key: value.shape for key, value in state.items()}

    side = 208 if architecture.mode == "fast" else 214
    image = np.random.default_rng(0).integers(0, 255, (1, side, side, 3), np.uint8)
    heads = network.infer_batch(network, torch.from_numpy(image), device="cpu")
    expected = np.concatenate(heads[:3], axis=-1)

    model = described(architecture, state, 0)
    model.reshape([1, side, side, 3])
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    np.testing.assert_allclose(compiled([image])[0], expected, atol=1e-6)

    monkeypatch.setattr(hovernet_torch, "fastest_dtype", lambda device: torch.float32)
    found = hovernet_torch.TorchHoVerNet(architecture, state, "cpu")(image, 0)
    np.testing.assert_allclose(found, expected, atol=1e-6)
