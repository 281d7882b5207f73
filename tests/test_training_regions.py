"""Learning regions from annotations: what is learnt from, that it is repeatable, how good it is."""

from __future__ import annotations

import builtins
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shapely

import wsi_engine
from tests.support.objects_by_hand import item, write_file
from tests.support.slides import CMU, real_slide
from tests.support.two_tissues import TwoTissues, write_two_tissues
from wsi_engine.cli import main
from wsi_engine.errors import TrainingError
from wsi_engine.installing import install_command
from wsi_engine.models.regions.labelling import Labelling, Tidying
from wsi_engine.models.regions.loading import load_regions_model
from wsi_engine.models.regions.pixel_classifier import read_pixel_classifier
from wsi_engine.slide.grid_reader import GridReader, make_grid
from wsi_engine.training import regions
from wsi_engine.training.regions import RegionsTraining, train_regions

QUICK = RegionsTraining(trees=8, most_pixels_per_class=1500)
CMU_ANNOTATIONS = Path(__file__).parent / "data" / "cmu_regions.geojson"


@pytest.fixture(scope="module")
def tissues(tmp_path_factory) -> TwoTissues:
    return write_two_tissues(tmp_path_factory.mktemp("tissues") / "slide.tif", seed=1)


@pytest.fixture(scope="module")
def annotations(tissues, tmp_path_factory) -> Path:
    return tissues.drawn(tmp_path_factory.mktemp("drawn") / "drawn.geojson")


@pytest.fixture(scope="module")
def learnt(tissues, annotations, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "glands.safetensors"
    return path, train_regions([(tissues.path, annotations)], path, QUICK)


def test_the_classes_are_those_that_were_drawn(learnt, annotations):
    path, drawn = learnt
    model = read_pixel_classifier(path)
    assert model.spec.classes == tuple(drawn) == ("Gland", "Ignore*", "Stroma")
    assert model.spec.regions == ("Gland", "Stroma")
    assert model.spec.mpp == 2.0
    objects = wsi_engine.read_objects(annotations)
    for name, each in drawn.items():
        shapes = [o.geometry for o in objects if o.class_name == name]
        assert each.annotations == len(shapes)
        area_mm2 = shapely.union_all(shapes).area * 0.5**2 / 1e6
        assert each.area_mm2 == pytest.approx(area_mm2, rel=0.03)


def test_it_says_how_well_the_classes_are_told_apart(learnt):
    _, drawn = learnt
    assert drawn["Ignore*"].iou > 0.8
    assert all(0.5 < each.iou < 1 for each in drawn.values())


def test_the_file_says_what_it_was_learnt_from_without_names(learnt, tissues):
    path, _ = learnt
    training = read_pixel_classifier(path).training
    assert training["settings"]["trees"] == 8
    assert training["versions"]["scikit-learn"]
    assert len(training["digest"]) == 64
    assert tissues.path.name.encode() not in path.read_bytes()


def test_the_same_seed_gives_the_same_file_whatever_the_blocks(
    tissues, annotations, learnt, tmp_path, monkeypatch
):
    path, _ = learnt
    again, other = tmp_path / "again", tmp_path / "other"
    pairs = [(tissues.path, annotations)]
    train_regions(pairs, again, QUICK)
    assert again.read_bytes() == path.read_bytes()
    train_regions(pairs, other, replace(QUICK, seed=1))
    assert other.read_bytes() != path.read_bytes()


def test_features_are_learnt_as_they_are_seen_later(tissues, annotations, monkeypatch):
    """Blocks do not show in them: all pixels that are drawn on come with the same features."""
    gathered = []

    class EnoughError(Exception):
        pass

    def look(x, y, *_):
        gathered.append((x[np.lexsort(x.T)], np.bincount(y)))
        raise EnoughError

    monkeypatch.setattr(regions, "_held_out", look)
    every = replace(QUICK, most_pixels_per_class=10**9)
    for side in (512, 100):
        monkeypatch.setattr(regions, "BLOCK_PX", side)
        with pytest.raises(EnoughError):
            train_regions([(tissues.path, annotations)], Path("unwritten"), every)
    assert np.array_equal(gathered[0][1], gathered[1][1])
    assert np.array_equal(gathered[0][0], gathered[1][0])


def test_nothing_is_learnt_from_what_qupath_does_not_learn_from(
    tissues, annotations, learnt, tmp_path, caplog
):
    path, _ = learnt
    objects = [*wsi_engine.read_objects(annotations)]
    everything = tissues.field
    locked = item(everything, 101, "Gland", object_type="annotation")
    locked.is_locked = True
    wsi_engine.write_objects(
        tmp_path / "more.geojson",
        [
            *objects,
            locked,
            item(everything, 102, None, object_type="annotation"),
            item(everything, 103, "Region*", object_type="annotation"),
            item(everything, 104, "Gland", object_type="detection"),
        ],
    )
    train_regions([(tissues.path, tmp_path / "more.geojson")], tmp_path / "again", QUICK)
    models = [read_pixel_classifier(one) for one in (path, tmp_path / "again")]
    for name, array in models[0].forest.arrays().items():
        assert np.array_equal(array, models[1].forest.arrays()[name]), name
    assert "3 of" in caplog.text
    assert "nothing is learnt from them" in caplog.text


# What cannot be


def box(k: int, class_name: str | None, left: float = 200):
    return item(shapely.box(left, 200, left + 100, 300), k, class_name, object_type="annotation")


@pytest.mark.parametrize(
    ("objects", "why"),
    [
        ([box(1, "Gland")], "at least two classes are needed, there is only Gland"),
        ([box(1, None)], "at least two classes are needed, there are none"),
        ([box(1, "A*"), box(2, "B*")], "at least two classes are needed"),
        ([box(1, "Gland"), box(2, "Stroma", 1e6)], "no pixel .* of class 'Stroma'"),
    ],
    ids=str,
)
def test_too_little_is_one_sentence(tissues, tmp_path, objects, why):
    drawn = write_file(tmp_path / "drawn.geojson", objects)
    with pytest.raises(TrainingError, match=why):
        train_regions([(tissues.path, drawn)], tmp_path / "model", QUICK)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    "wrong", [{"mpp": 0.0}, {"mpp": 1e3}, {"sigma_max_px": 0.5}, {"trees": 0}], ids=str
)
def test_settings_that_cannot_be_are_one_sentence(tissues, annotations, tmp_path, wrong):
    with pytest.raises(TrainingError):
        train_regions([(tissues.path, annotations)], tmp_path / "model", replace(QUICK, **wrong))


