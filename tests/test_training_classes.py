"""Classes of nuclei: where they come from, how they are learned, how they are counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.support.drawn import disc, export
from wsi_engine.errors import DatasetError, SettingsError
from wsi_engine.evaluation.images import UNKNOWN
from wsi_engine.evaluation.metrics import Counts, overlaps
from wsi_engine.models.learning import Tensors
from wsi_engine.models.starconvex.losses import star_loss
from wsi_engine.training.class_counts import class_counts
from wsi_engine.training.classes import ClassIndex
from wsi_engine.training.config import DataConfig, TrainConfig
from wsi_engine.training.datasets import load_dataset

KNOWN = ("Tumor", "Stroma", "Immune cells")
FILE = Path("a.geojson")


class TestNames:
    @pytest.mark.parametrize(
        ("name", "rename", "expected"),
        [
            ("Tumor", {}, 0),
            ("Immune cells", {}, 2),
            ("", {}, -1),
            ("Tumour", {"Tumour": "Tumor"}, 0),
            ("Artefact", {"Artefact": None}, -1),
            ("Tumor", {"Tumor": "Stroma"}, 1),  # the files' own meaning comes first
            ("Tumor: Positive", {"Tumor: Positive": "Tumor"}, 0),
        ],
    )
    def test_become_indices(self, name: str, rename: dict[str, str | None], expected: int) -> None:
        assert ClassIndex(KNOWN, rename).of([name], FILE).tolist() == [expected]

    @pytest.mark.parametrize(
        ("name", "rename", "message"),
        [
            ("Tumour", {}, r"a\.geojson: the class 'Tumour' .* Tumor, Stroma, .* mean 'Tumor'\?"),
            ("tumor", {}, r"the class 'tumor' .*did you mean 'Tumor'\?"),
            ("Nerve", {}, r"Immune cells: add it to classes, or say in the set's rename"),
            ("T", {"T": "Tumr"}, r"the class 'Tumr' \(renamed from 'T'\) .* mean 'Tumor'\?"),
        ],
    )
    def test_that_are_not_known(self, name: str, rename: dict[str, str], message: str) -> None:
        with pytest.raises(DatasetError, match=message):
            ClassIndex(KNOWN, rename).of(["Tumor", name], FILE)

    @pytest.mark.parametrize("classes", [["Tumor", "Tumor"], ["Tumor", " "]])
    def test_are_given_once(self, tmp_path: Path, classes: list[str]) -> None:
        path = tmp_path / "config.yaml"
        sets = "data: [{name: a, images: a, labels: a, mpp: 1}]"
        path.write_text(f"output: x\nclasses: {classes}\n{sets}")
        with pytest.raises(SettingsError, match=r"classes: .*must be names, each given once"):
            TrainConfig.load(path)


# Two nuclei; the second is cut off by what nobody annotated.
LABELS = np.zeros((40, 60), np.uint16)
LABELS[5:25, 5:25], LABELS[5:25, 35:55], LABELS[:, 50:] = 3, 7, UNKNOWN


class TestLabelImages:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        for name in ("images", "labels", "classes"):
            (tmp_path / name).mkdir()
        Image.new("RGB", (60, 40), "pink").save(tmp_path / "images/a.png")
        np.save(tmp_path / "labels/a.npy", LABELS)
        kinds = np.full((40, 60), 1, np.uint8)
        kinds[:, 30:] = 2
        kinds[5:14, 5:25] = 3  # not quite half of the first nucleus
        Image.fromarray(kinds).save(tmp_path / "classes/a.png")
        return tmp_path

    def classes(self, folder: Path, known: tuple[str, ...] = KNOWN, **changes: object):
        document = {"name": "s", "mpp": 0.25, "classes": folder / "classes", **changes}
        document |= {"images": folder / "images", "labels": folder / "labels"}
        (field,) = load_dataset(DataConfig.model_validate(document), known).fields
        assert len(field.classes) == len(field.peaks) == 8
        return field.classes[[3, 7]].tolist()

    def test_a_nucleus_has_the_class_of_most_of_its_pixels(self, folder: Path) -> None:
        assert self.classes(folder) == [0, 1]

    def test_numbers_may_have_names_of_their_own(self, folder: Path) -> None:
        names = {"class_names": ["immune", "neoplastic", "x"], "rename": {"immune": KNOWN[2],
                 "neoplastic": "Tumor"}}  # fmt: skip
        assert self.classes(folder, **names) == [2, 0]

    def test_0_is_unknown(self, folder: Path) -> None:
        Image.new("L", (60, 40), 0).save(folder / "classes/a.png")
        assert self.classes(folder) == [-1, -1]

    def test_without_classes_to_learn_they_are_not_looked_at(self, folder: Path) -> None:
        (folder / "classes/a.png").unlink()
        assert self.classes(folder, known=()) == [-1, -1]

    def test_geojson_among_them_states_its_own(self, folder: Path) -> None:
        (folder / "labels/a.npy").unlink()
        names = ["Stroma"] * 2 + ["Immune cells"] * 5
        discs = [disc(5 + 8 * k, 20, 3, name) for k, name in enumerate(names)]
        export(folder / "labels/a.geojson", *discs)
        assert self.classes(folder) == [2, 2]

    def refused(self, folder: Path, message: str, **changes: object) -> None:
        with pytest.raises(DatasetError, match=message):
            self.classes(folder, **changes)

    def test_of_another_size(self, folder: Path) -> None:
        Image.new("L", (60, 41), 1).save(folder / "classes/a.png")
        self.refused(folder, r"classes/a\.png has 60 x 41 pixels, its label image 60 x 40")

    def test_a_number_without_a_name(self, folder: Path) -> None:
        Image.new("L", (60, 40), 4).save(folder / "classes/a.png")
        self.refused(folder, r"a\.png holds the class 4, but there are only 3 names: Tumor, ")

    def test_a_name_that_is_not_known(self, folder: Path) -> None:
        names = ["Tumors", "Stroma", "other"]
        self.refused(folder, r"the class 'Tumors' .* mean 'Tumor'\?", class_names=names)

    def test_a_missing_image(self, folder: Path) -> None:
        (folder / "classes/a.png").rename(folder / "classes/b.png")
        self.refused(folder, r"1 of 1 files have no class image of the same name in .*'a'")


def test_names_that_differ_between_files(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for stem, name in (("a", "Tumor"), ("b", "Tumour")):
        Image.new("RGB", (40, 40), "pink").save(tmp_path / f"images/{stem}.png")
        export(tmp_path / f"labels/{stem}.geojson", disc(20, 20, 8, name))
    document = {"name": "s", "images": tmp_path / "images", "labels": tmp_path / "labels"}
    with pytest.raises(DatasetError, match=r"b\.geojson: the class 'Tumour' .* mean 'Tumor'\?"):
        load_dataset(DataConfig.model_validate(document | {"mpp": 0.25}), KNOWN)
    renamed = document | {"mpp": 0.25, "rename": {"Tumour": "Tumor"}}
    data = load_dataset(DataConfig.model_validate(renamed), KNOWN)
    assert [field.classes.tolist() for field in data.fields] == [[-1, 0]] * 2


def targets_of(classes: list[int], probability: list[float]) -> Tensors:
    """A grid of one row whose points all lie inside nuclei."""
    count = len(classes)
    grid = torch.tensor(probability).reshape(1, 1, count)
    rays = torch.ones(count, 8)
    return {
        "probability": grid, "probability_weight": torch.ones_like(grid),
        "points": torch.arange(count), "distances": rays, "distances_weight": rays,
        "classes": torch.tensor(classes),
    }  # fmt: skip


class TestLoss:
    def maps(self, *logits: list[float]) -> torch.Tensor:
        others = torch.zeros(9, len(logits))
        maps = torch.cat([others, torch.tensor(logits).T])
        return maps[None, :, None, :].requires_grad_()

    def test_is_a_cross_entropy_weighted_by_the_object_probability(self) -> None:
        loss = star_loss(self.maps([2.0, 0.0], [0.0, 0.0]), targets_of([0, 1], [0.8, 0.4]))
        each = np.log(1 + np.exp(-2)), np.log(2)
        assert loss.terms["classification"].item() == pytest.approx(
            (0.8 * each[0] + 0.4 * each[1]) / 1.2, abs=1e-6
        )
        assert loss.parts()["loss"] == pytest.approx(
            sum(
                share * loss.terms[name].item()
                for name, share in {
                    "probability": 1,
                    "distance": 0.1,
                    "overlap": 0.5,
                    "classification": 0.5,
                }.items()
            )
        )

    def test_nuclei_of_unknown_class_teach_shape_only(self) -> None:
        maps = self.maps([2.0, 0.0], [0.0, 0.0])
        star_loss(maps, targets_of([-1, 1], [1.0, 1.0])).total.backward()
        assert maps.grad is not None
        assert (maps.grad[0, 9:, 0, 0] == 0).all()
        assert (maps.grad[0, 9:, 0, 1] != 0).all()
        assert (maps.grad[0, 1:9] != 0).all()

    def test_a_crop_of_unknown_classes_alone_gives_no_nan(self) -> None:
        loss = star_loss(self.maps([2.0, 0.0]), targets_of([-1], [1.0]))
        assert loss.terms["classification"].item() == 0

    def test_no_classes(self) -> None:
        loss = star_loss(self.maps([], []), targets_of([-1, -1], [1.0, 1.0]))
        assert "classification" not in loss.terms
        assert "classification" not in loss.parts()


@pytest.mark.parametrize(
    ("true", "predicted", "expected"),
    [
        ([0, 1], [0, 1], [Counts(1, 0, 0), Counts(1, 0, 0)]),
        ([0, 1], [0, 0], [Counts(1, 1, 0), Counts(0, 0, 1)]),  # the second has the wrong class
        ([0, -1], [0, 1], [Counts(1, 0, 0), Counts(0, 0, 0)]),  # what it is, nobody knows
        ([0, 1], [0, -1], [Counts(1, 0, 0), Counts(0, 0, 1)]),
    ],
)
def test_matches_count_by_class(true: list[int], predicted: list[int], expected: list[Counts]):
    image = np.zeros((10, 30), np.uint16)
    image[2:8, 2:8], image[2:8, 12:18] = 1, 2
    pairs = overlaps(image, image)
    assert class_counts(pairs, np.array(true), np.array(predicted), 2) == expected


def test_nuclei_missed_and_invented_count_for_their_class() -> None:
    truth, found = np.zeros((10, 30), np.uint16), np.zeros((10, 30), np.uint16)
    truth[2:8, 2:8], found[2:8, 12:18] = 1, 1
    counts = class_counts(overlaps(truth, found), np.array([1]), np.array([0]), 2)
    assert counts == [Counts(0, 1, 0), Counts(0, 0, 1)]
