"""`wsi-engine train --from-corrections`: what a person checked is truth, and nothing else is."""

from __future__ import annotations

import gzip
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import wsi_engine
from tests.support.drawn import disc, export, feature, polygon
from wsi_engine.cli import main
from wsi_engine.corrections.record import read_corrections
from wsi_engine.engine.apply import apply_corrections
from wsi_engine.errors import DatasetError, SettingsError, TrainingError
from wsi_engine.evaluation.images import UNKNOWN
from wsi_engine.models.starconvex.model import load_weights
from wsi_engine.results.finished import SlideResult
from wsi_engine.slide.frames import LevelBox
from wsi_engine.slide.pyramid import write_pyramid
from wsi_engine.slide.whole_pixels import make_model_grid
from wsi_engine.training.config import CorrectionsDataConfig, TrainConfig
from wsi_engine.training.corrected_area import CorrectedArea, KnownBlock
from wsi_engine.training.datasets import DataSet, load_dataset, split_dataset
from wsi_engine.training.finetuning import config_for_corrections
from wsi_engine.training.sampling import Sampler
from wsi_engine.training.train import load_sources, train

MPP, SIDE = 0.25, 1152
# Far from each other; blocks are 512 px wide.
STRONG = [(120, 130), (260, 140), (700, 150), (860, 420), (300, 800), (900, 900), (1040, 960)]
PALE = [(180, 300), (400, 250), (620, 330), (780, 700), (420, 980), (1000, 700), (140, 700)]
DEBRIS = [(420, 120), (960, 260)]
RADIUS = 16
Feature = dict[str, Any]
SETTINGS: dict[str, Any] = {
    "tissue": False, "measure": (), "regions": False, "report": False, "compile": "never",
}  # fmt: skip


@dataclass(frozen=True)
class Place:
    """The folder of a slide and of its result."""

    slide: Path
    result: Path


def draw_slide(path: Path) -> Path:
    """Draw violet nuclei, nuclei so pale that no network finds them, and dark debris."""
    rng = np.random.default_rng(7)
    image = np.full((SIDE, SIDE, 3), (232, 196, 216), float)
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    for centres, colour in (
        (STRONG, (96, 60, 140)), (PALE, (222, 202, 208)), (DEBRIS, (90, 70, 140)),
    ):  # fmt: skip
        for cx, cy in centres:
            image[np.hypot(x - cx, y - cy) < RADIUS] = colour
    image += rng.normal(0, 5, image.shape)
    write_pyramid(path, np.clip(image, 0, 255).astype(np.uint8), MPP)
    return path


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("corrections")
    slide = draw_slide(folder / "slide.tif")
    result = wsi_engine.run(slide, folder / "out", **SETTINGS).folder
    assert result is not None
    return Place(slide, result)


@pytest.fixture
def place(found: Place, tmp_path: Path) -> Place:
    return Place(found.slide, Path(shutil.copytree(found.result, tmp_path / "out/slide")))


def features_of(result: Path) -> list[Feature]:
    return json.loads(gzip.decompress((result / "nuclei.geojson.gz").read_bytes()))["features"]


def nearest(features: list[Feature], x: float, y: float) -> Feature:
    def distance(item: Feature) -> float:
        ring = np.array(item["geometry"]["coordinates"][0])
        return float(np.hypot(*(ring.mean(axis=0) - (x, y))))

    best = min(features, key=distance)
    assert distance(best) < RADIUS
    return best


def moved(item: Feature, by: float) -> Feature:
    ring = np.array(item["geometry"]["coordinates"][0]) + np.array([by, 0])
    return item | {"geometry": {"type": "Polygon", "coordinates": [ring.tolist()]}}