def test_without_scikit_learn_there_is_the_line_that_installs_it(
    tissues, annotations, tmp_path, monkeypatch
):
    real = builtins.__import__

    def without(name, *rest):
        if name.partition(".")[0] == "sklearn":
            raise ImportError("No module named 'sklearn'")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(TrainingError, match=re.escape(install_command("regions"))):
        train_regions([(tissues.path, annotations)], tmp_path / "model", QUICK)


def test_a_file_that_stands_alone_is_one_sentence(tissues, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["regions-train", str(tissues.path), "-o", str(tmp_path / "model")])
    assert "slide.tif stands alone" in capsys.readouterr().err


# On a real slide, drawn by hand


def test_epithelium_of_a_real_slide_is_found_where_it_was_not_learnt_from(tmp_path, capsys):
    slide = real_slide(CMU)
    objects = wsi_engine.read_objects(CMU_ANNOTATIONS)
    drawn = tmp_path / "drawn.geojson"
    wsi_engine.write_objects(drawn, [o for o in objects if o.name != "held out"])
    model = tmp_path / "skin.safetensors"
    with pytest.raises(SystemExit) as end:
        main(["regions-train", str(slide), str(drawn), "-o", str(model), "--trees", "20"])
    assert not end.value.code
    assert "IoU where it was left out" in capsys.readouterr().out
    held_out = [o for o in objects if o.name == "held out"]
    known = shapely.union_all([o.geometry for o in held_out])
    with wsi_engine.open_slide(slide) as opened:
        grid = make_grid(opened.info, 2.0)
        area = shapely.transform(known.buffer(60), grid.from_qupath)
        labelling = Labelling(
            load_regions_model(str(model)),
            GridReader(opened, grid).read,
            area,
            grid.extent,
            Tidying(8, 500, 500),
        )
        found = [(name, shapely.transform(p, grid.to_qupath)) for name, p in labelling.regions(2)]
    for name, iou in (("Epithelium", 0.8), ("Stroma", 0.9)):
        there = shapely.union_all([o.geometry for o in held_out if o.class_name == name])
        seen = shapely.union_all([p for class_name, p in found if class_name == name]) & known
        assert (seen & there).area / (seen | there).area > iou, name
        assert 0.9 < seen.area / there.area < 1.1, name
