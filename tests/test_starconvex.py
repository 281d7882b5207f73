"""The star-convex network behind the engine's protocol."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save
from shapely import Polygon

from wsi_engine.errors import ModelError
from wsi_engine.models.layers import folded, normalise
from wsi_engine.models.starconvex.decoding import GRID_PX
from wsi_engine.models.starconvex.model import (
    WEIGHTS_KEY,
    StarConvexModel,
    load_starconvex,
    load_weights,
    save_weights,
)
from wsi_engine.models.starconvex.network import StarConvexNet
from wsi_engine.models.starconvex.spec import (
    LARGE,
    LARGE_SPEC,
    LARGEST_OBJECT_PX,
    NETWORK_RADIUS_PX,
    RECEPTIVE_RADIUS_PX,
    STRIDE_PX,
)
from wsi_engine.training.config import TrainConfig

RAYS = 8
CPU = "cpu"


def small_net() -> StarConvexNet:
    """A network with random weights and random statistics."""
    torch.manual_seed(0)
    network = StarConvexNet((4, 6, 8), 4, RAYS)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return network.eval()


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "small.safetensors"
    save_weights(path, small_net(), mpp=0.5, threshold=0.4, max_overlap=0.3)
    return path


@pytest.fixture
def model(weights: Path) -> StarConvexModel:
    return load_weights(weights)


def pixels(height: int, width: int, count: int = 1) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), np.uint8)


class TestNetwork:
    def test_folding_changes_nothing(self) -> None:
        network, x = small_net(), normalise(torch.from_numpy(pixels(64, 64)))
        with torch.no_grad():
            assert torch.allclose(network(x), folded(network)(x), atol=1e-4)

    def test_the_receptive_radius_is_what_it_says(self) -> None:
        """Nothing farther than the radius changes a prediction; just within, something does."""
        network = folded(small_net()).double()
        for parameter in network.parameters():
            parameter.data.abs_()  # so that no path is cut by a ReLU
        reach = 0.0
        for row in range(40, 44):  # all phases of the pooling
            x = torch.rand(1, 3, 240, 240, dtype=torch.double, requires_grad=True)
            network(x)[0, 0, row, row].backward()
            assert x.grad is not None
            touched = torch.nonzero(x.grad.abs().sum((0, 1))).double() + 0.5
            reach = max(reach, float((touched - (GRID_PX * row + 1)).abs().max()))
        assert NETWORK_RADIUS_PX - STRIDE_PX <= reach <= NETWORK_RADIUS_PX

    @pytest.mark.parametrize(
        ("channels", "facts", "stride", "radius"),
        [
            ((4, 6, 8), {}, 8, 64),
            ((4, 6), {"grid_px": 1, "depth": 1}, 2, 14),
            ((4, 6, 8, 8), {"grid_px": 1, "depth": 2}, 8, 58),
            ((4, 6, 8, 8), {"depth": 7, "residual": True}, 16, 192),
            ((4, 6, 8), {"grid_px": 4, "depth": 3, "residual": True}, 16, 112),
            ((4, 6, 8), {"depth": 5, "residual": True, "pixel_features": 4}, 8, 72),
        ],
    )
    def test_other_shapes(
        self, channels: tuple[int, ...], facts: dict[str, Any], stride: int, radius: int
    ) -> None:
        """Stride and radius are what the shape says, and no path leads farther."""
        torch.manual_seed(0)
        network = folded(StarConvexNet(channels, 4, RAYS, **facts)).double()
        for parameter in network.parameters():
            parameter.data.abs_()
        assert network.stride_px == stride
        grid, reach, side = network.grid_px, 0.0, -(-(2 * radius + 4 * stride) // stride) * stride
        for row in range(side // 2 // grid, side // 2 // grid + stride // grid):
            x = torch.rand(1, 3, side, side, dtype=torch.double, requires_grad=True)
            maps = network(x)
            maps[0, 0, row, row].backward()
            assert x.grad is not None
            touched = torch.nonzero(x.grad.abs().sum((0, 1))).double() + 0.5
            reach = max(reach, float((touched - grid * (row + 0.5)).abs().max()))
        assert maps.shape == (1, 1 + RAYS, side // grid, side // grid)
        assert network.radius_px - stride <= reach <= network.radius_px <= radius + stride

    def test_a_tile_sees_what_its_neighbour_sees(self, model: StarConvexModel) -> None:
        """Tiles at multiples of the stride agree beyond the receptive radius."""
        image = pixels(256, 264)
        left, right = model.maps(image[:, :, :256])[0], model.maps(image[:, :, 8:])[0]
        inner = slice(NETWORK_RADIUS_PX // GRID_PX, -NETWORK_RADIUS_PX // GRID_PX)
        shift = STRIDE_PX // GRID_PX
        np.testing.assert_allclose(
            left[:, shift:][inner, inner].astype(float),
            right[:, : 128 - shift][inner, inner].astype(float),
            atol=2e-3,
        )

    def test_the_batch_does_not_matter(self, model: StarConvexModel) -> None:
        batch = pixels(64, 64, count=3)
        alone = model.maps(batch[1:2])[0]
        np.testing.assert_allclose(
            model.maps(batch)[1].astype(float), alone.astype(float), atol=2e-3
        )

    def test_the_same_batch_gives_the_same_bytes(self, model: StarConvexModel) -> None:
        batch = pixels(64, 64, count=2)
        assert model.maps(batch).tobytes() == model.maps(batch).tobytes()


class TestModel:
    def test_facts(self, model: StarConvexModel) -> None:
        assert (model.spec.mpp, model.spec.stride, model.spec.classes) == (0.5, 8, ())
        assert model.spec.halo_px >= RECEPTIVE_RADIUS_PX + LARGEST_OBJECT_PX / 2
        assert model.settings() == {"threshold": pytest.approx(0.4)}

    def test_maps_are_half_precision_on_the_grid(self, model: StarConvexModel) -> None:
        maps = model.to(CPU).maps(pixels(64, 80, count=2))
        assert maps.shape == (2, 32, 40, 1 + RAYS)
        assert maps.dtype == np.float16

    @pytest.mark.filterwarnings("error")
    def test_tiles_may_be_read_only(self, model: StarConvexModel) -> None:
        batch = pixels(64, 64)
        batch.flags.writeable = False
        assert model.maps(batch).shape == (1, 32, 32, 1 + RAYS)

    def test_calibration_does_not_depend_on_the_slide(self, model: StarConvexModel) -> None:
        assert model.calibrate(pixels(64, 64, count=4)) is model

    def test_tiles_that_break_the_stride_are_refused(self, model: StarConvexModel) -> None:
        with pytest.raises(ModelError, match="multiples of 8 px, not 60 x 64"):
            model.maps(pixels(64, 60))

    def test_moving_leaves_the_original_alone(self, model: StarConvexModel) -> None:
        model.to(CPU)
        assert {p.dtype for p in model.network.parameters()} == {torch.float32}

    def test_half_precision_weights_predict_alike(self, model: StarConvexModel) -> None:
        x = normalise(torch.from_numpy(pixels(64, 64)))
        with torch.no_grad():
            assert torch.allclose(model.network(x), small_net()(x), atol=0.05)

    @pytest.mark.parametrize("content", [b"", b"nonsense", None])
    def test_a_file_that_holds_something_else(self, tmp_path: Path, content: bytes | None) -> None:
        path = tmp_path / "other.safetensors"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ModelError, match="holds no star-convex network"):
            load_weights(path)


class TestShapes:
    @pytest.fixture
    def model(self, tmp_path: Path) -> StarConvexModel:
        torch.manual_seed(0)
        network = StarConvexNet((4, 6, 8), 4, RAYS, grid_px=1, depth=3, residual=True)
        path = tmp_path / "finer.safetensors"
        save_weights(path, network.eval(), mpp=0.25, threshold=0.1, max_overlap=0.3)
        return load_weights(path)

    def test_the_file_says_what_the_engine_plans_by(self, model: StarConvexModel) -> None:
        assert (model.spec.mpp, model.spec.stride, model.grid_px) == (0.25, 4, 1)
        assert (model.spec.largest_object_px, model.spec.reach_px) == (160, 80)
        assert model.consensus == 8  # points of 0.25 µm
        assert model.spec.receptive_radius_px == model.network.radius_px + 8

    def test_maps_and_nuclei_are_on_its_grid(self, model: StarConvexModel) -> None:
        maps = model.maps(pixels(36, 64))[0]
        assert maps.shape == (36, 64, 1 + RAYS)
        maps[:] = 0
        maps[..., 0], maps[..., 1:] = -9, 4
        maps[10, 20, 0] = 3
        nuclei = model.decode(maps)
        assert nuclei.anchors.tolist() == [[20.5, 10.5]]
        assert nuclei.xy[:, 0].max() == pytest.approx(24.5, abs=0.1)

    def test_a_tile_of_another_stride_is_refused(self, model: StarConvexModel) -> None:
        with pytest.raises(ModelError, match="multiples of 4 px, not 64 x 34"):
            model.maps(pixels(34, 64))

    def test_the_facts_of_the_large_network_are_those_of_its_recipe(self, tmp_path: Path) -> None:
        config = TrainConfig.load(Path(__file__).parents[1] / "configs/train_large.yaml")
        path = tmp_path / "large.safetensors"
        config.learner.write(path, config.learner.network(), threshold=0.5)
        model = load_starconvex(path, LARGE)
        assert replace(model.spec, embedded=True) == LARGE_SPEC
        assert path.stat().st_size < 12e6

    def test_files_from_before_there_were_shapes(self, weights: Path) -> None:
        """With the names that tensors had then, and nothing said that was not said then."""
        with safe_open(str(weights), "pt") as file:
            description = json.loads(file.metadata()[WEIGHTS_KEY])
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        new = load_weights(weights)
        former = ("channels", "features", "rays", "classes", "mpp", "threshold", "max_overlap")
        description = {name: description[name] for name in former}
        prefixes = {
            "levels.0.0.": "fine.", "levels.1.": "middle.", "levels.2.": "coarse.",
            "merges.1.blocks.": "up_middle.", "merges.0.blocks.": "up_fine.",
        }  # fmt: skip
        for present, then in prefixes.items():
            state = {
                n.replace(present, then) if n.startswith(present) else n: v
                for n, v in state.items()
            }
        assert not any(name.startswith(("levels", "merges")) for name in state)
        weights.write_bytes(save(state, metadata={WEIGHTS_KEY: json.dumps(description)}))
        old = load_weights(weights)
        assert old.spec == new.spec
        assert old.maps(pixels(64, 64)).tobytes() == new.maps(pixels(64, 64)).tobytes()


class TestClasses:
    @pytest.fixture
    def model(self, tmp_path: Path) -> StarConvexModel:
        torch.manual_seed(0)
        network = StarConvexNet((4, 6, 8), 4, RAYS, ("Tumor", "Immune cells"))
        path = tmp_path / "classes.safetensors"
        save_weights(path, network.eval(), mpp=0.5, threshold=0.1, max_overlap=0.3)
        return load_weights(path)

    def test_the_file_names_them(self, model: StarConvexModel) -> None:
        assert model.spec.classes == ("Tumor", "Immune cells")
        assert model.maps(pixels(64, 64)).shape == (1, 32, 32, 1 + RAYS + 2)

    def test_nuclei_have_them(self, model: StarConvexModel) -> None:
        nuclei = model.decode(model.maps(pixels(64, 64))[0])
        assert len(nuclei) > 0
        assert nuclei.probabilities is not None
        assert (nuclei.probabilities.argmax(axis=1) == nuclei.classes).all()

    def test_a_file_from_before_there_were_classes(self, weights: Path) -> None:
        with safe_open(str(weights), "pt") as file:
            description = json.loads(file.metadata()[WEIGHTS_KEY])
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        del description["classes"]
        weights.write_bytes(save(state, metadata={WEIGHTS_KEY: json.dumps(description)}))
        assert load_weights(weights).spec.classes == ()


class TestShippedModel:
    def test_it_is_embedded_and_small(self) -> None:
        model = load_starconvex()
        assert model.spec.embedded
        assert sum(p.numel() for p in model.network.parameters()) * 2 < 12e6

    def test_it_finds_dark_nuclei_on_pink(self) -> None:
        rows, columns = np.mgrid[:128, :128] + 0.5
        image = np.full((128, 128, 3), (230, 180, 210), np.uint8)
        centres = [(40, 40), (40, 88), (88, 64)]
        for y, x in centres:
            image[np.hypot(rows - y, columns - x) < 6] = (90, 60, 140)
        model = load_starconvex().to(CPU)
        nuclei = model.decode(model.maps(image[None])[0])
        assert len(nuclei) == 3
        assert nuclei.anchors[:, ::-1] == pytest.approx(np.array(centres, float), abs=3)
        areas = [Polygon(ring).area for ring in nuclei.xy.reshape(3, -1, 2)]
        assert areas == pytest.approx([np.pi * 36] * 3, rel=0.3)

    def test_the_threshold_can_be_set(self) -> None:
        model = replace(load_starconvex(), threshold=0.7)
        assert model.settings() == {"threshold": 0.7, "fading": 1.0}