def run_cli(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return int(end.value.code or 0)


def checked(left: float, top: float, right: float, bottom: float) -> Feature:
    ring = [(left, top), (right, top), (right, bottom), (left, bottom)]
    return feature(polygon(ring), "annotation", "Checked")


def correct(place: Place, *more: Feature) -> None:
    """Delete the debris, add two of the pale nuclei, move one of the others a little."""
    features = features_of(place.result)
    wrong = [nearest(features, *xy) for xy in DEBRIS]
    edited = nearest(features, *STRONG[0])
    kept = [item for item in features if item not in wrong and item is not edited]
    added = [disc(*xy, RADIUS) for xy in (PALE[0], PALE[3])]
    path = export(place.result.parent / "c.geojson", *kept, moved(edited, 4), *added, *more)
    done = apply_corrections(path, place.result)
    assert (done.deleted, done.edited, done.added) == (2, 1, 2)


def load(place: Place, **changes: Any) -> DataSet:
    document = {"name": "own", "results": [place.result], **changes}
    return load_dataset(CorrectionsDataConfig.model_validate(document))


def blocks(place: Place) -> list[KnownBlock]:
    """What is known, on the pixels of the slide."""
    corrections = read_corrections(place.result)
    assert corrections is not None
    with wsi_engine.open_slide(place.slide) as slide:
        grid = make_model_grid(slide.info, MPP)
    return list(CorrectedArea(SlideResult(place.result), corrections, grid).blocks())


def label_at(place: Place, x: float, y: float) -> int:
    """The label of a pixel in the one block that knows it."""
    labels = {
        int(block.labels[int(y) - block.box.y, int(x) - block.box.x])
        for block in blocks(place)
        if block.box.holds(np.array([[x, y]])).all()
    }
    known = labels - {UNKNOWN}
    assert len(known) <= 1
    return known.pop() if known else UNKNOWN


class TestWhatIsTrue:
    def test_added_and_edited_nuclei_and_a_rim(self, place: Place) -> None:
        correct(place)
        nucleus, pale = STRONG[0], PALE[0]
        for x, y in ((nucleus[0] + 4, nucleus[1]), pale):
            assert 0 < label_at(place, x, y) < UNKNOWN
        assert label_at(place, pale[0] + RADIUS + 2, pale[1]) == 0
        assert label_at(place, pale[0] + RADIUS + 8, pale[1]) == UNKNOWN
        assert sum(len(field.peaks) - 1 for field in load(place).fields) == 3

    def test_nothing_is_where_a_nucleus_was_deleted(self, place: Place) -> None:
        correct(place)
        for x, y in DEBRIS:
            assert label_at(place, x, y) == 0

    def test_nuclei_that_nobody_touched_are_unknown(self, place: Place) -> None:
        correct(place)
        for x, y in (*STRONG[1:], *PALE[1:3]):
            assert label_at(place, x, y) == UNKNOWN

    def test_in_a_checked_area_all_is_known(self, place: Place) -> None:
        correct(place, checked(200, 60, 480, 350))
        assert 0 < label_at(place, *STRONG[1]) < UNKNOWN
        assert label_at(place, 440, 320) == 0
        assert label_at(place, 495, 300) == UNKNOWN

    def test_an_area_may_be_all_that_was_drawn(self, place: Place) -> None:
        """Whoever finds that all is right has checked it, too."""
        path = export(place.result.parent / "c.geojson", *features_of(place.result),
                      checked(60, 60, 320, 200), checked(600, 60, 1000, 500))  # fmt: skip
        apply_corrections(path, place.result)
        assert all(0 < label_at(place, *xy) < UNKNOWN for xy in STRONG[:4])

    def test_each_nucleus_counts_once(self, place: Place) -> None:
        """Also where areas reach over several blocks."""
        correct(place, checked(0, 0, SIDE, SIDE))
        result = len(features_of(place.result))
        assert sum(len(field.peaks) - 1 for field in load(place).fields) == result

    def test_fields_show_the_slide(self, place: Place) -> None:
        correct(place)
        whole = LevelBox(0, 0, SIDE, SIDE)
        with wsi_engine.open_slide(place.slide) as slide:
            pixels = slide.read(0, whole)
        for field, block in zip(load(place).fields, blocks(place), strict=True):
            box = block.box
            np.testing.assert_array_equal(
                field.image, pixels[box.y : box.y_stop, box.x : box.x_stop]
            )
            np.testing.assert_array_equal(field.labels, block.labels)


class TestHeldOut:
    def test_blocks_of_one_slide(self, place: Place) -> None:
        correct(place)
        training, validation = split_dataset(load(place))
        assert training
        assert any(len(field.peaks) > 1 for field in validation)
        assert not {field.name for field in training} & {field.name for field in validation}

    def test_whole_slides_where_there_are_five(self, place: Place, tmp_path: Path) -> None:
        correct(place)
        for k in range(4):
            copy = Path(shutil.copytree(place.result, tmp_path / f"out/other{k}"))
            record = json.loads((copy / "run.json").read_text())
            slide = tmp_path / f"other{k}.tif"
            slide.write_bytes(place.slide.read_bytes() + b" " * (k + 1))
            record["slide_path"] = str(slide)
            record["slide"]["fingerprint"] = wsi_engine.slide.fingerprint.fingerprint(slide)
            (copy / "run.json").write_text(json.dumps(record))
        _, validation = split_dataset(load(place, results=[place.result.parent]))
        assert len({field.group for field in validation}) == 1
        assert len(validation) == len(load(place).fields)

    def test_as_it_is_stated(self, place: Place) -> None:
        correct(place)
        data = load(place, split={"validation": ["slide"]})
        assert split_dataset(data)[0] == ()

    def test_one_place_is_too_few(self, place: Place) -> None:
        added = disc(*PALE[0], RADIUS)
        path = export(place.result.parent / "c.geojson", *features_of(place.result), added)
        apply_corrections(path, place.result)
        with pytest.raises(DatasetError, match=r"fewer than two places, .* correct some elsewhere"):
            load(place)


def test_most_crops_show_a_nucleus(place: Place, tmp_path: Path) -> None:
    """Else a network would learn from many rims and few nuclei that there never is any."""
    correct(place)
    config = config_for_corrections([place.result], output=tmp_path)
    sampler = Sampler(load_sources(config)[0])
    spots = [sampler.draw(np.random.default_rng(k)) for k in range(200)]
    around = [spot for spot in spots if spot.around is not None]
    assert 0.7 < len(around) / len(spots) < 0.9
    for spot in around:
        assert spot.around is not None
        y, x = (int(c) for c in spot.around)
        assert 0 < spot.field.labels[y, x] < UNKNOWN


class TestBadInput:
    def test_nothing_was_corrected(self, place: Place) -> None:
        with pytest.raises(DatasetError, match=r"no result in .* was corrected: correct"):
            load(place)

    def test_a_slide_that_moved(self, place: Place, tmp_path: Path) -> None:
        correct(place)
        record = json.loads((place.result / "run.json").read_text())
        record["slide_path"] = str(tmp_path / "gone/slide.tif")
        (place.result / "run.json").write_text(json.dumps(record))
        with pytest.raises(DatasetError, match=r"the slide of .*slide is not at .*--slides FOLDER"):
            load(place)
        assert load(place, slides=place.slide.parent).fields

    def test_a_slide_that_changed(self, place: Place, tmp_path: Path) -> None:
        correct(place)
        (tmp_path / "slide.tif").write_bytes(place.slide.read_bytes() + b"more")
        with pytest.raises(DatasetError, match=r"slide\.tif is not the slide that .* made from"):
            load(place, slides=tmp_path)

    def test_a_folder_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match="nowhere does not exist"):
            config_for_corrections([tmp_path / "nowhere"])

    def test_without_any_folder(self, tmp_path: Path) -> None:
        path = tmp_path / "own.yaml"
        path.write_text("steps: 3\n")
        with pytest.raises(SettingsError, match=r"needs the folders of results"):
            config_for_corrections([], path)

    def test_a_run_that_has_ended(self, place: Place, tmp_path: Path) -> None:
        """It would go on for no step, and what was corrected since would be lost unseen."""
        correct(place)
        config = config_for_corrections([place.result], output=tmp_path / "run")
        config = config.model_copy(update={"steps": 1, "batch": 1})
        train(config)
        with pytest.raises(TrainingError, match=r"run holds a run that has ended, .* choose"):
            train(config)

    def test_a_folder_without_results(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match=r"holds no result: give folders OUT/<slide>"):
            config_for_corrections([tmp_path])

    def test_folders_without_the_option(self, place: Place, capsys: Any) -> None:
        assert run_cli("train", place.result) == 1
        assert "--from-corrections" in capsys.readouterr().err


