"""Mask R-CNN: suppression, masks, targets, losses, weights; tiling is in the conformance test."""

from __future__ import annotations

import os
import pickle
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import paste_masks_in_image, project_masks_on_boxes
from torchvision.ops import nms

import wsi_engine
from tests.support.dense_maps import MARGIN_PX, ious, label_discs
from tests.support.drawn_boxes import drawn_mask_rcnn
from wsi_engine.errors import ModelError
from wsi_engine.installing import install_command
from wsi_engine.models.layers import folded, normalise
from wsi_engine.models.learning import LabelledCrop
from wsi_engine.models.maskrcnn import decoding, detection, pooling
from wsi_engine.models.maskrcnn.boxes import suppress
from wsi_engine.models.maskrcnn.learning import LearningConfig, MaskRcnnLearner, NetworkConfig
from wsi_engine.models.maskrcnn.losses import mask_rcnn_losses
from wsi_engine.models.maskrcnn.model import MaskRcnnModel, load_mask_rcnn, save_weights, untrained
from wsi_engine.models.maskrcnn.network import PROPOSING
from wsi_engine.models.maskrcnn.spec import (
    CELL_PX,
    LONGEST_PX,
    MASK_SIDE,
    NETWORK_RADIUS_PX,
    SLOTS,
    SPEC,
)
from wsi_engine.models.registry import find_model

SMALL = {"channels": (4, 6, 8), "features": 6, "box_features": 8, "mask_features": 4}
LARGEST_MB = 6


def small_network() -> torch.nn.Module:
    """A network with random weights and random statistics."""
    torch.manual_seed(0)
    network = untrained(**SMALL)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return network.eval()


def pixels(height: int, width: int, count: int = 1) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), np.uint8)


