"""A teacher's word as a set to train on."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.discs import config_of, draw_field, write_fields
from wsi_engine.errors import DatasetError
from wsi_engine.evaluation.images import UNKNOWN, read_image, read_labels, read_taught
from wsi_engine.models.starconvex.learning import StarConvexLearner
from wsi_engine.models.starconvex.model import StarConvexModel, load_starconvex
from wsi_engine.models.starconvex.targets import StarTargets
from wsi_engine.slide.pyramid import write_pyramid
from wsi_engine.training.batches import draw_crop
from wsi_engine.training.config import TrainConfig
from wsi_engine.training.datasets import load_dataset
from wsi_engine.training.sampling import Source, Spot
from wsi_engine.training.teaching import main, teach, teach_images, teach_slide
from wsi_engine.training.train import train

GENTLE = {
    "scale": (1, 1), "elastic_um": 0, "blur_px": 0, "noise": 0, "brightness": 0, "contrast": 0,
    "stain_vector": 0, "hematoxylin": (1, 1), "eosin": (1, 1), "white": (0, 0),
}  # fmt: skip


@pytest.fixture(scope="module")
def teacher() -> StarConvexModel:
    return load_starconvex()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "taught").mkdir()
    return write_fields(tmp_path)


def taught_config(folder: Path, **changes: object) -> TrainConfig:
    """A run with a teacher, who has seen one image of patient b if no other."""
    if not any((folder / "taught").iterdir()):
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(folder / "taught/b_0.png")
    (entry,) = config_of(folder).model_dump()["data"]
    entry = {**entry, "taught": folder / "taught"}
    return config_of(folder, data=[entry], **changes)


def doubting(teacher: StarConvexModel, by: float) -> StarConvexModel:
    """Return the teacher less sure of every nucleus by so much of its logit."""
    network = copy.deepcopy(teacher.network)
    network.state_dict()["head.bias"][0] -= by
    return replace(teacher, network=network)


def test_it_says_where_nuclei_are(teacher: StarConvexModel) -> None:
    image, drawn = draw_field(4)
    probability, labels = teach([teacher], image, 0.25)
    assert labels.shape == image.shape[:2]
    assert labels.dtype == np.uint16
    assert probability.shape == (24, 24)  # 96 px of 0.25 µm on a grid of 1 µm
    truth = (drawn > 0).reshape(24, 4, 24, 4).mean(axis=(1, 3))
    assert probability[truth == 1].mean() > 100 > 40 > probability[truth == 0].mean()
    known = labels != UNKNOWN
    assert ((labels > 0) == (drawn > 0))[known].mean() > 0.9


def test_what_it_is_not_sure_of_is_unknown(teacher: StarConvexModel) -> None:
    """The same image, seen by one who is never sure, and by one who finds nothing."""
    image, _ = draw_field(4)
    labels = [teach([doubting(teacher, by)], image, 0.25)[1] for by in (0, 1.5, 20)]
    assert not labels[2].any()
    unknown = [(each == UNKNOWN).sum() for each in labels]
    assert unknown[1] > unknown[0]


class TestTwoTeachers:
    def test_probability_is_their_mean(self, teacher: StarConvexModel) -> None:
        image, _ = draw_field(4)
        other = doubting(teacher, 1.5)
        alone = [teach([each], image, 0.25)[0].astype(float) for each in (teacher, other)]
        together, _ = teach([teacher, other], image, 0.25)
        np.testing.assert_allclose(together, np.mean(alone, axis=0), atol=1)

    def test_it_lies_on_the_finest_of_their_grids(self, teacher: StarConvexModel) -> None:
        """The coarser one, whose pixels are twice as large, sees nuclei of half the size."""
        image, drawn = draw_field(4)
        coarse = replace(teacher, spec=replace(teacher.spec, mpp=1.0))
        for teachers in ([teacher, coarse], [coarse, teacher]):
            probability, _ = teach(teachers, image, 0.25)
            assert probability.shape == (24, 24)
            truth = (drawn > 0).reshape(24, 4, 24, 4).mean(axis=(1, 3))
            assert probability[truth == 1].mean() > 2 * probability[truth == 0].mean()

    def test_the_first_draws_and_all_say_how_likely(self, teacher: StarConvexModel) -> None:
        image, _ = draw_field(4)
        blind = doubting(teacher, 20)
        alone = teach([teacher], image, 0.25)[1]
        doubted = teach([teacher, blind], image, 0.25)[1]
        assert ((alone > 0) & (alone != UNKNOWN)).any()
        # Half as likely as the one says: nothing is sure any more.
        assert set(np.unique(doubted)) == {0, UNKNOWN}
        # What the first does not draw, but others see, is unknown, not background.
        unseen = teach([blind, teacher], image, 0.25)[1]
        assert set(np.unique(unseen)) == {0, UNKNOWN}


def test_images_are_taught_once(teacher: StarConvexModel, data: Path) -> None:
    paths = sorted((data / "images").iterdir())
    teach_images([teacher], paths, 0.25, data / "taught")
    first = {path: path.stat().st_mtime_ns for path in (data / "taught").iterdir()}
    assert [path.name for path in sorted(first)] == ["a_0.png", "b_0.png"]
    teach_images([teacher], paths, 0.25, data / "taught")
    assert first == {path: path.stat().st_mtime_ns for path in (data / "taught").iterdir()}


def test_fields_of_a_slide_are_a_set(teacher: StarConvexModel, tmp_path: Path) -> None:
    image = np.full((1024, 2048, 3), 245, np.uint8)
    image[:, :1024] = np.tile(draw_field(4)[0], (11, 11, 1))[:1024, :1024]
    write_pyramid(tmp_path / "slide.tif", image, 0.5)
    teach_slide([teacher], tmp_path / "slide.tif", None, tmp_path / "set")
    (name,) = (path.stem for path in (tmp_path / "set/images").iterdir())  # glass is left out
    assert name == "slide_0_0"
    field = read_image(tmp_path / f"set/images/{name}.png")
    labels = read_labels(tmp_path / f"set/labels/{name}.png")
    taught = read_taught(tmp_path / f"set/taught/{name}.png")
    assert field.shape == (1024, 1024, 3)
    assert labels.shape == (1024, 1024)
    assert taught.shape == (512, 512)
    assert labels.max() > 100


def test_a_student_sees_the_pixels_that_a_run_shows(
    teacher: StarConvexModel, tmp_path: Path
) -> None:
    """Nothing is resampled where whole pixels of the slide are nearly those of the network."""
    image = np.tile(draw_field(4)[0], (11, 11, 1))[:1024, :1024]
    write_pyramid(tmp_path / "slide.tif", image, 0.499)
    teach_slide([teacher], tmp_path / "slide.tif", None, tmp_path / "set")
    np.testing.assert_array_equal(read_image(tmp_path / "set/images/slide_0_0.png"), image)


def test_the_command(data: Path) -> None:
    shipped = Path("wsi_engine/models/weights/starconvex.safetensors")
    weights = Path(__file__).parents[1] / shipped
    main([str(weights), str(data / "taught"), str(data / "images"), "--mpp", "0.25"])
    assert len(list((data / "taught").iterdir())) == 2


def test_the_command_with_two(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taught_by: list[int] = []
    monkeypatch.setattr(
        "wsi_engine.training.teaching.teach_images",
        lambda teachers, *_: taught_by.append(len(teachers)),
    )
    shipped = str(Path(__file__).parents[1] / "wsi_engine/models/weights/starconvex.safetensors")
    images = str(data / "images")
    main([shipped, str(data / "taught"), images, "--mpp", "0.25", "--with", shipped])
    assert taught_by == [2]


def targets_of(spot: Spot, config: TrainConfig) -> StarTargets:
    """What the network should answer for a crop around a spot."""
    learner = config.learner
    assert isinstance(learner, StarConvexLearner)
    return learner.crop_targets(draw_crop(spot, config, np.random.default_rng(0))[1])


class TestLearning:
    def spot(self, config: TrainConfig, value: int) -> Spot:
        data = load_dataset(config.data[0])
        field = replace(data.fields[0], taught=np.full((24, 24), value, np.uint8))
        return Spot(Source(data, (field,)), field)

    @pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
    def test_the_target_is_a_mixture(self, data: Path, share: float) -> None:
        config = taught_config(data, augment=GENTLE, learning={"taught_share": share})
        crops = [targets_of(self.spot(config, value), config) for value in (0, 255)]
        low, high = (crop.probability for crop in crops)
        difference = np.round(high - low, 5)
        assert set(np.unique(difference)) <= {0, share}  # a corner may lie outside of the image
        assert (difference == share).mean() > 0.9
        np.testing.assert_array_equal(crops[0].inside, crops[1].inside)
        np.testing.assert_array_equal(crops[0].distances, crops[1].distances)

    def test_where_nothing_is_labelled_the_teacher_alone_counts(self, data: Path) -> None:
        config = taught_config(data, augment=GENTLE, learning={"taught_share": 0.5})
        spot = self.spot(config, 51)
        spot.field.labels[:] = UNKNOWN
        targets = targets_of(spot, config)
        seen = targets.probability_weight > 0
        assert seen.mean() > 0.9
        np.testing.assert_allclose(targets.probability[seen], 0.2, atol=1e-6)
        np.testing.assert_allclose(targets.probability_weight[seen], 0.5)

    def test_a_run_learns_from_it(self, data: Path, teacher: StarConvexModel) -> None:
        teach_images([teacher], sorted((data / "images").iterdir()), 0.25, data / "taught")
        assert load_dataset(taught_config(data).data[0]).fields[0].taught is not None
        assert train(taught_config(data)).checkpoint.exists()

    def test_images_without_it_are_as_they_were(self, data: Path) -> None:
        with_folder, without = (
            targets_of(Spot(Source(s, s.fields), s.fields[0]), config).probability
            for config in (taught_config(data), config_of(data))
            for s in [load_dataset(config.data[0])]
        )
        np.testing.assert_array_equal(with_folder, without)

    def test_a_file_that_is_something_else(self, data: Path) -> None:
        Image.fromarray(draw_field(1)[0]).save(data / "taught/a_0.png")
        with pytest.raises(DatasetError, match=r"a_0\.png is no grey 8-bit image"):
            load_dataset(taught_config(data).data[0])