class TestSettings:
    """What a person states nothing of follows from the results."""

    def test_it_goes_on_from_what_found_them(self, place: Place) -> None:
        correct(place)
        config = config_for_corrections([place.result])
        assert (config.method, config.init, config.freeze_statistics) == (
            "starconvex", "starconvex", True,
        )  # fmt: skip

    def test_it_learns_the_classes_of_weights_of_ones_own(self, place: Place) -> None:
        correct(place)
        record = json.loads((place.result / "run.json").read_text())
        record["settings"]["weights"] = "own.safetensors"
        record["model"]["classes"] = ["Tumor", "Stroma"]
        (place.result / "run.json").write_text(json.dumps(record))
        config = config_for_corrections([place.result])
        assert (config.init, config.classes) == ("own.safetensors", ("Tumor", "Stroma"))

    def test_a_file_counts_before(self, place: Place, tmp_path: Path) -> None:
        correct(place)
        path = tmp_path / "own.yaml"
        path.write_text("steps: 7\nlearning_rate: 0.001\noutput: elsewhere\n")
        config = config_for_corrections([place.result], path)
        assert (config.steps, config.learning_rate, config.output) == (7, 0.001, Path("elsewhere"))
        assert config_for_corrections([place.result], path, output=tmp_path).output == tmp_path

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"init": "unet"}, "state method: unet, or init: starconvex"),
            ({"freeze_statistics": True}, "state init"),
        ],
    )
    def test_a_start_that_cannot_be(self, changes: dict[str, Any], message: str) -> None:
        data = [{"name": "a", "images": "a", "labels": "a", "mpp": 1}]
        with pytest.raises(SettingsError, match=message):
            TrainConfig.from_document({"output": "x", "data": data, **changes}, Path("own.yaml"))


