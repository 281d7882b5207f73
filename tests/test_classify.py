"""`wsi-engine classify`: classes from examples, as data, for every nucleus."""

from __future__ import annotations

import copy
import gzip
import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import wsi_engine
from wsi_engine.cli import main
from wsi_engine.engine.apply import apply_corrections
from wsi_engine.engine.classify import classify
from wsi_engine.errors import EngineError, ModelError, ResultError, SettingsError, TrainingError
from wsi_engine.models.objects.classifier import LearntOn, ObjectClassifier
from wsi_engine.models.objects.file import classifier_bytes, read_classifier, write_classifier
from wsi_engine.qupath.objects import PathClass, PathObject
from wsi_engine.qupath.reader import read_objects
from wsi_engine.qupath.roi import ROI
from wsi_engine.qupath.writer import write_objects
from wsi_engine.regions.cohort import build_cohort
from wsi_engine.results.finished import SlideResult
from wsi_engine.results.verify import problems_of
from wsi_engine.sample import SampleTruth
from wsi_engine.training.classifier_rules import ClassifierTraining, fit
from wsi_engine.training.object_classifier import Trained, train_classifier
from wsi_engine.training.object_examples import read_examples

SETTINGS: dict[str, Any] = {"model": "watershed", "tile_size": 512}
AREA = "Area µm^2"
IN_CELL = f"Nucleus: {AREA}"
ON_H_AND_E = LearntOn(("H&E",), (0.5, 0.5))
LARGE, SMALL = "Tumor", "Lymphocyte"
KINDS = ("forest", "boosting", "logistic")