def random_boxes(count: int, extent: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    low, sides = rng.uniform(0, extent, (count, 2)), rng.uniform(4, 64, (count, 2))
    return np.hstack([low, low + sides]).astype(np.float32), rng.random(count, np.float32)


class TestSuppression:
    def test_it_keeps_what_torchvision_keeps(self) -> None:
        boxes, scores = random_boxes(1500, 400)
        expected = nms(torch.from_numpy(boxes), torch.from_numpy(scores), 0.5)
        np.testing.assert_array_equal(suppress(boxes, scores, 0.5, most=1000), expected)

    def test_it_keeps_the_best_so_many_of_a_place_however_large_the_image(self) -> None:
        here, scores = random_boxes(300, 2 * CELL_PX)
        far = here + np.float32(1024)
        alone = suppress(here, scores, 0.9, most=3)
        both = suppress(np.concatenate([here, far]), np.tile(scores, 2), 0.9, most=3)
        assert sorted(both[both < 300]) == sorted(alone)
        centres = (here[alone, :2] + here[alone, 2:]) / 2 // CELL_PX
        assert np.unique(centres, axis=0, return_counts=True)[1].max() == 3

    def test_without_boxes_nothing_stays(self) -> None:
        assert len(suppress(np.empty((0, 4), np.float32), np.empty(0, np.float32), 0.5, 4)) == 0


def disc_mask() -> np.ndarray:
    """The mask of a disc that fills its box."""
    at = (np.arange(MASK_SIDE) + 0.5) / MASK_SIDE - 0.5
    depth = MASK_SIDE * (0.5 - np.hypot(at[:, None], at[None]))
    return np.clip(0.5 + depth, 0, 1).astype(np.float32)


def maps_of(*discs: tuple[float, float, float, float], side: int = 96) -> np.ndarray:
    """Detections of discs (x, y, radius, score)."""
    x, y, radius, scores = np.array(discs, np.float32).T
    boxes = np.stack([x - radius, y - radius, x + radius, y + radius], axis=1)
    masks = np.broadcast_to(disc_mask(), (len(discs), MASK_SIDE, MASK_SIDE))
    return decoding.packed(boxes, scores, masks, (side, side))


class TestDecoding:
    def test_a_mask_is_outlined_where_it_is(self) -> None:
        discs = ((30.3, 40.8, 8), (70, 20.5, 5.2), (60, 70, 20))
        found = decoding.decode(maps_of(*((*disc, 0.9) for disc in discs)), 0.5)
        assert len(found) == 3
        assert ious(found, label_discs(96, *discs)).min() > 0.95
        np.testing.assert_allclose(
            sorted(map(tuple, found.anchors)), sorted(disc[:2] for disc in discs), atol=0.02
        )

    def test_the_better_nucleus_is_on_top(self) -> None:
        found = decoding.decode(maps_of((40, 40, 10, 0.6), (52, 40, 10, 0.9)), 0.5)
        right = int(found.scores.argmax())
        rings = [found.xy[a:b] for a, b in zip(found.offsets, found.offsets[1:], strict=False)]
        assert rings[right][:, 0].min() == pytest.approx(42, abs=0.3)
        assert rings[1 - right][:, 0].max() < 46.5

    def test_what_lies_under_others_is_no_nucleus(self) -> None:
        found = decoding.decode(maps_of((40, 40, 10, 0.9), (43, 40, 10, 0.8)), 0.5)
        assert found.scores.tolist() == [np.float16(0.9)]

    def test_the_threshold_is_the_lowest_score(self) -> None:
        maps = maps_of((20, 20, 8, 0.3), (60, 20, 8, 0.6), (20, 60, 8, 0.9))
        assert [len(decoding.decode(maps, t)) for t in (0.2, 0.5, 0.7, 0.95)] == [3, 2, 1, 0]

    def test_a_rectangle_of_maps_has_its_own_nuclei_whole(self) -> None:
        maps = maps_of((34, 34, 9, 0.9), (80, 80, 9, 0.9))
        whole, part = decoding.decode(maps, 0.5), decoding.decode(maps[2:4, 2:4], 0.5)
        assert len(part) == 1
        np.testing.assert_allclose(part.xy + 2 * CELL_PX, whole.xy[: len(part.xy)], atol=1e-9)

    def test_masks_lie_where_they_were_when_they_were_learnt(self) -> None:
        """torchvision's own way back rounds boxes, which moves and widens small objects."""
        rows, columns = np.mgrid[:80, :80] + 0.5
        nucleus = np.hypot((columns - 30) / 10.5, (rows - 40) / 9) < 1
        box = torch.tensor([[19.5, 31.0, 40.5, 49.0]]) - 0.5
        learnt = project_masks_on_boxes(
            torch.from_numpy(nucleus)[None], box, torch.zeros(1), MASK_SIDE
        )
        pasted, _ = decoding._pasted(box.numpy().astype(np.float64) + 0.5, learnt.numpy(), (80, 80))
        theirs = paste_masks_in_image(learnt[None], box, (80, 80))[0, 0].numpy() >= 0.5
        own, torchvisions = (
            (nucleus & mask).sum() / (nucleus | mask).sum() for mask in (pasted > 0, theirs)
        )
        assert own > 0.97 > 0.93 > torchvisions

    def test_a_cell_holds_so_many(self) -> None:
        full = [(40 + k, 40 + k / 2, 3, 0.9) for k in range(SLOTS)]
        assert (maps_of(*full)[..., decoding.SCORE_AT] > 0).sum() == SLOTS

    def test_without_detections_there_are_no_nuclei(self) -> None:
        found = decoding.decode(np.zeros((4, 6, SLOTS, decoding.RECORD), np.float16), 0.2)
        assert (len(found), found.xy.shape, found.anchors.shape) == (0, (0, 2), (0, 2))


def crop_of(labels: np.ndarray) -> LabelledCrop:
    count = int(labels[labels < 65535].max(initial=0)) + 1
    nothing = np.zeros(count, np.float32)
    return LabelledCrop(labels, nothing, np.full(count, -1, np.int16), MARGIN_PX, 2)


LEARNER = MaskRcnnLearner(NetworkConfig(**SMALL), LearningConfig())


def tensors(*labels: np.ndarray) -> dict[str, torch.Tensor]:
    targets = LEARNER.targets([crop_of(each) for each in labels])
    return {name: torch.from_numpy(values) for name, values in targets.items()}


class TestTargets:
    def test_boxes_run_from_border_to_border(self) -> None:
        targets = LEARNER.targets([crop_of(label_discs(64, (20, 30, 8), (50, 12, 6)))])
        # 0 is the centre of the first pixel.
        expected = [[11.5, 21.5, 27.5, 37.5], [43.5, 5.5, 55.5, 17.5]]
        np.testing.assert_allclose(targets["boxes"], expected, atol=0.5)
        assert set(np.unique(targets["instances"])) == {0, 1, 2}

    def test_each_box_knows_its_crop(self) -> None:
        crops = [
            label_discs(32, (10, 10, 5)),
            label_discs(32),
            label_discs(32, (9, 9, 4), (22, 22, 6)),
        ]
        targets = LEARNER.targets([crop_of(labels) for labels in crops])
        assert targets["crop"].tolist() == [0, 2, 2]
        assert targets["instances"].max(axis=(1, 2)).tolist() == [1, 0, 2]

    def test_the_border_cuts_boxes_and_makes_slivers_unknown(self) -> None:
        targets = LEARNER.targets([crop_of(label_discs(32, (0, 16, 6), (37.5, 16, 6)))])
        np.testing.assert_allclose(targets["boxes"], [[-0.5, 9.5, 5.5, 21.5]], atol=0.5)
        assert (targets["instances"][0, :, -1] == -1).any()


class TestLosses:
    @pytest.fixture
    def images(self) -> torch.Tensor:
        return normalise(torch.from_numpy(pixels(64, 64, count=2)))

    def test_they_are_those_of_torchvision(self, images) -> None:
        network = small_network().train()
        targets = tensors(label_discs(64, (20, 30, 8), (50, 12, 6)), label_discs(64, (30, 30, 9)))
        torch.manual_seed(1)
        own = mask_rcnn_losses(network, images, targets)

        sizes = [(64, 64)] * 2
        truth = []
        for k in range(2):
            boxes = targets["boxes"][targets["crop"] == k]
            masks = targets["instances"][k] == torch.arange(1, len(boxes) + 1)[:, None, None]
            shares = torch.nn.functional.avg_pool2d(masks.float(), 2)
            labels = torch.ones(len(boxes), dtype=torch.int64)
            truth.append({"boxes": boxes, "labels": labels, "masks": shares})
        torch.manual_seed(1)
        features = network.backbone(images)
        levels = {level: features[level] for level in PROPOSING}
        proposals, first = network.rpn(ImageList(images, sizes), levels, truth)
        _, second = network.roi_heads(features, proposals, sizes, truth)
        theirs = {**first, **second}
        assert [
            own[name].item() for name in ("objectness", "proposal", "class", "box", "mask")
        ] == [
            pytest.approx(theirs[f"loss_{name}"].item(), rel=1e-5)
            for name in ("objectness", "rpn_box_reg", "classifier", "box_reg", "mask")
        ]

    def test_what_is_unknown_is_no_ground(self, images) -> None:
        """Where half is unknown, no anchor there is one without a nucleus."""
        labels = label_discs(64, (16, 30, 8))
        labels[:, labels.shape[1] // 2 :] = 65535
        network, targets = small_network(), tensors(labels, labels)
        drawn = []
        sampler = network.rpn.fg_bg_sampler
        network.rpn.fg_bg_sampler = lambda labels: drawn.append(labels) or sampler(labels)
        mask_rcnn_losses(network, images, targets)
        anchors = network.rpn.anchor_generator(
            ImageList(images, [(64, 64)]), [images[..., ::4, ::4], images[..., ::8, ::8]]
        )[0]
        of_first = drawn[0][0]
        assert (of_first[anchors[:, 0] > 36] == -1).all()
        assert (of_first[anchors[:, 2] < 28] >= 0).any()

    def test_ground_without_nuclei_teaches_too(self, images) -> None:
        losses = mask_rcnn_losses(small_network().train(), images, tensors(*[label_discs(64)] * 2))
        assert losses["objectness"] > 0
        assert losses["class"] > 0
        assert losses["mask"] == 0

    def test_all_of_it_learns(self, images) -> None:
        network = small_network().train()
        targets = tensors(*[label_discs(64, (20, 30, 8), (50, 12, 6))] * 2)
        sum(mask_rcnn_losses(network, images, targets).values()).backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


class TestNetwork:
    def test_weights_are_small(self) -> None:
        count = sum(parameter.numel() for parameter in untrained().parameters())
        assert 2 * count < LARGEST_MB * 1e6

    def test_features_look_no_further_than_it_says(self) -> None:
        network = folded(small_network()).double()
        for parameter in network.parameters():
            parameter.data.abs_()  # so that no path is cut by a ReLU
        middle = 88
        x = torch.rand(1, 3, 2 * middle, 2 * middle, dtype=torch.double, requires_grad=True)
        reach = 0.0
        for level, step in (("0", 2), ("1", 4), ("2", 8)):
            for at in range(middle // step, middle // step + 8 // step):
                network.backbone(x)[level][0, -1, at, at].backward()
                touched = torch.nonzero(x.grad.abs().sum((0, 1))).double()
                reach = max(reach, float((touched - at * step).abs().max()))
                x.grad = None
        assert NETWORK_RADIUS_PX - 8 <= reach <= NETWORK_RADIUS_PX


class TestPooling:
    @pytest.mark.parametrize("pool", ["box_roi_pool", "mask_roi_pool"])
    def test_it_is_torchvisions(self, pool: str) -> None:
        """On all levels, across the border, and of boxes that are less than a point."""
        boxes = torch.from_numpy(np.concatenate([random_boxes(200, 90)[0] - 20, np.zeros((1, 4))]))
        boxes = boxes.float()
        torch.manual_seed(0)
        features = {
            name: torch.randn(1, 5, 96 // s, 128 // s)
            for name, s in zip("012", (2, 4, 8), strict=True)
        }
        pooler = getattr(small_network().roi_heads, pool)
        expected = pooler(features, [boxes], [(96, 128)])
        levels = tuple(map(pooling.channels_last, features.values()))
        found = pooling.pooled(levels, boxes, pooler.output_size[0])
        assert torch.allclose(found, expected, atol=1e-4)


class TestModel:
    def test_it_finds_what_torchvision_finds(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """On one image, with torchvision's limits per image out of the way."""
        # So few proposals that none of the limits here is reached.
        monkeypatch.setattr(detection, "PROPOSALS_IOU", 0.4)
        own, places = drawn_mask_rcnn(), [(30, 30), (80, 40), (120, 90), (40, 90)]
        image = np.full((128, 160, 3), (225, 170, 205), np.uint8)
        rows, columns = np.ogrid[:128, :160]
        for radius, (x, y) in enumerate(places, start=6):
            image[np.hypot(rows + 0.5 - y, columns + 0.5 - x) < radius] = (90, 60, 140)
        # No two boxes are equally good: torchvision orders those as it likes.
        noise = np.random.default_rng(0).integers(-8, 9, image.shape)
        image = (image + noise).astype(np.uint8)
        maps = own.maps(image[None])[0]
        records = maps[maps[..., decoding.SCORE_AT] > 0].astype(np.float64)

        network, x = own.network, normalise(torch.from_numpy(image[None]))
        network.rpn.nms_thresh, network.rpn.score_thresh = 0.4, detection.OBJECTNESS
        network.rpn._pre_nms_top_n = network.rpn._post_nms_top_n = {"testing": 10**6}
        heads, sizes = network.roi_heads, [(128, 160)]
        heads.score_thresh, heads.detections_per_img = detection.SCORE, 10**6
        features = network.backbone(x)
        levels = {level: features[level] for level in PROPOSING}
        proposals, _ = network.rpn(ImageList(x, sizes), levels)
        theirs = heads(features, proposals, sizes)[0][0]
        assert len(records) == len(theirs["boxes"]) >= len(places)
        best = np.argsort(-records[:, decoding.SCORE_AT])
        np.testing.assert_allclose(
            records[best, decoding.SCORE_AT], theirs["scores"].numpy(), atol=1e-3
        )
        sides = (theirs["boxes"][:, 2:] - theirs["boxes"][:, :2]).numpy()
        np.testing.assert_allclose(records[best, 2:4] * LONGEST_PX, sides, atol=0.05)
        np.testing.assert_allclose(records[best, 5:], theirs["masks"].flatten(1).numpy(), atol=2e-3)
        nuclei = own.decode(maps)
        np.testing.assert_allclose(sorted(map(tuple, nuclei.anchors)), sorted(places), atol=4)

    def test_it_keeps_what_the_engine_is_promised(self) -> None:
        assert wsi_engine.check_model(drawn_mask_rcnn()) == []

    @pytest.mark.filterwarnings("error")
    def test_a_random_network_is_usable_too(self) -> None:
        """However much it proposes, memory is bounded and nuclei are nuclei."""
        model = MaskRcnnModel(folded(small_network()), threshold=0.2)
        batch = pixels(96, 64, count=2)
        batch.flags.writeable = False
        maps = model.maps(batch)
        assert maps.shape == (2, 6, 4, SLOTS, decoding.RECORD)
        assert model.maps(batch[1:])[0].tobytes() == maps[1].tobytes()
        assert len(model.decode(maps[0])) <= 6 * 4 * SLOTS

    def test_tiles_that_break_the_stride_are_refused(self) -> None:
        with pytest.raises(ModelError, match="multiples of 16 px, not 72 x 64"):
            drawn_mask_rcnn().maps(pixels(64, 72))

    def test_numbers_that_are_none_are_an_error(self) -> None:
        network = folded(small_network())
        for parameter in network.parameters():
            parameter.data.fill_(float("nan"))
        with pytest.raises(ModelError, match="computed NaN: its weights are damaged"):
            MaskRcnnModel(network).maps(pixels(64, 64))

    def test_the_slide_changes_nothing(self) -> None:
        own = drawn_mask_rcnn()
        assert own.calibrate(pixels(64, 64)) is own
        assert replace(own, threshold=0.7).settings() == {"threshold": 0.7}

    def test_it_can_be_sent_to_other_processes(self) -> None:
        own = MaskRcnnModel(folded(small_network()), threshold=0.3)
        there = pickle.loads(pickle.dumps(own))
        np.testing.assert_array_equal(there.maps(pixels(64, 64)), own.maps(pixels(64, 64)))
        assert there.threshold == own.threshold

    def test_moving_leaves_the_original_alone(self) -> None:
        own = MaskRcnnModel(folded(small_network()))
        own.to(torch.device("cpu"))
        assert {p.dtype for p in own.network.parameters()} == {torch.float32}


class _Trap:
    """Writes a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


class TestWeights:
    def test_without_any_it_says_how_to_get_them(self) -> None:
        if SPEC.embedded:
            assert find_model("mask-rcnn").load(None).spec is SPEC
            return
        with pytest.raises(ModelError, match=r"mask-rcnn are not shipped yet: .*--weights FILE"):
            find_model("mask-rcnn").load(None)

    def test_half_precision_says_the_same(self, tmp_path: Path) -> None:
        network, path = small_network(), tmp_path / "w.safetensors"
        save_weights(path, network, threshold=0.35)
        read = find_model("mask-rcnn").load(path)
        assert read.settings() == {"threshold": pytest.approx(0.35)}
        x = normalise(torch.from_numpy(pixels(64, 64)))
        with torch.no_grad():
            for level, exact in network.backbone(x).items():
                assert torch.allclose(read.network.backbone(x)[level], exact, atol=0.02)

    @pytest.mark.parametrize("form", ["bare.pth", "under model.pt", "folded.safetensors"])
    def test_a_state_dict_of_ones_own(self, tmp_path: Path, form: str) -> None:
        path, network = tmp_path / form, small_network()
        if form.startswith("folded"):
            save_file(folded(network).state_dict(), path)
        else:
            state = network.state_dict()
            torch.save({"model": state, "step": 3} if "model" in form else state, path)
        expected = MaskRcnnModel(folded(network)).maps(pixels(64, 64))
        np.testing.assert_array_equal(load_mask_rcnn(path).maps(pixels(64, 64)), expected)

    def test_another_architecture_is_named(self, tmp_path: Path) -> None:
        path = tmp_path / "other.pth"
        torch.save({"conv.weight": torch.zeros(3)}, path)
        message = r"other\.pth holds no mask-rcnn network: it lacks 'backbone\.stem\.0\.weight'$"
        with pytest.raises(ModelError, match=message):
            load_mask_rcnn(path)

    def test_a_tensor_of_another_shape_is_named(self, tmp_path: Path) -> None:
        path, state = tmp_path / "other.pth", small_network().state_dict()
        state["backbone.fine.0.weight"] = torch.zeros(2, 2)
        torch.save(state, path)
        with pytest.raises(ModelError, match=r"backbone\.fine\.0\.weight") as caught:
            load_mask_rcnn(path)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("ending", [".safetensors", ".pth"])
    def test_a_truncated_file_is_no_weights_file(self, tmp_path: Path, ending: str) -> None:
        path = tmp_path / f"w{ending}"
        save_weights(path, small_network())
        if ending == ".pth":
            torch.save(small_network().state_dict(), path)
        path.write_bytes(path.read_bytes()[:-2000])
        with pytest.raises(ModelError, match="is no weights file") as caught:
            load_mask_rcnn(path)
        assert "\n" not in str(caught.value)

    @pytest.mark.filterwarnings("ignore:Detected pickle protocol")
    @pytest.mark.parametrize(
        "pack", [torch.save, lambda trap, path: path.write_bytes(pickle.dumps(trap))]
    )
    def test_code_in_a_file_is_not_run(self, tmp_path: Path, pack) -> None:
        path, sprung = tmp_path / "trap.pth", tmp_path / "sprung"
        pack({"model": _Trap(sprung)}, path)
        with pytest.raises(ModelError, match=r"trap\.pth is no weights file \(UnpicklingError\)"):
            load_mask_rcnn(path)
        assert not sprung.exists()

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (None, "there is no weights file"),
            ([torch.zeros(3)], "holds no state dict"),
            ({}, "holds no state dict"),
        ],
        ids=["absent", "list", "empty"],
    )
    def test_unusable_files(self, tmp_path: Path, content: object, message: str) -> None:
        path = tmp_path / "w.pth"
        if content is not None:
            torch.save(content, path)
        with pytest.raises(ModelError, match=message):
            load_mask_rcnn(path)

    def test_without_torchvision_it_says_what_to_install(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        path = tmp_path / "w.safetensors"
        save_weights(path, small_network())
        monkeypatch.delitem(sys.modules, "wsi_engine.models.maskrcnn.network")
        for name in [m for m in sys.modules if m.partition(".")[0] == "torchvision"]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, "torchvision", None)
        for attempt in (lambda: load_mask_rcnn(path), LEARNER.network):
            with pytest.raises(ModelError, match=re.escape(install_command("maskrcnn"))):
                attempt()