def test_from_one_run_to_the_next(place: Place, tmp_path: Path, capsys: Any) -> None:
    """Run, correct, apply, train, run again: it learns what it was told."""
    correct(place, checked(0, 0, SIDE, SIDE // 2))
    own = tmp_path / "own.yaml"
    own.write_text(
        yaml.safe_dump(
            {
                "steps": 24, "batch": 2, "crop_px": 96, "learning_rate": 3e-4, "warmup_steps": 2,
                "decay_steps": 6, "precision": "fp32", "log_every": 1, "validate_every": 24,
                "ema": 0.8, "augment": {"scale": [1, 1], "blur_px": 0, "noise": 0, "jpeg": 95},
            }
        )
    )  # fmt: skip
    output = tmp_path / "run"
    assert run_cli("train", own, "--from-corrections", place.result, "-o", output) == 0
    assert "at the start" in capsys.readouterr().out
    lines = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert len(losses) == 24
    assert np.mean(losses[-6:]) < 0.8 * np.mean(losses[:6])
    weights = output / "weights.safetensors"
    assert load_weights(weights).spec.name == "starconvex"
    again = wsi_engine.run(place.slide, tmp_path / "again", weights=weights, **SETTINGS)
    assert len(again.nuclei) > 0
    # What was found with weights of one's own goes on from these.
    assert again.folder is not None
    correct_again = Place(place.slide, again.folder)
    path = export(tmp_path / "d.geojson", *features_of(again.folder)[1:], disc(500, 600, RADIUS))
    apply_corrections(path, correct_again.result)
    assert config_for_corrections([again.folder]).init == str(weights)


def test_a_run_that_goes_on_learns_from_the_same_fields(place: Place, tmp_path: Path) -> None:
    correct(place)
    config = config_for_corrections([place.result], output=tmp_path / "run")
    one, other = load_sources(config)[0][0], load_sources(config)[0][0]
    assert [f.name for f in one.fields] == [f.name for f in other.fields]
    for a, b in zip(one.fields, other.fields, strict=True):
        np.testing.assert_array_equal(a.image, b.image)
        np.testing.assert_array_equal(a.labels, b.labels)
