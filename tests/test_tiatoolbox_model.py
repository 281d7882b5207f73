"""The TIAToolbox adaptor: geometry of HoVerNet, decoding against its own rules, weights, errors.

The published weights cannot be fetched in a test; the networks here have random ones.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiatoolbox import rcParam
from tiatoolbox.models import architecture
from tiatoolbox.models.architecture.hovernet import HoVerNet

from wsi_engine.errors import ModelError
from wsi_engine.models.tiatoolbox import DECODER_REACH_PX, GEOMETRY, SPECS, load_hovernet

PANNUKE = "hovernet_fast-pannuke"
LOST = 46
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
    """The smallest tile that the network takes: 4 px of it come out."""
    return tissue[:, 80:176, 80:176]


@pytest.fixture(scope="module")
def patch_maps(model, patch):
    return model.maps(patch)


def disc_maps(discs, side=TILE):
    """Ideal maps of discs (x, y, radius, type); x, y in pixel corners. Later discs yield."""
    centres_y, centres_x = np.mgrid[:side, :side] + 0.5
    maps = np.zeros((side, side, 4), np.float32)
    for x, y, radius, kind in discs:
        to_x, to_y = (centres_x - x) / radius, (centres_y - y) / radius
        disc = (np.hypot(to_x, to_y) <= 1) & (maps[..., 0] == 0)
        for channel, values in enumerate((np.full_like(to_x, 0.9), to_x, to_y)):
            maps[disc, channel] = values[disc]
        maps[disc, 3] = kind
    return maps


def ring_areas(nuclei):
    rings = np.split(nuclei.xy, nuclei.offsets[1:-1])
    return [abs(np.sum(x * np.roll(y, 1) - y * np.roll(x, 1))) / 2 for x, y in (r.T for r in rings)]


@pytest.mark.parametrize("name", SPECS)
def test_spec_says_what_tiatoolbox_says(name):
    entry = rcParam["pretrained_model_info"][name]
    arguments = entry["architecture"]["kwargs"]
    types = arguments.get("nuc_type_dict", {0: "Background"})
    assert SPECS[name].classes == tuple(types[k] for k in sorted(types)[1:])
    assert f"({arguments['mode']})" in SPECS[name].summary
    assert entry["ioconfig"]["kwargs"]["input_resolutions"][0] == {
        "units": "mpp",
        "resolution": SPECS[name].mpp,
    }


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
    inner = maps[:, LOST:-LOST, LOST:-LOST]
    assert inner[..., 0].min() > 0
    assert inner[..., 0].max() < 1
    assert set(np.unique(inner[..., 3])) <= set(range(6))
    maps_without_inner = maps.copy()
    maps_without_inner[:, LOST:-LOST, LOST:-LOST] = 0
    assert not maps_without_inner.any()


def test_maps_are_those_of_tiatoolbox(network, patch, patch_maps):
    heads = network.infer_batch(network, torch.from_numpy(patch.copy()), device="cpu")
    expected = np.concatenate(heads, axis=-1)
    np.testing.assert_allclose(patch_maps[:, LOST:-LOST, LOST:-LOST], expected, atol=1e-6)


def test_random_weights_do_not_break_decoding(model, maps):
    nuclei = model.decode(maps[0])
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
    strip = tissue[:, :96]
    radius = GEOMETRY["fast"].receptive_radius
    strip = np.concatenate([strip, strip[:, :, ::-1]], axis=2)
    shift, width = 88, 320
    here = model.maps(strip[:, :, :width])
    there = model.maps(strip[:, :, shift : shift + width])
    both = slice(shift + radius, width - radius)
    again = slice(both.start - shift, both.stop - shift)
    np.testing.assert_allclose(here[:, :, both, :3], there[:, :, again, :3], atol=1e-5)
    # Half a stride further the pooling grids differ: the comparison above can fail.
    off_grid = model.maps(strip[:, :, shift + 4 : shift + 4 + width])
    again = slice(again.start - 4, again.stop - 4)
    assert not np.allclose(here[:, :, both, :3], off_grid[:, :, again, :3], atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 100, 256, 3), (1, 256, 252, 3), (1, 88, 256, 3)])
def test_tiles_that_do_not_suit_the_network_are_refused(model, shape):
    with pytest.raises(ModelError, match="multiples of 8 and larger than 92"):
        model.maps(np.zeros(shape, np.uint8))


def test_two_touching_discs_become_two_nuclei(model):
    discs = [(100.0, 120.0, 20.0, 1), (138.0, 120.0, 20.0, 5)]
    maps = disc_maps(discs)
    maps[:110, :120, 3][maps[:110, :120, 0] > 0] = 2  # the top of the left disc
    sizes = [np.count_nonzero(maps[..., 3] == kind) for kind in (1, 2, 5)]
    nuclei = model.decode(maps)

    assert len(nuclei) == 2
    left, right = np.argsort(nuclei.anchors[:, 0])
    areas = ring_areas(nuclei)
    assert areas[left] == pytest.approx(sizes[0] + sizes[1], rel=0.03)
    assert areas[right] == pytest.approx(sizes[2], rel=0.03)
    assert nuclei.classes[[left, right]].tolist() == [0, 4]
    np.testing.assert_allclose(nuclei.anchors[left], (100, 120), atol=0.6)
    np.testing.assert_allclose(nuclei.anchors[right], (138, 120), atol=0.6)
    np.testing.assert_allclose(nuclei.scores, 0.9, rtol=1e-6)
    share = sizes[1] / (sizes[0] + sizes[1])
    np.testing.assert_allclose(nuclei.probabilities[left], [1 - share, share, 0, 0, 0], atol=0.02)
    np.testing.assert_allclose(nuclei.probabilities[right], [0, 0, 0, 0, 1], atol=0.02)


def test_rings_run_on_pixel_borders(model):
    nuclei = model.decode(disc_maps([(100.0, 120.0, 15.0, 3), (160.0, 150.0, 9.0, 3)]))
    first = nuclei.xy[: nuclei.offsets[1]]
    np.testing.assert_allclose(first.min(axis=0), (85, 105), atol=0.1)
    np.testing.assert_allclose(first.max(axis=0), (115, 135), atol=0.1)


def test_decoding_follows_tiatoolbox(network, model):
    """Same instances, centroids and types as TIAToolbox's own post-processing."""
    rng = np.random.default_rng(3)
    grid = np.stack(np.meshgrid(np.arange(64, 200, 28), np.arange(64, 200, 28)), -1).reshape(-1, 2)
    discs = [
        (*(centre + rng.uniform(-4, 4, 2)), rng.uniform(8, 16), rng.integers(1, 6))
        for centre in grid
    ]
    maps = disc_maps(discs)
    # A third of the nuclear pixels have another type, at random, background among them.
    noisy = (maps[..., 0] > 0) & (rng.random(maps.shape[:2]) < 0.33)
    maps[noisy, 3] = rng.integers(0, 6, noisy.sum())
    inner = maps[LOST:-LOST, LOST:-LOST]
    (theirs,) = network.postproc([inner[..., :1], inner[..., 1:3], inner[..., 3:]])
    info = theirs["info_dict"]

    nuclei = model.decode(maps)
    assert len(nuclei) == len(info["type"]) > 20
    np.testing.assert_allclose(nuclei.anchors, info["centroid"] + LOST + 0.5, atol=1e-6)
    assert (nuclei.classes + 1).tolist() == info["type"].astype(int).tolist()
    np.testing.assert_allclose(nuclei.probabilities.max(axis=1), info["prob"], atol=1e-6)


