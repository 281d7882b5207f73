"""Training: resumes exactly, keeps its checkpoints, and says what is wrong with its data."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.support.discs import config_of, draw_field
from tests.support.drawn import export, points
from wsi_engine.errors import DatasetError, EngineError, SettingsError, TrainingError
from wsi_engine.evaluation.images import UNKNOWN
from wsi_engine.evaluation.metrics import centroids
from wsi_engine.models.starconvex.learning import StarConvexLearner
from wsi_engine.models.starconvex.losses import star_loss
from wsi_engine.models.starconvex.model import load_weights
from wsi_engine.training import train as training
from wsi_engine.training.config import DataConfig, TrainConfig
from wsi_engine.training.datasets import load_dataset
from wsi_engine.training.log import masked_crc32c
from wsi_engine.training.train import learning_rate, train


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
    for patient in "ab":
        for number in range(2):
            image, labels = draw_field(ord(patient) + 10 * number)
            Image.fromarray(image).save(tmp_path / "images" / f"{patient}_{number}.png")
            np.save(tmp_path / "labels" / f"{patient}_{number}.npy", labels)
    return tmp_path


class Killed(Exception):  # noqa: N818
    pass


def kill_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    take_step = training.training_step

    def take_step_or_die(run, batch, config):  # type: ignore[no-untyped-def]
        if run.step == step:
            raise Killed
        return take_step(run, batch, config)

    monkeypatch.setattr(training, "training_step", take_step_or_die)


def same(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)  # type: ignore[arg-type]
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)  # type: ignore[attr-defined,index]
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))  # type: ignore[arg-type]
    return a == b


class TestResume:
    def test_a_killed_run_ends_as_if_it_had_never_stopped(
        self, data: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        straight = train(config_of(data, output=data / "straight"))
        config = config_of(data, output=data / "killed")
        with monkeypatch.context() as patch:
            kill_at(5, patch)  # the last checkpoint is of step 4
            with pytest.raises(Killed):
                train(config)
        resumed = train(config)
        first, second = (
            torch.load(result.checkpoint, weights_only=True) for result in (straight, resumed)
        )
        first.pop("config"), second.pop("config")
        assert same(first, second)
        assert straight.weights.read_bytes() == resumed.weights.read_bytes()
        assert straight.best.read_bytes() == resumed.best.read_bytes()

    def test_the_log_has_each_step_once(self, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        config = config_of(data)
        with monkeypatch.context() as patch:
            kill_at(5, patch)
            with pytest.raises(Killed):
                train(config)
        train(config)
        entries = [json.loads(line) for line in (data / "run/log.jsonl").read_text().splitlines()]
        assert [e["step"] for e in entries if "loss" in e] == [1, 2, 3, 4, 5, 6]
        assert [e["step"] for e in entries if "validation/f1" in e] == [3, 6]

    def test_a_finished_run_is_not_trained_again(self, data: Path) -> None:
        first = train(config_of(data))
        before = first.checkpoint.read_bytes()
        second = train(config_of(data))
        assert second == first
        assert first.checkpoint.read_bytes() == before

    def test_a_checkpoint_from_before_there_were_classes(self, data: Path) -> None:
        config = config_of(data)
        straight = train(config)
        saved = torch.load(straight.checkpoint, weights_only=True)
        before = json.loads(saved["config"])
        del before["classes"], before["class_balance"]
        for entry in before["data"]:
            del entry["classes"], entry["class_names"], entry["rename"]
        torch.save({**saved, "config": json.dumps(before)}, straight.checkpoint)
        assert train(config) == straight

    def test_a_run_of_another_network_is_refused(self, data: Path) -> None:
        train(config_of(data, steps=1))
        other = {"channels": [4, 4, 4], "features": 4, "rays": 8}
        with pytest.raises(TrainingError, match="another network"):
            train(config_of(data, network=other))


def test_weights_are_a_model_with_the_threshold_of_the_validation(data: Path) -> None:
    result = train(config_of(data))
    model = load_weights(result.weights)
    assert model.threshold == result.threshold
    assert model.spec.mpp == 0.5


def test_tensorboard_reads_the_events(data: Path) -> None:
    train(config_of(data))
    (path,) = (data / "run").glob("events.out.tfevents.*")
    content, records = path.read_bytes(), []
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        assert struct.unpack("<I", content[8:12])[0] == masked_crc32c(content[:8])
        event = content[12 : 12 + length]
        (check,) = struct.unpack("<I", content[12 + length : 16 + length])
        assert check == masked_crc32c(event)
        records.append(event)
        content = content[16 + length :]
    assert b"brain.Event:2" in records[0]
    assert any(b"validation/f1" in record for record in records)


def test_crc32c_of_the_standard_check_string() -> None:
    crc = 0xE3069283  # of "123456789", RFC 3720
    assert masked_crc32c(b"123456789") == ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def test_learning_rate_warms_up_stays_and_decays(data: Path) -> None:
    config = config_of(data, steps=100, warmup_steps=10, decay_steps=20, learning_rate=1.0)
    rates = [learning_rate(step, config) for step in (0, 9, 50, 80, 90, 99)]
    assert rates == pytest.approx([0.1, 1.0, 1.0, 1.0, 0.505, 0.016], abs=0.001)


class TestSetsWithoutNuclei:
    def config(self, data: Path) -> TrainConfig:
        for kind in ("images", "labels"):
            (data / "empty" / kind).mkdir(parents=True)
        image, labels = draw_field(1)
        Image.fromarray(image).save(data / "empty/images/c_0.png")
        np.save(data / "empty/labels/c_0.npy", np.zeros_like(labels))
        (entry,) = config_of(data).model_dump()["data"]
        empty = {
            "name": "empty", "images": data / "empty/images", "labels": data / "empty/labels",
            "mpp": 0.25, "split": {"group": "^(.)_", "validation": ["c"]},
        }  # fmt: skip
        return config_of(data, data=[entry, empty])

    def test_they_are_a_mistake(self, data: Path) -> None:
        with pytest.raises(DatasetError, match="no field of the set 'empty'"):
            train(self.config(data))

    def test_unless_they_are_meant(self, data: Path) -> None:
        """Then all of them are trained on, and none measures anything."""
        config = self.config(data)
        meant = config.data[1].model_copy(update={"empty": True})
        sources, held_out = training.load_sources(
            config.model_copy(update={"data": (config.data[0], meant)})
        )
        assert [len(source.fields) for source in sources] == [2, 1]
        assert [part.name for part in held_out] == ["discs"]


def test_every_part_of_the_large_recipe_goes_into_a_run(data: Path) -> None:
    augment = {"coarser": 2.0, "crowded": 0.5, "negatives": 0.5}
    result = train(
        config_of(
            data, augment=augment,
            learning={"size_balance": 0.5, "distance_loss": "relative", "peaks_on_grid": True},
            network={
                "channels": [4, 4, 4, 8], "features": 4, "rays": 8, "mpp": 0.25, "depth": 3,
                "residual": True,
            },
            crop_px=64,
        )
    )  # fmt: skip
    assert load_weights(result.weights).spec.stride == 16


class TestRelativeLoss:
    """Distances of a nucleus of 4 and one of 40 pixels, both a quarter too long."""

    def loss(self, size: float, *, relative: bool) -> float:
        true = torch.full((1, 8), size)
        raw = torch.log(torch.expm1(1.25 * true))
        raw = torch.where(raw.isfinite(), raw, 1.25 * true)
        maps = torch.cat([torch.zeros(1, 1), raw], dim=1).reshape(1, 9, 1, 1)
        one = torch.ones(1, 1, 1)
        targets = {
            "probability": one, "probability_weight": one,
            "points": torch.zeros(1, dtype=torch.long), "distances": true,
            "distances_weight": torch.ones(1, 8), "classes": torch.full((1,), -1),
        }  # fmt: skip
        return star_loss(maps, targets, relative=relative).terms["distance"].item()

    def test_in_pixels_the_large_one_counts_ten_times_as_much(self) -> None:
        ratio = self.loss(40, relative=False) / self.loss(4, relative=False)
        assert ratio == pytest.approx(10, rel=0.01)

    def test_in_proportion_they_count_alike(self) -> None:
        ratio = self.loss(40, relative=True) / self.loss(4, relative=True)
        assert ratio == pytest.approx(1, abs=0.25)

    def test_at_ten_pixels_both_are_the_same(self) -> None:
        in_pixels, relative = (self.loss(10, relative=flag) for flag in (False, True))
        assert relative == pytest.approx(in_pixels, rel=0.2)


class TestBadInput:
    def test_nan_leaves_the_checkpoint_intact(
        self, data: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        config = config_of(data)
        with monkeypatch.context() as patch:
            kill_at(4, patch)
            with pytest.raises(Killed):
                train(config)
        checkpoint = data / "run/checkpoint.pt"
        before = checkpoint.read_bytes()
        with monkeypatch.context() as patch:
            patch.setattr(StarConvexLearner, "loss", lambda *_: _nan_loss())
            with pytest.raises(TrainingError, match=r"nan at step 4.*checkpoint is intact"):
                train(config)
        assert checkpoint.read_bytes() == before
        straight = train(config_of(data, output=data / "straight"))
        assert train(config).weights.read_bytes() == straight.weights.read_bytes()

    def test_labels_of_another_size(self, data: Path) -> None:
        np.save(data / "labels/a_1.npy", np.zeros((50, 96), np.uint16))
        with pytest.raises(DatasetError, match=r"a_1\.npy has 96 x 50 pixels.*96 x 96"):
            train(config_of(data))

    def test_no_labels_for_an_image(self, data: Path) -> None:
        (data / "labels/a_1.npy").unlink()
        with pytest.raises(DatasetError, match=r"no labels of the same name.*'a_1'"):
            train(config_of(data))

    def test_labels_that_are_a_picture(self, data: Path) -> None:
        np.save(data / "labels/a_1.npy", np.zeros((96, 96, 3), np.uint8))
        with pytest.raises(DatasetError, match="is no label image"):
            train(config_of(data))

    def test_a_truncated_file(self, data: Path) -> None:
        path = data / "images/a_1.png"
        path.write_bytes(path.read_bytes()[:200])
        with pytest.raises(DatasetError, match=r"a_1\.\w+ cannot be read"):
            train(config_of(data))

    def test_a_file_of_no_bytes(self, data: Path) -> None:
        (data / "labels/a_1.npy").write_bytes(b"")
        with pytest.raises(DatasetError, match=r"a_1\.\w+ cannot be read"):
            train(config_of(data))

    def test_a_set_of_background_only(self, data: Path) -> None:
        for path in (data / "labels").iterdir():
            np.save(path, np.zeros((96, 96), np.uint16))
        with pytest.raises(DatasetError, match="no field of the set 'discs'"):
            train(config_of(data))

    def test_an_image_without_nuclei_among_others_is_fine(self, data: Path) -> None:
        np.save(data / "labels/a_1.npy", np.zeros((96, 96), np.uint16))
        train(config_of(data, steps=1))

    @pytest.mark.parametrize("annotation", ["partial", "points"])
    def test_an_empty_weak_annotation(self, data: Path, annotation: str) -> None:
        np.save(data / "labels/a_1.npy", np.zeros((96, 96), np.uint16))
        with pytest.raises(DatasetError, match="is empty"):
            train(with_data(data, annotation=annotation))

    def test_nothing_held_out(self, data: Path) -> None:
        with pytest.raises(TrainingError, match="no image is held out"):
            train(with_data(data, split={"group": "^(.)_"}))

    def test_everything_held_out(self, data: Path) -> None:
        with pytest.raises(DatasetError, match="no image is left to train on"):
            train(with_data(data, split={"group": "^(.)_", "validation": ["a", "b"]}))

    def test_a_patient_that_is_not_there(self, data: Path) -> None:
        with pytest.raises(DatasetError, match="'z' does not exist; there are a, b"):
            train(with_data(data, split={"group": "^(.)_", "validation": ["z"]}))

    def test_a_folder_that_is_not_there(self, data: Path) -> None:
        with pytest.raises(DatasetError, match="does not exist"):
            train(with_data(data, images=data / "nowhere"))

    def test_a_checkpoint_that_is_none(self, data: Path) -> None:
        (data / "run").mkdir()
        (data / "run/checkpoint.pt").write_bytes(b"nonsense")
        with pytest.raises(TrainingError, match="move it away"):
            train(config_of(data))

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("steps: [", "is not YAML"),
            ("steps: 3", "Field required"),
            ("output: x\ndata: []", "data"),
            (
                "output: x\ncrop_px: 24\nnetwork: {channels: [4, 4, 4, 4]}\n"
                "data: [{name: a, images: a, labels: a, mpp: 1}]",
                "multiple of 16",
            ),
            (
                "output: x\nnetwork: {depth: 4, residual: true}\n"
                "data: [{name: a, images: a, labels: a, mpp: 1}]",
                "depth must be odd",
            ),
            ("output: x\ncrop_px: 30\ndata: [{name: a, images: a, labels: a, mpp: 1}]", "multiple"),
            ("output: x\nstep: 3\ndata: [{name: a, images: a, labels: a, mpp: 1}]", "step: Extra"),
            (
                "output: x\naugment: {jpeg: 96}\ndata: [{name: a, images: a, labels: a, mpp: 1}]",
                r"augment\.jpeg",
            ),
        ],
    )
    def test_a_wrong_configuration(self, tmp_path: Path, text: str, message: str) -> None:
        path = tmp_path / "config.yaml"
        path.write_text(text)
        with pytest.raises(SettingsError, match=message):
            TrainConfig.load(path)

    def test_all_are_errors_of_the_engine(self) -> None:
        assert issubclass(DatasetError, EngineError)
        assert issubclass(TrainingError, EngineError)


def _nan_loss() -> training.Loss:
    nan = torch.tensor(float("nan"))
    return training.Loss(nan)


def with_data(folder: Path, **changes: object) -> TrainConfig:
    entry = config_of(folder).data[0].model_dump()
    return config_of(folder, data=[{**entry, **changes}])


def with_classes(folder: Path, **changes: object) -> TrainConfig:
    """The same data with images of classes beside them: nuclei 1 to 4 are of class A."""
    (folder / "classes").mkdir(exist_ok=True)
    for path in (folder / "labels").iterdir():
        labels = np.load(path)
        np.save(folder / "classes" / path.name, np.uint8(labels > 0) + np.uint8(labels > 4))
    entry = config_of(folder).data[0].model_dump() | {"classes": folder / "classes"}
    return config_of(folder, **{"data": [entry], "classes": ["A", "B"], **changes})


class TestClasses:
    def test_the_weights_name_them(self, data: Path) -> None:
        result = train(with_classes(data, class_balance=0.5))
        assert load_weights(result.weights).spec.classes == ("A", "B")
        assert result.class_f1 is not None
        lines = [json.loads(line) for line in (data / "run/log.jsonl").read_text().splitlines()]
        assert all(line["classification"] > 0 for line in lines if "loss" in line)
        measured = [line for line in lines if "validation/f1" in line]
        assert measured[-1]["validation/class_f1"] == result.class_f1
        assert {"validation/class_f1/A", "validation/class_f1/B"} <= measured[-1].keys()

    def test_a_killed_run_goes_on_as_without_classes(
        self, data: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        straight = train(with_classes(data, class_balance=0.5, output=data / "straight"))
        config = with_classes(data, class_balance=0.5)
        with monkeypatch.context() as patch:
            kill_at(5, patch)
            with pytest.raises(Killed):
                train(config)
        assert train(config).weights.read_bytes() == straight.weights.read_bytes()

    def test_a_set_without_classes_teaches_shapes(self, data: Path) -> None:
        plain = config_of(data).data[0].model_dump() | {"name": "plain"}
        sets = [*with_classes(data).model_dump()["data"], plain]
        assert train(with_classes(data, data=sets)).class_f1 is not None

    def test_no_set_has_any(self, data: Path) -> None:
        with pytest.raises(DatasetError, match="learn the classes A, B, but no nucleus"):
            train(config_of(data, classes=["A", "B"]))

    def test_no_nucleus_to_train_on_has_one(self, data: Path) -> None:
        with pytest.raises(DatasetError, match="no nucleus to train on has the class 'C'"):
            train(with_classes(data, classes=["A", "B", "C"]))

    def test_another_list_of_them_is_another_run(self, data: Path) -> None:
        train(with_classes(data, steps=1))
        with pytest.raises(TrainingError, match="other classes"):
            train(with_classes(data, classes=["B", "A"]))


@pytest.mark.parametrize("annotation", ["dense", "partial", "points"])
def test_every_kind_of_annotation_trains(data: Path, annotation: str) -> None:
    result = train(with_data(data, annotation=annotation))
    assert result.weights.exists()
    assert np.isfinite(result.f1)


def folders_of(path: Path) -> set[str]:
    sets = TrainConfig.load(path).data
    return {entry.images.parent.name for entry in sets if isinstance(entry, DataConfig)}


@pytest.mark.parametrize("path", sorted(Path("configs").glob("train_*.yaml")), ids=str)
def test_the_recipes_that_ship_are_valid(path: Path) -> None:
    assert "monuseg_train" not in folders_of(path), "it may be measured on, never trained on"


def test_the_default_weights_come_from_three_sets() -> None:
    sets = {"tnbc", "nuinsseg_split", "dsb2018_colour"}
    assert folders_of(Path("configs/train_default.yaml")) == sets


def box(x: int, y: int, side: int, kind: str) -> dict[str, object]:
    ring = [[x, y], [x + side, y], [x + side, y + side], [x, y + side], [x, y]]
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"objectType": kind},
    }


class TestPolygonsFromQuPath:
    def labels_of(self, data: Path, *features: dict[str, object]) -> np.ndarray:
        (data / "labels/a_0.npy").unlink()
        document = {"type": "FeatureCollection", "features": features}
        (data / "labels/a_0.geojson").write_text(json.dumps(document))
        fields = load_dataset(config_of(data).data[0]).fields
        return next(field for field in fields if field.name == "a_0").labels

    def test_drawn_nuclei_are_labels(self, data: Path) -> None:
        labels = self.labels_of(data, box(8, 8, 16, "annotation"))
        assert (labels[8:24, 8:24] == 1).all()
        assert labels.sum() == 16 * 16

    def test_outside_of_the_annotated_field_nothing_is_known(self, data: Path) -> None:
        labels = self.labels_of(data, box(0, 0, 48, "annotation"), box(8, 8, 16, "detection"))
        assert (labels[8:24, 8:24] == 1).all()
        assert labels[40, 40] == 0
        assert (labels[48:] == UNKNOWN).all()


class TestPointsFromQuPath:
    """Points in the image's pixels, as QuPath's Points tool makes them."""

    def mark(self, data: Path) -> None:
        for path in sorted((data / "labels").iterdir()):
            centres = centroids(np.load(path))
            path.unlink()
            marks = points(*map(tuple, centres[:4]), name="A"), points(*map(tuple, centres[4:]))
            export(path.with_suffix(".geojson"), *marks)

    def test_stand_for_nuclei(self, data: Path) -> None:
        truth = np.load(data / "labels/a_0.npy")
        self.mark(data)
        (field, *_) = load_dataset(with_data(data, annotation="points").data[0], ("A",)).fields
        assert (field.labels[truth == 0] % UNKNOWN).mean() == 0  # no nucleus outside of the true
        assert set(field.classes[np.unique(field.labels[field.labels % UNKNOWN > 0])]) == {-1, 0}

    def test_train(self, data: Path) -> None:
        self.mark(data)
        entry = with_data(data, annotation="points").data
        assert train(config_of(data, data=entry, classes=["A"])).class_f1 is not None

    def test_are_refused_where_outlines_are_expected(self, data: Path) -> None:
        self.mark(data)
        with pytest.raises(DatasetError, match=r"a_0\.geojson holds points, .* annotated as dense"):
            train(config_of(data))


class TestPairs:
    def test_two_labels_of_one_name(self, data: Path) -> None:
        Image.new("L", (96, 96)).save(data / "labels/a_0.png")
        with pytest.raises(DatasetError, match=r"a_0\.npy and .*a_0\.png have the same name"):
            train(config_of(data))

    def test_nothing_that_could_be_used(self, data: Path) -> None:
        for path in (data / "labels").iterdir():
            path.rename(path.with_suffix(".txt"))
        with pytest.raises(DatasetError, match=r"labels holds no files that could be used"):
            train(config_of(data))