@pytest.fixture(scope="module")
def engine_result(sample: SampleTruth, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = wsi_engine.run(sample.slide_path, tmp_path_factory.mktemp("out"), **SETTINGS).folder
    assert folder is not None
    return folder


@pytest.fixture
def result(engine_result: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(engine_result, tmp_path / "out" / engine_result.name))


def nuclei_of(folder: Path) -> list[PathObject]:
    return read_objects(folder / "nuclei.geojson.gz")


def by_size(item: PathObject, boundary: float) -> str:
    return LARGE if item.measurements[AREA] > boundary else SMALL


def boundary_of(folder: Path) -> float:
    return float(np.median(SlideResult(folder).column(AREA)))


def write_examples(folder: Path, path: Path, every: int = 3) -> Path:
    """Give every so manieth nucleus a class by its size, and write all of them."""
    nuclei, boundary = nuclei_of(folder), boundary_of(folder)
    for item in nuclei[::every]:
        item.classification = PathClass.of(by_size(item, boundary))
    write_objects(path, nuclei)
    return path


@pytest.fixture
def examples(result: Path, tmp_path: Path) -> Path:
    return write_examples(result, tmp_path / "corrected.geojson")


@pytest.fixture(scope="module")
def learnt(
    engine_result: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Trained]:
    examples = write_examples(engine_result, tmp_path_factory.mktemp("given") / "some.geojson")
    found: dict[str, Trained] = {}

    def learn(kind: str) -> Trained:
        if kind not in found:
            training = ClassifierTraining(kind=kind, trees=20)  # type: ignore[arg-type]
            found[kind] = train_classifier([(engine_result, [examples])], training)
        return found[kind]

    return learn


# Examples


def annotation(geometry: Any, name: str, *, locked: bool = False) -> PathObject:
    return PathObject(
        object_type="annotation",
        roi=ROI(geometry),
        classification=PathClass.of(name),
        is_locked=locked,
    )


def test_a_nucleus_with_a_class_that_nobody_gave_but_a_person_is_an_example(result, examples):
    found = read_examples([examples], SlideResult(result))
    nuclei = nuclei_of(result)
    assert len(found.rows) == len(nuclei[::3])
    column = SlideResult(result).column(AREA)[found.rows]
    assert list(found.classes) == [LARGE if a > boundary_of(result) else SMALL for a in column]
    assert found.colours[LARGE] == PathClass.of(LARGE).colour
    assert len(set(found.groups)) == len(found.rows)


def test_points_and_areas_give_their_class_to_the_nuclei_they_lie_on(result, tmp_path):
    from shapely import MultiPoint, Point, box

    nuclei = nuclei_of(result)
    inside = [item.geometry.representative_point() for item in nuclei[:3]]
    far = Point(-500, -500)
    around = box(*nuclei[5].geometry.bounds)
    drawn = [
        annotation(MultiPoint([*inside, far]), LARGE),
        annotation(around, SMALL),
        annotation(box(0, 0, 1e6, 1e6), "Region*"),
        annotation(box(0, 0, 1e6, 1e6), "Tissue", locked=True),
        annotation(box(0, 0, 1e6, 1e6), "Ignore*"),
    ]
    write_objects(tmp_path / "drawn.geojson", drawn)
    found = read_examples([tmp_path / "drawn.geojson"], SlideResult(result))
    ids = SlideResult(result).table.column("id").to_pylist()
    given = {ids[row]: name for row, name in zip(found.rows, found.classes, strict=True)}
    assert [given.get(item.id) for item in nuclei[:3]] == [LARGE] * 3
    assert given[nuclei[5].id] == SMALL
    assert Counter(given.values())[LARGE] == 3
    assert found.unmatched == 1


def test_what_says_it_of_fewer_nuclei_wins_and_two_classes_are_none(result, tmp_path):
    from shapely import box

    nuclei = nuclei_of(result)
    point = nuclei[0].geometry.representative_point()
    other = nuclei[1].geometry.representative_point()
    drawn = [
        annotation(box(*nuclei[0].geometry.bounds), SMALL),
        annotation(point, LARGE),
        annotation(other, SMALL),
        annotation(other, LARGE),
    ]
    write_objects(tmp_path / "drawn.geojson", drawn)
    result_ids = SlideResult(result).table.column("id").to_pylist()
    found = read_examples([tmp_path / "drawn.geojson"], SlideResult(result))
    given = dict(zip([result_ids[row] for row in found.rows], found.classes, strict=True))
    assert given[nuclei[0].id] == LARGE
    assert nuclei[1].id not in given
    assert found.contradicted == 1


def test_examples_with_new_ids_are_known_by_their_place(result, examples, tmp_path):
    renamed = read_objects(examples)
    for item in renamed:
        item.id = None
    write_objects(tmp_path / "renamed.geojson", renamed)
    before = read_examples([examples], SlideResult(result))
    after = read_examples([tmp_path / "renamed.geojson"], SlideResult(result))
    assert list(after.rows) == list(before.rows)
    assert after.classes == before.classes


def test_the_same_examples_count_before_and_after_a_result_was_classified(result, examples, learnt):
    before = read_examples([examples], SlideResult(result))
    classify(result, learnt("forest").classifier)
    after = read_examples([examples], SlideResult(result))
    assert (list(after.rows), after.classes) == (list(before.rows), before.classes)


def test_of_a_classified_result_only_what_a_person_changed_or_locked_is_an_example(
    result, learnt, tmp_path
):
    classify(result, learnt("forest").classifier)
    nuclei = nuclei_of(result)
    write_objects(tmp_path / "as_it_was.geojson", nuclei)
    assert len(read_examples([tmp_path / "as_it_was.geojson"], SlideResult(result)).rows) == 0
    changed = SMALL if nuclei[0].class_name == LARGE else LARGE
    nuclei[0].classification = PathClass.of(changed)
    nuclei[1].is_locked = True
    write_objects(tmp_path / "next.geojson", nuclei)
    found = read_examples([tmp_path / "next.geojson"], SlideResult(result))
    ids = SlideResult(result).table.column("id").to_pylist()
    given = dict(zip([ids[row] for row in found.rows], found.classes, strict=True))
    assert given == {nuclei[0].id: changed, nuclei[1].id: nuclei[1].class_name}


# Learning


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_measurement_tells_apart_is_learnt(engine_result, learnt, kind):
    trained = learnt(kind)
    assert trained.classifier.classes == (SMALL, LARGE)
    assert trained.folds == "annotations"
    assert trained.confusion is not None
    assert trained.confusion.sum(axis=1).tolist() == [trained.examples[c] for c in (SMALL, LARGE)]
    assert min(trained.f1.values()) > 0.85
    shares = dict(trained.informative)
    assert sum(shares.values()) == pytest.approx(1)
    # All that go with the size tell it; no measurement of colour does.
    assert "µm" in trained.informative[0][0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("classes", [2, 3])
def test_probabilities_are_those_of_scikit_learn(kind, classes, monkeypatch):
    """The arrays of the file say what the library's own object says."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 5)).astype(np.float32)
    y = np.digitize(x[:, 0] + 0.3 * rng.normal(size=120), [-0.3, 0.5][: classes - 1])
    grown: list[Any] = []
    for owner in (
        "sklearn.ensemble.RandomForestClassifier",
        "sklearn.ensemble.GradientBoostingClassifier",
        "sklearn.linear_model.LogisticRegression",
    ):
        package, _, name = owner.rpartition(".")
        own = getattr(import_module(package), name).fit
        monkeypatch.setattr(
            f"{owner}.fit",
            lambda self, *a, _fit=own, **k: grown.append(self) or _fit(self, *a, **k),
        )
    training = ClassifierTraining(kind=kind, trees=7)  # type: ignore[arg-type]
    rule, medians, _ = fit(x, y.astype(np.int64), training)
    names = tuple(map(str, range(5)))
    classifier = ObjectClassifier(
        kind, names[:classes], ((0, 0, 0),) * classes, names, medians, rule, ON_H_AND_E
    )
    shown = x if kind != "logistic" else (x - x.mean(axis=0, dtype=float)) / x.std(0, dtype=float)
    expected = grown[0].predict_proba(shown)
    assert np.abs(classifier.probabilities(x) - expected).max() < 1e-6
    assert len(np.unique(expected.argmax(axis=1))) == classes


def test_the_same_seed_gives_the_same_file(result, examples):
    training = ClassifierTraining(trees=5)
    first, second = (train_classifier([(result, [examples])], training) for _ in range(2))
    assert classifier_bytes(first.classifier) == classifier_bytes(second.classifier)
    other = train_classifier([(result, [examples])], ClassifierTraining(trees=5, seed=1))
    assert classifier_bytes(first.classifier) != classifier_bytes(other.classifier)


def test_the_groups_of_measurements_can_be_chosen(result, examples):
    training = ClassifierTraining(trees=5, features=("texture",))
    looked_at = train_classifier([(result, [examples])], training).classifier.measurements
    assert looked_at
    assert AREA not in looked_at
    with pytest.raises(SettingsError, match="no measurements 'smell'; it has"):
        train_classifier([(result, [examples])], ClassifierTraining(features=("smell",)))


def test_slides_are_left_out_whole_where_every_class_is_on_two(result, examples, tmp_path):
    twin = Path(shutil.copytree(result, tmp_path / "twin" / "sample"))
    training = ClassifierTraining(trees=5)
    trained = train_classifier([(result, [examples]), (twin, [examples])], training)
    assert trained.folds == "slides"
    # Each is learnt from the same nuclei on the other, so nothing is confused but by chance.
    assert min(trained.f1.values()) > 0.85
    assert sum(trained.examples.values()) == trained.confusion.sum()


def test_a_class_from_one_area_cannot_be_judged(result, tmp_path):
    from shapely import box

    nuclei = nuclei_of(result)
    xs = np.array([item.geometry.centroid.x for item in nuclei])
    middle = float(np.median(xs))
    drawn = [annotation(box(0, 0, middle, 1e6), LARGE), annotation(box(middle, 0, 1e6, 1e6), SMALL)]
    write_objects(tmp_path / "halves.geojson", drawn)
    trained = train_classifier([(result, [tmp_path / "halves.geojson"])],
                               ClassifierTraining(trees=5))  # fmt: skip
    assert trained.folds is None
    assert trained.f1 is None
    assert sum(trained.examples.values()) == len(nuclei)


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        ([], "examples of at least two classes are needed, there are none"),
        ([LARGE, LARGE], f"there is only {LARGE}"),
        ([LARGE, LARGE, SMALL], f"class '{SMALL}' has only one example"),
    ],
)
def test_too_few_examples_are_said_to_be_so(result, tmp_path, classes, said):
    nuclei = nuclei_of(result)
    for item, name in zip(nuclei, classes, strict=False):
        item.classification = PathClass.of(name)
    write_objects(tmp_path / "few.geojson", nuclei)
    with pytest.raises(TrainingError, match=said):
        train_classifier([(result, [tmp_path / "few.geojson"])])


# The file


@pytest.mark.parametrize("kind", KINDS)
def test_a_classifier_is_read_as_it_was_written(learnt, tmp_path, kind):
    classifier = learnt(kind).classifier
    write_classifier(tmp_path / "it.json", classifier)
    again = read_classifier(tmp_path / "it.json")
    values = np.random.default_rng(0).normal(50, 50, (100, len(classifier.measurements)))
    values[0, :3] = np.nan
    values[1] = np.nan
    some = values.astype(np.float32)
    assert np.array_equal(again.probabilities(some), classifier.probabilities(some), equal_nan=True)
    assert np.isfinite(again.probabilities(some)[0]).all()
    assert np.isnan(again.probabilities(some)[1]).all()
    assert classifier_bytes(again) == classifier_bytes(classifier)


Damage = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    "damage",
    [
        lambda told: told.update(what="a network"),
        lambda told: told.update(version=2),
        lambda told: told.update(kind="pickle"),
        lambda told: told.pop("classes"),
        lambda told: told.update(classes=[]),
        lambda told: told["classes"].append(told["classes"][0]),
        lambda told: told["classes"][0].update(name=7),
        lambda told: told["classes"][0].update(name=""),
        lambda told: told["classes"][0].update(name="Tumor:Positive"),
        lambda told: told["classes"][0].update(color=[0, 0, 256]),
        lambda told: told["classes"][0].update(color=[0, 0]),
        lambda told: told["measurements"][0].update(median=None),
        lambda told: told["measurements"][0].update(median=1e300),
        lambda told: told["measurements"][0].update(median="large"),
        lambda told: told["measurements"].pop(),
        lambda told: told.update(measurements=[{"name": "x" * 501, "median": 0}]),
        lambda told: told.update(training=3),
        lambda told: told.pop("learnt_on"),
        lambda told: told["learnt_on"].update(mpp=[0.5, 0.25]),
        lambda told: told["learnt_on"].update(mpp=[0, 0.25]),
        lambda told: told["learnt_on"].update(stains=[]),
        lambda told: told["learnt_on"].update(stains=["H&E", 3]),
        lambda told: told["trees"].pop("left"),
        lambda told: told["trees"]["left"].pop(),
        lambda told: told["trees"]["left"].__setitem__(0, 10**6),
        lambda told: told["trees"]["left"].__setitem__(0, 10**30),
        lambda told: told["trees"]["right"].__setitem__(0, 0),
        lambda told: told["trees"]["feature"].__setitem__(0, 10**6),
        lambda told: told["trees"]["probabilities"].__setitem__(0, [1.5, 0]),
        lambda told: told["trees"]["probabilities"].__setitem__(0, [1.0]),
        lambda told: told["trees"].update(roots=[0]),
    ],
)
def test_a_file_that_is_no_classifier_is_refused_in_one_sentence(learnt, tmp_path, damage: Damage):
    told = json.loads(classifier_bytes(learnt("forest").classifier))
    damage(told)
    (tmp_path / "it.json").write_text(json.dumps(told))
    with pytest.raises(ModelError, match=r"it\.json holds no object classifier \(.+\): give"):
        read_classifier(tmp_path / "it.json")


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b"null", b"{", b"[" * 100_000, b"\x80\x04cos\nsystem\n", b'"what"']
)
def test_other_bytes_are_refused_too(tmp_path, raw):
    (tmp_path / "it.json").write_bytes(raw)
    with pytest.raises(ModelError, match="holds no object classifier"):
        read_classifier(tmp_path / "it.json")


def test_a_file_that_is_too_large_is_not_read(learnt, tmp_path, monkeypatch):
    write_classifier(tmp_path / "it.json", learnt("forest").classifier)
    monkeypatch.setattr("wsi_engine.models.objects.file.MOST_BYTES", 1000)
    with pytest.raises(ModelError, match="at most 1,000 are read"):
        read_classifier(tmp_path / "it.json")
    with pytest.raises(ModelError, match=r"absent\.json: no such file"):
        read_classifier(tmp_path / "absent.json")


# Classifying a result


def classes_by_id(folder: Path) -> dict[str, str | None]:
    table = pq.read_table(folder / "nuclei.parquet", columns=["id", "class"])
    return dict(zip(table["id"].to_pylist(), table["class"].to_pylist(), strict=True))


def test_every_nucleus_gets_its_class_and_probabilities_everywhere(result, learnt):
    classifier, before = learnt("forest").classifier, nuclei_of(result)
    classified = classify(result, classifier)
    table = pq.read_table(result / "nuclei.parquet")
    values = np.column_stack([table[name].to_numpy() for name in classifier.measurements])
    said = classifier.probabilities(values)
    expected = [classifier.classes[k] for k in said.argmax(axis=1)]
    assert table["class"].to_pylist() == expected
    assert Counter(expected) == classified.counts
    boundary = boundary_of(result)
    right = [by_size(item, boundary) == classes_by_id(result)[item.id] for item in before]
    assert np.mean(right) > 0.85
    for item, row, name in zip(nuclei_of(result), said, expected, strict=True):
        assert str(item.classification) == name
        assert item.classification.colour == PathClass.of(name).colour
        for k, each in enumerate(classifier.classes):
            assert item.measurements[f"Probability: {each}"] == pytest.approx(row[k], abs=1e-6)
    for k, each in enumerate(classifier.classes):
        assert np.array_equal(table[f"probability: {each}"].to_numpy(), said[:, k])


def test_nothing_else_of_the_nuclei_changes(result, learnt):
    before = pq.read_table(result / "nuclei.parquet")
    classify(result, learnt("forest").classifier)
    after = pq.read_table(result / "nuclei.parquet")
    same = [name for name in before.column_names if name != "class"]
    assert after.select(same).equals(before.select(same))


def test_cells_are_examples_and_stay_cells(sample, tmp_path):
    folder = wsi_engine.run(sample.slide_path, tmp_path, **SETTINGS, cells=5).folder
    before, boundary = nuclei_of(folder), boundary_of(folder)
    marked = copy.deepcopy(before)
    for item in marked[::3]:
        item.classification = PathClass.of(
            LARGE if item.measurements[IN_CELL] > boundary else SMALL
        )
    write_objects(tmp_path / "corrected.geojson", marked)
    training = ClassifierTraining(trees=20)
    trained = train_classifier([(folder, [tmp_path / "corrected.geojson"])], training)
    assert sum(trained.examples.values()) == len(marked[::3])
    classify(folder, trained.classifier)
    for old, new in zip(before, nuclei_of(folder), strict=True):
        assert new.object_type == "cell"
        assert new.roi == old.roi
        assert new.nucleus == old.nucleus
        assert old.measurements.items() <= new.measurements.items()


@pytest.mark.parametrize(
    ("learnt_on", "said"),
    [
        (LearntOn(("H-DAB",), (0.5, 0.5)), "from slides measured for H-DAB, and this one"),
        (LearntOn(("H-DAB", "Masson"), (0.25, 0.5)), "for H-DAB and Masson, and this one"),
        (LearntOn(("H&E",), (0.2, 0.25)), "from pixels of 0.2 to 0.25 µm"),
        (LearntOn(("H&E", "H-DAB"), (1.0, 1.0)), "from pixels of 1 µm"),
        (LearntOn(("H&E", "H-DAB"), (0.25, 1.0)), None),
    ],
)
def test_a_slide_of_another_kind_than_those_of_the_examples_is_told(
    result, learnt, tmp_path, learnt_on, said, capsys
):
    same = learnt("forest").classifier
    write_classifier(tmp_path / "other.json", replace(same, learnt_on=learnt_on))
    assert classify(result, same).warnings == ()
    before = SlideResult(result).record.warnings
    for _ in range(2):
        command("classify", result, "--classifier", tmp_path / "other.json")
        added = SlideResult(result).record.warnings[len(before) :]
        assert [said in text for text in added] == ([] if said is None else [True])
        assert said is None or said in " ".join(capsys.readouterr().err.split())
    classify(result, same)
    assert SlideResult(result).record.warnings == before


def test_the_result_is_whole_and_a_run_finds_it_finished(result, sample, learnt):
    classify(result, learnt("forest").classifier)
    assert list(problems_of(result)) == []
    record = SlideResult(result).record
    assert record.classifier.kind == "forest"
    assert record.classifier.model_classes == ()
    assert record.model.classes == (SMALL, LARGE)
    assert {"classifier.json", "doubtful.geojson"} <= record.files.keys()
    again = wsi_engine.run(sample.slide_path, result.parent, **SETTINGS)
    assert again.is_earlier
    assert set(classes_by_id(result).values()) == {SMALL, LARGE}


def test_a_run_from_the_start_has_no_classifier_any_more(result, sample, learnt):
    classify(result, learnt("forest").classifier)
    record = wsi_engine.run(sample.slide_path, result.parent, force=True, **SETTINGS).record
    assert record.classifier is None
    assert "classifier" not in json.loads((result / "run.json").read_text())
    assert not (result / "classifier.json").exists()
    assert list(problems_of(result)) == []


def test_classifying_twice_is_classifying_once(result, learnt):
    classify(result, learnt("logistic").classifier)
    classify(result, learnt("forest").classifier)
    files = ("nuclei.parquet", "nuclei.geojson.gz", "classifier.json", "doubtful.geojson")
    first = {name: (result / name).read_bytes() for name in files}
    classify(result, read_classifier(result / "classifier.json"))
    assert {name: (result / name).read_bytes() for name in files} == first
    assert SlideResult(result).record.classifier.model_classes == ()


def test_regions_and_cohort_count_the_classes(result, learnt):
    counts = classify(result, learnt("forest").classifier).counts
    (slide,) = (
        row
        for row in pq.read_table(result / "regions.parquet").to_pylist()
        if row["kind"] == "slide"
    )
    assert {name: slide[f"Nuclei: {name}"] for name in (SMALL, LARGE)} == counts
    table = build_cohort(result.parent).table
    assert f"Nuclei: {LARGE}" in table.column_names


def test_doubtful_nuclei_are_points_on_them(result, learnt):
    classified = classify(result, learnt("forest").classifier)
    points = read_objects(result / "doubtful.geojson")
    assert 0 < len(points) <= 50
    margins = [doubt.margin for doubt in classified.doubtful]
    assert margins == sorted(margins)
    table = pq.read_table(result / "nuclei.parquet")
    gap = np.abs(
        table[f"probability: {LARGE}"].to_numpy() - table[f"probability: {SMALL}"].to_numpy()
    )
    assert margins == pytest.approx(np.sort(gap)[: len(margins)].tolist())
    assert all(point.classification is None for point in points)
    assert len({point.id for point in points}) == len(points)
    assert {point.id for point in points}.isdisjoint(item.id for item in nuclei_of(result))
    assert len(read_examples([result / "doubtful.geojson"], SlideResult(result)).rows) == 0


def test_a_class_that_a_person_gave_stays(result, learnt, tmp_path):
    nuclei = nuclei_of(result)
    boundary = boundary_of(result)
    wrong = SMALL if by_size(nuclei[0], boundary) == LARGE else LARGE
    nuclei[0].classification = PathClass.of(wrong)
    nuclei[1].classification = PathClass.of("Mitosis")
    write_objects(tmp_path / "corrected.geojson", nuclei)
    apply_corrections(tmp_path / "corrected.geojson", result)
    classify(result, learnt("forest").classifier)
    given = classes_by_id(result)
    assert (given[nuclei[0].id], given[nuclei[1].id]) == (wrong, "Mitosis")
    assert list(problems_of(result)) == []
    # And later corrections leave the classes and probabilities of all others as they are.
    later = nuclei_of(result)
    write_objects(tmp_path / "fewer.geojson", later[:-1])
    apply_corrections(tmp_path / "fewer.geojson", result)
    assert classes_by_id(result) == {i: c for i, c in given.items() if i != later[-1].id}
    assert any("Probability: Tumor" in item.measurements for item in nuclei_of(result))


def test_a_nucleus_that_was_redrawn_before_it_was_classified_keeps_its_class(
    result, examples, tmp_path
):
    training = ClassifierTraining(kind="logistic", features=("shape",))
    classifier = train_classifier([(result, [examples])], training).classifier
    nuclei = nuclei_of(result)
    nuclei[0].roi = ROI(nuclei[0].geometry.buffer(-0.5))
    write_objects(tmp_path / "redrawn.geojson", nuclei)
    apply_corrections(tmp_path / "redrawn.geojson", result)
    classify(result, classifier)
    before = classes_by_id(result)
    assert before[nuclei[0].id] is not None
    write_objects(tmp_path / "fewer.geojson", nuclei_of(result)[:-2])
    apply_corrections(tmp_path / "fewer.geojson", result)
    after = classes_by_id(result)
    assert len(after) == len(before) - 2
    assert after == {identity: before[identity] for identity in after}
    assert SlideResult(result).record.classifier.kind == "logistic"
    assert list(problems_of(result)) == []


def test_a_nucleus_of_which_only_the_outline_is_measured_gets_no_class_from_colours(
    result, learnt, tmp_path
):
    nuclei = nuclei_of(result)
    nuclei[0].roi = ROI(nuclei[0].geometry.buffer(-0.5))
    write_objects(tmp_path / "redrawn.geojson", nuclei)
    apply_corrections(tmp_path / "redrawn.geojson", result)
    classified = classify(result, learnt("forest").classifier)
    assert classified.counts[None] == 1
    assert classes_by_id(result)[nuclei[0].id] is None
    (item,) = (item for item in nuclei_of(result) if item.id == nuclei[0].id)
    assert not any(name.startswith("Probability") for name in item.measurements)


def test_nuclei_of_another_program_are_classified_too(result, sample, learnt, tmp_path):
    measured = wsi_engine.measure(
        sample.slide_path, result / "nuclei.geojson.gz", tmp_path / "measured"
    ).folder
    classify(measured, learnt("forest").classifier)
    assert set(classes_by_id(measured).values()) == {SMALL, LARGE}
    sources = pq.read_table(measured / "nuclei.parquet")["source"].to_pylist()
    assert set(sources) == {"other"}
    assert list(problems_of(measured)) == []


def test_a_result_that_lacks_a_measurement_is_left_as_it_was(sample, learnt, tmp_path):
    lean = wsi_engine.run(sample.slide_path, tmp_path, measure=("shape",), **SETTINGS).folder
    before = {path.name: path.read_bytes() for path in lean.iterdir() if path.is_file()}
    with pytest.raises(ResultError, match=r"lacks \d+ measurement\(s\) that the classifier"):
        classify(lean, learnt("forest").classifier)
    after = {path.name: path.read_bytes() for path in lean.iterdir() if path.is_file()}
    assert after == before


def test_what_cannot_be_written_leaves_the_result_as_it_was(result, learnt, monkeypatch):
    def fails(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    before = {path.name: path.read_bytes() for path in result.iterdir() if path.is_file()}
    monkeypatch.setattr("wsi_engine.engine.classify.write_features", fails)
    with pytest.raises(EngineError, match="the disk is full"):
        classify(result, learnt("forest").classifier)
    after = {path.name: path.read_bytes() for path in result.iterdir() if path.is_file()}
    assert after == before


# In a run


def test_a_run_with_a_classifier_gives_what_classifying_its_result_gives(
    engine_result, sample, learnt, tmp_path
):
    kept = tmp_path / "kept.json"
    write_classifier(kept, learnt("forest").classifier)
    ran = wsi_engine.run(sample.slide_path, tmp_path / "ran", classifier=kept, **SETTINGS).folder
    later = Path(shutil.copytree(engine_result, tmp_path / "later" / "sample"))
    classify(later, learnt("forest").classifier)
    for name in ("nuclei.parquet", "nuclei.geojson.gz", "classifier.json", "doubtful.geojson"):
        assert (ran / name).read_bytes() == (later / name).read_bytes(), name
    assert SlideResult(ran).record.classifier == SlideResult(later).record.classifier
    assert list(problems_of(ran)) == []
    again = wsi_engine.run(sample.slide_path, tmp_path / "ran", classifier=kept, **SETTINGS)
    assert again.is_earlier
    write_classifier(kept, learnt("logistic").classifier)
    with pytest.raises(SettingsError, match=r"finished result with classifier: \w+\.\.\. -> \w+"):
        wsi_engine.run(sample.slide_path, tmp_path / "ran", classifier=kept, **SETTINGS)


def test_a_run_compares_with_the_classes_that_a_result_has_now(result, sample, learnt, tmp_path):
    def run_with(classifier: Path | None) -> bool:
        return wsi_engine.run(
            sample.slide_path, result.parent, classifier=classifier, **SETTINGS
        ).is_earlier

    first, second = tmp_path / "first.json", tmp_path / "second.json"
    write_classifier(first, learnt("forest").classifier)
    # However it is spaced: what is kept is the classifier.
    told = json.loads(classifier_bytes(learnt("logistic").classifier))
    second.write_text(json.dumps(told, indent=4))
    for now, before in ((first, second), (second, first)):
        classify(result, now)
        assert run_with(now)
        assert run_with(None)
        with pytest.raises(SettingsError, match=r"with classifier: \w+\.\.\. -> \w+") as refused:
            run_with(before)
        assert "`wsi-engine classify`" in str(refused.value)
        assert "--force" not in str(refused.value)
    record = SlideResult(result).record
    assert record.basis["classifier"] == record.classifier.sha256
    assert record.settings.classifier == "classifier.json"


def test_a_classifier_that_is_not_there_is_not_taken_for_another(result, sample, tmp_path):
    with pytest.raises(ModelError, match=r"absent\.json: no such file"):
        wsi_engine.run(
            sample.slide_path, result.parent, classifier=tmp_path / "absent.json", **SETTINGS
        )


def test_a_run_says_before_its_first_tile_that_a_classifier_does_not_fit(sample, learnt, tmp_path):
    kept = tmp_path / "kept.json"
    write_classifier(kept, learnt("forest").classifier)
    more = {"measure": ("shape",), **SETTINGS}
    with pytest.raises(ResultError, match=r"sample\.tif lacks \d+ measurement"):
        wsi_engine.run(sample.slide_path, tmp_path / "out", classifier=kept, **more)
    with pytest.raises(ModelError, match="holds no object classifier"):
        wsi_engine.run(sample.slide_path, tmp_path / "out", classifier=tmp_path, **more)
    assert not (tmp_path / "out" / "sample").exists()


# The command


def command(*words: Any) -> None:
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    assert end.value.code == 0


def test_the_command_learns_classifies_and_says_how_good_it_is(
    result, examples, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("COLUMNS", "200")
    kept = tmp_path / "kept.json"
    command(
        *("classify", result, "--examples", examples, "--trees", "10"),
        *("--features", "shape,colour", "-o", kept),
    )
    said = capsys.readouterr().out
    assert "F1 where annotations were left out in turn" in said
    assert "most informative" in said
    assert "to label next" in said
    assert kept.read_bytes() == (result / "classifier.json").read_bytes()
    first = classes_by_id(result)
    command("classify", result, "--classifier", kept)
    assert classes_by_id(result) == first


def test_classifying_loads_neither_the_library_that_learnt_nor_a_network(result, learnt, tmp_path):
    write_classifier(tmp_path / "kept.json", learnt("boosting").classifier)
    code = """
import sys
from wsi_engine.cli import main
try:
    main(sys.argv[1:])
finally:
    print("loaded:", sorted({"sklearn", "torch", "openvino"} & set(sys.modules)))
"""
    words = ["classify", str(result), "--classifier", str(tmp_path / "kept.json")]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=True
    )
    assert done.stdout.endswith("loaded: []\n")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "give --examples FILE to learn from, or --classifier FILE"),
        (["--examples", "a", "--classifier", "b"], "give only one of --examples, which learns a"),
        (["--examples", "a", "--kind", "magic"], "there is no 'magic'"),
        (["--classifier", "absent.json"], "absent.json: no such file"),
    ],
)
def test_the_command_says_what_is_wrong(result, options, said, capsys):
    with pytest.raises(SystemExit):
        main(["classify", str(result), *options])
    assert said in " ".join(capsys.readouterr().err.split())


def test_gzip_of_the_nuclei_is_whole(result, learnt):
    classify(result, learnt("boosting").classifier)
    told = json.loads(gzip.decompress((result / "nuclei.geojson.gz").read_bytes()))
    assert len(told["features"]) == SlideResult(result).record.nuclei.count