def test_nucleus_of_background_type_has_no_class(model):
    nuclei = model.decode(disc_maps([(100.0, 120.0, 15.0, 0), (160.0, 150.0, 12.0, 2)]))
    assert nuclei.classes.tolist() == [-1, 1]
    assert nuclei.probabilities[0].tolist() == [0, 0, 0, 0, 0]


def test_object_larger_than_promised_is_not_reported(model):
    discs = [(100.0, 120.0, 15.0, 2), (250.0, 250.0, 49.0, 2)]
    nuclei = model.decode(disc_maps(discs, side=400))
    assert len(nuclei) == 1
    np.testing.assert_allclose(nuclei.anchors, [(100, 120)], atol=0.1)


def test_empty_tile_has_no_nuclei(model):
    nuclei = model.decode(np.zeros((TILE, TILE, 4), np.float32))
    assert len(nuclei) == 0
    assert nuclei.xy.shape == (0, 2)
    assert nuclei.probabilities.shape == (0, 5)


def test_model_without_types(tmp_path):
    path = tmp_path / "kumar.pth"
    torch.save(HoVerNet(num_types=None, mode="original").state_dict(), path)
    model = load_hovernet("hovernet_original-kumar", path)
    assert model.maps(np.zeros((1, 192, 192, 3), np.uint8)).shape == (1, 192, 192, 3)
    nuclei = model.decode(disc_maps([(180, 190, 15, 1), (215, 190, 12, 1)], side=400)[..., :3])
    assert nuclei.classes.tolist() == [-1, -1]
    assert nuclei.probabilities is None


def test_model_is_as_the_protocol_asks(model, tissue, patch, patch_maps):
    assert model.calibrate(tissue) is model
    assert model.settings() == {}
    assert model.to(torch.device("cpu")) is model
    # A device without memory stands in for a GPU: the first model must stay where it was.
    assert model.to(torch.device("meta")) is not model
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


def make_nothing(path: Path) -> None:
    pass


def make_text(path: Path) -> None:
    path.write_text("<html>not found</html>")


def make_list(path: Path) -> None:
    torch.save([torch.zeros(3)], path)


@pytest.mark.parametrize(
    ("make", "ending", "message"),
    [
        (make_nothing, ".pth", "there is no weights file"),
        (make_text, ".pth", "is no weights file"),
        (make_text, ".safetensors", "is no weights file"),
        (make_list, ".pt", "holds no state dict"),
    ],
)
def test_unusable_files_of_weights(tmp_path, make, ending, message):
    path = tmp_path / f"weights{ending}"
    make(path)
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
        architecture,
        "fetch_pretrained_weights",
        lambda name: asked.append(name) or str(weights),
    )
    assert load_hovernet(PANNUKE, None).spec is SPECS[PANNUKE]
    assert asked == [PANNUKE]


def test_missing_package_says_how_to_install_it(monkeypatch, weights):
    for module in [m for m in sys.modules if m.partition(".")[0] == "tiatoolbox"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "tiatoolbox", None)
    with pytest.raises(ModelError) as caught:
        load_hovernet(PANNUKE, weights)
    assert 'pip install "wsi-engine[tiatoolbox]"' in str(caught.value)


def test_tiatoolbox_is_imported_late_and_leaves_logging_alone():
    script = f"""
import logging, sys, warnings
from pathlib import Path
from wsi_engine.errors import ModelError
from wsi_engine.models.tiatoolbox import load_hovernet
assert "tiatoolbox" not in sys.modules
show = warnings.showwarning
try:
    load_hovernet({PANNUKE!r}, Path("nowhere.pth"))
except ModelError:
    pass
assert "tiatoolbox" in sys.modules
assert logging.getLogger().handlers == [] and logging.getLogger().level == logging.WARNING
assert warnings.showwarning is show
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=300)
