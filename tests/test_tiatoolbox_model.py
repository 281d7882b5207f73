"""The TIAToolbox adaptor: geometry of HoVerNet, frames, weights, errors.

The published weights cannot be fetched in a test; the networks here have random ones.
"""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiatoolbox import rcParam
from tiatoolbox.models import architecture
from tiatoolbox.models.architecture.hovernet import HoVerNet
from tiatoolbox.models.architecture.hovernetplus import HoVerNetPlus

from wsi_engine.errors import ModelError
from wsi_engine.installing import install_command
from wsi_engine.models.hovernet_decoding import SlopeExtremes
from wsi_engine.models.hovernet_scale import DECODER_REACH_PX
from wsi_engine.models.hovernet_spec import GEOMETRY, PLUS_LAYERS, PLUS_SPEC, SPECS
from wsi_engine.models.hovernet_windows import BYTES_PER_PX, in_windows
from wsi_engine.models.registry import find_model
from wsi_engine.models.tiatoolbox import HoVerNetModel, load_hovernet

PANNUKE = "hovernet_fast-pannuke"
LOST = 46
MARGIN = 112
TILE = 256


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return HoVerNet(num_types=6, mode="fast").eval()


@pytest.fixture(scope="module")
def weights(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "random.pth"
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def model(weights):
    return load_hovernet(PANNUKE, weights)


@pytest.fixture(scope="module")
def tissue():
    """Pink tissue with dark nuclei and noise, uint8 (1, 256, 256, 3)."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:TILE, :TILE]
    image = np.full((TILE, TILE, 3), (225, 170, 200), float)
    for centre_y, centre_x in rng.uniform(0, TILE, (60, 2)):
        image[(y - centre_y) ** 2 + (x - centre_x) ** 2 < 10**2] = (95, 60, 140)
    image += rng.normal(0, 8, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8)[None]


@pytest.fixture(scope="module")
def maps(model, tissue):
    return model.maps(tissue)


@pytest.fixture(scope="module")
def patch(tissue):
    """The smallest tile that the network takes: 8 px of it come out."""
    return tissue[:, :232, 16:248]


@pytest.fixture(scope="module")
def patch_maps(model, patch):
    return model.maps(patch)


@pytest.fixture(scope="module")
def square():
    """Ideal maps of one nucleus, 20 px wide, of type 3."""
    maps = np.zeros((TILE, TILE, 4), np.float32)
    y, x = np.mgrid[-9.5:10, -9.5:10] / 10
    maps[110:130, 90:110] = np.stack([np.full_like(x, 0.9), x, y, np.full_like(x, 3)], axis=-1)
    return maps


@pytest.mark.parametrize("name", SPECS)
def test_spec_says_what_tiatoolbox_says(name):
    entry = rcParam["pretrained_model_info"][name]
    arguments = entry["architecture"]["kwargs"]
    types = arguments.get("nuc_type_dict", {0: "Background"})
    assert SPECS[name].classes == tuple(types[k] for k in sorted(types)[1:])
    assert f"({arguments['mode']})" in SPECS[name].summary
    (resolution,) = entry["ioconfig"]["kwargs"]["input_resolutions"]
    assert resolution == {"units": "mpp", "resolution": SPECS[name].mpp}


@pytest.mark.parametrize("name", sorted(SPECS))
def test_licence_of_the_weights_is_named(name):
    free = name == "hovernet_original-consep"
    assert ("non-commercial" in SPECS[name].licence) is not free
    assert SPECS[name].embedded is False


def test_halo_holds_the_receptive_field_and_a_nucleus(model):
    assert model.spec.halo_px % 8 == 0
    assert model.spec.halo_px >= 109 + DECODER_REACH_PX + model.spec.largest_object_px


def test_maps_keep_the_size_of_the_tile(maps):
    assert maps.shape == (1, TILE, TILE, 4)
    assert maps.dtype == np.float32
    assert np.isfinite(maps).all()
    inner = maps[:, MARGIN:-MARGIN, MARGIN:-MARGIN]
    assert inner[..., 0].min() > 0
    assert inner[..., 0].max() < 1
    assert set(np.unique(inner[..., 3])) <= set(range(6))
    assert np.count_nonzero(maps[..., 0]) == (TILE - 2 * MARGIN) ** 2


def test_maps_are_those_of_tiatoolbox(network, patch, patch_maps):
    heads = network.infer_batch(network, torch.from_numpy(patch.copy()), device="cpu")
    expected = np.pad(np.concatenate(heads, axis=-1), ((0, 0), (LOST,) * 2, (LOST,) * 2, (0, 0)))
    seen = slice(MARGIN, -MARGIN)
    assert patch_maps[:, seen, seen].shape == (1, 8, 8, 4)
    np.testing.assert_allclose(patch_maps[:, seen, seen], expected[:, seen, seen], atol=1e-6)


@pytest.mark.parametrize("mode", GEOMETRY)
def test_maps_are_the_same_in_windows_of_any_size(tmp_path, tissue, mode):
    torch.manual_seed(0)
    path = tmp_path / "random.pth"
    name = {"fast": PANNUKE, "original": "hovernet_original-kumar"}[mode]
    network = HoVerNet(num_types=6 if mode == "fast" else None, mode=mode)
    torch.save(network.state_dict(), path)
    model, geometry = load_hovernet(name, path), GEOMETRY[mode]
    image = np.tile(tissue[0], (2, 2, 1))[:368, :400]
    maps = np.zeros((3, *image.shape[:2], 3 + (mode == "fast")), np.float32)
    for found, longest in zip(maps, (1024, 368, 2 * geometry.margin + 40), strict=True):
        in_windows(model.network, image, found, geometry, longest)
    inner = maps[:, geometry.margin : -geometry.margin, geometry.margin : -geometry.margin]
    assert (inner[0, ..., 0] > 0).all()
    np.testing.assert_allclose(inner[1], inner[0], atol=1e-6)
    np.testing.assert_allclose(inner[2], inner[0], atol=1e-6)
    np.testing.assert_array_equal(maps[0], model.maps(image[None])[0])


def test_windows_are_as_large_as_the_memory_allows(monkeypatch, tissue):
    shapes = []

    def network(batch, crop, *, types=True):
        shapes.append(batch.shape)
        less = 2 * (LOST + crop)
        return np.ones((1, batch.shape[1] - less, batch.shape[2] - less, 4), np.float32)

    model = HoVerNetModel(SPECS[PANNUKE], network)
    image = np.tile(tissue, (1, 5, 3, 1))[:, :1216, :736]
    maps = model.maps(image)
    assert (maps[:, MARGIN:-MARGIN, MARGIN:-MARGIN] == 1).all()
    assert maps[..., 0].sum() == (1216 - 2 * MARGIN) * (736 - 2 * MARGIN)
    # A machine with 1 GiB of memory has a quarter of it to spare.
    monkeypatch.setattr("wsi_engine.models.memory.memory_at_hand", lambda: 1 << 30)
    large = shapes.copy()
    shapes.clear()
    np.testing.assert_array_equal(model.maps(image), maps)
    for found, most in ((large, 1 << 30), (shapes, 1 << 28)):
        taken = {height * width * BYTES_PER_PX for _, height, width, _ in found}
        assert len(taken) == 1
        assert most / 2 < taken.pop() <= most


def test_random_weights_do_not_break_decoding(model, tissue, maps):
    nuclei = model.calibrate(tissue).decode(maps[0])
    n = len(nuclei)
    assert nuclei.offsets.shape == (n + 1,)
    assert nuclei.anchors.shape == (n, 2)
    assert nuclei.classes.shape == (n,)
    assert nuclei.probabilities.shape == (n, 5)
    assert nuclei.offsets[-1] == len(nuclei.xy)


@pytest.mark.parametrize("mode", GEOMETRY)
def test_receptive_radius_is_exact(mode):
    """Not-a-number spreads through every layer to just the pixels that depend on it."""
    geometry = GEOMETRY[mode]
    side = 2 * geometry.lost // 8 * 8 + 8
    length = 2 * (geometry.receptive_radius + geometry.lost) // 8 * 8 + 16
    # Of the eight phases within a stride, pixel 6 reaches furthest.
    position = length // 16 * 8 + 6
    image = torch.zeros(1, 3, side, length)
    image[..., position] = torch.nan
    image = torch.nn.functional.pad(image, [geometry.added] * 4)
    # Every branch has the same shape: one will do.
    network = HoVerNet(num_types=None, mode=mode).eval()
    del network.decoder["np"]
    with torch.inference_mode():
        out = network(image)["hv"]
    assert out.shape[2:] == (side - 2 * geometry.lost, length - 2 * geometry.lost)
    reached = torch.isnan(out[0, 0, 0]).nonzero() + geometry.lost
    assert (reached - position).abs().max() == geometry.receptive_radius


def test_tiles_agree_where_both_hold_the_receptive_field(model, tissue):
    strip = tissue[:, :232]
    strip = np.concatenate([strip, strip[:, :, ::-1]], axis=2)
    shift, width = 88, 320
    here = model.maps(strip[:, :, :width])
    there = model.maps(strip[:, :, shift : shift + width])
    both, rows = slice(shift + MARGIN, width - MARGIN), slice(MARGIN, -MARGIN)
    again = slice(both.start - shift, both.stop - shift)
    expected = here[:, rows, both, :3]
    assert (expected[..., 0] > 0).all()
    np.testing.assert_allclose(there[:, rows, again, :3], expected, atol=1e-5)
    # Half a stride further the pooling grids differ: the comparison above can fail.
    off_grid = model.maps(strip[:, :, shift + 4 : shift + 4 + width])
    again = slice(again.start - 4, again.stop - 4)
    assert not np.allclose(off_grid[:, rows, again, :3], expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 300, 256, 3), (1, 256, 252, 3), (1, 224, 256, 3)])
def test_tiles_that_do_not_suit_the_network_are_refused(model, shape):
    with pytest.raises(ModelError, match="multiples of 8 and larger than 224"):
        model.maps(np.zeros(shape, np.uint8))


def test_nuclei_lie_where_the_tile_has_them(model, square):
    nuclei = model.decode(square)
    np.testing.assert_allclose(nuclei.anchors, [(100, 120)])
    np.testing.assert_allclose(nuclei.xy.min(axis=0), (90, 110), atol=0.1)
    np.testing.assert_allclose(nuclei.xy.max(axis=0), (110, 130), atol=0.1)
    assert nuclei.classes.tolist() == [2]


def test_model_without_types(tmp_path, square):
    path = tmp_path / "kumar.pth"
    torch.save(HoVerNet(num_types=None, mode="original").state_dict(), path)
    model = load_hovernet("hovernet_original-kumar", path)
    assert model.maps(np.zeros((1, 328, 328, 3), np.uint8)).shape == (1, 328, 328, 3)
    nuclei = model.decode(np.pad(square[..., :3], ((72, 72), (72, 72), (0, 0))))
    assert nuclei.classes.tolist() == [-1]
    assert nuclei.probabilities is None


def test_hovernetplus_gives_the_nuclei_and_leaves_the_layers(tmp_path):
    entry = rcParam["pretrained_model_info"][PLUS_SPEC.name]
    arguments = entry["architecture"]["kwargs"]
    types = arguments["nuc_type_dict"]
    assert PLUS_SPEC.classes == tuple(types[k] for k in sorted(types)[1:])
    assert arguments["num_layers"] == PLUS_LAYERS
    (resolution,) = entry["ioconfig"]["kwargs"]["input_resolutions"]
    assert resolution == {"units": "mpp", "resolution": PLUS_SPEC.mpp}
    assert "non-commercial" in PLUS_SPEC.licence

    torch.manual_seed(0)
    network = HoVerNetPlus(num_types=3, num_layers=5).eval()
    path = tmp_path / "oed.pth"
    torch.save(network.state_dict(), path)
    model = load_hovernet(PLUS_SPEC.name, path)
    assert find_model(PLUS_SPEC.name).spec is model.spec is PLUS_SPEC
    image = np.random.default_rng(0).integers(0, 255, (1, 232, 232, 3), np.uint8)
    heads = network.infer_batch(network, torch.from_numpy(image), device="cpu")
    expected = np.concatenate(heads[:3], axis=-1)[:, MARGIN - LOST : LOST - MARGIN]
    expected = expected[:, :, MARGIN - LOST : LOST - MARGIN]
    maps = model.maps(image)
    np.testing.assert_allclose(maps[:, MARGIN:-MARGIN, MARGIN:-MARGIN], expected, atol=1e-6)
    assert model.decode(maps[0]).probabilities.shape[1] == 2
    with pytest.raises(ModelError, match="do not fit the network"):
        load_hovernet(PANNUKE, path)


def test_device_of_another_model_leaves_this_one_where_it_is(model, patch, patch_maps):
    assert model.to("cpu") is model
    # A device without memory stands in for a GPU: the first model must stay where it was.
    calibrated = replace(model, extremes=SlopeExtremes(-0.2, 0.1, -0.3, 0.2))
    moved = calibrated.to("meta")
    assert (moved.device, moved.extremes) == ("meta", calibrated.extremes)
    (constant, _) = moved.network._weights("conv_bot", (1024, 2048, 1, 1))
    assert constant.device == torch.device("meta")
    np.testing.assert_array_equal(model.maps(patch), patch_maps)


@pytest.mark.parametrize("ending", [".safetensors", ".tar"])
def test_other_files_of_weights(network, patch, patch_maps, tmp_path, ending):
    path = tmp_path / f"weights{ending}"
    if ending == ".tar":  # as the authors of HoVerNet publish theirs
        torch.save({"desc": network.state_dict()}, path)
    else:
        save_file(network.state_dict(), path)
    np.testing.assert_array_equal(load_hovernet(PANNUKE, path).maps(patch), patch_maps)


def test_weights_that_do_not_fit_name_the_first_keys(network, tmp_path):
    state = network.state_dict()
    state["conv0./.weight"] = state["conv0./.weight"][:, :1]
    state["novel.weight"] = torch.zeros(3)
    del state["conv0.bn.bias"]
    path = tmp_path / "other.pth"
    torch.save(state, path)
    with pytest.raises(ModelError) as caught:
        load_hovernet(PANNUKE, path)
    message = str(caught.value)
    assert "conv0./.weight ((64, 1, 7, 7) in the file, (64, 3, 7, 7) in the network)" in message
    assert "conv0.bn.bias (none in the file, (64,) in the network)" in message
    assert "novel.weight ((3,) in the file, none in the network)" in message
    assert "\n" not in message
    with pytest.raises(ModelError, match=r"do not fit the network: .* and \d+ more"):
        load_hovernet("hovernet_original-kumar", path)


@pytest.mark.parametrize(
    ("content", "ending", "message"),
    [
        (None, ".pth", "there is no weights file"),
        ("<html>not found</html>", ".pth", "is no weights file"),
        ("<html>not found</html>", ".safetensors", "is no weights file"),
        ([torch.zeros(3)], ".pt", "holds no state dict"),
    ],
)
def test_unusable_files_of_weights(tmp_path, content, ending, message):
    path = tmp_path / f"weights{ending}"
    if isinstance(content, str):
        path.write_text(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(ModelError, match=message) as caught:
        load_hovernet(PANNUKE, path)
    assert path.name in str(caught.value)


def test_unknown_model_lists_the_known_ones(weights):
    with pytest.raises(ModelError, match=PANNUKE):
        load_hovernet("hovernet", weights)


def test_failed_download_asks_for_a_file(monkeypatch):
    def unreachable(name: str) -> str:
        raise ConnectionError(f"no route to the host of {name}\nwith a long story")

    monkeypatch.setattr(architecture, "fetch_pretrained_weights", unreachable)
    with pytest.raises(ModelError, match="pass a weights file") as caught:
        load_hovernet(PANNUKE, None)
    assert "\n" not in str(caught.value)


def test_download_is_what_tiatoolbox_returns(monkeypatch, weights):
    asked = []
    monkeypatch.setattr(
        architecture, "fetch_pretrained_weights", lambda name: asked.append(name) or str(weights)
    )
    assert load_hovernet(PANNUKE, None).spec is SPECS[PANNUKE]
    assert asked == [PANNUKE]


def test_without_tiatoolbox_its_weights_do_and_its_hub_does_not(
    monkeypatch, weights, patch, patch_maps
):
    for module in [m for m in sys.modules if m.partition(".")[0] == "tiatoolbox"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "tiatoolbox", None)
    np.testing.assert_array_equal(load_hovernet(PANNUKE, weights).maps(patch), patch_maps)
    with pytest.raises(ModelError) as caught:
        load_hovernet(PANNUKE, None)
    assert install_command("tiatoolbox") in str(caught.value)


def test_tiatoolbox_is_imported_for_its_hub_alone_and_leaves_logging_alone(weights):
    script = f"""
import logging, sys, warnings
from pathlib import Path
import numpy as np
from wsi_engine.errors import ModelError
from wsi_engine.models.tiatoolbox import load_hovernet
show = warnings.showwarning
model = load_hovernet({PANNUKE!r}, Path({str(weights)!r}))
model.to("cpu").maps(np.zeros((1, 232, 232, 3), np.uint8))
assert not {{"tiatoolbox", "torch"}} & sys.modules.keys()
sys.modules["huggingface_hub"] = None
try:
    load_hovernet({PANNUKE!r}, None)
except ModelError:
    pass
assert "tiatoolbox" in sys.modules
assert logging.getLogger().handlers == [] and logging.getLogger().level == logging.WARNING
assert warnings.showwarning is show
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=300)
