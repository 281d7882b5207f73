"""Positive, negative, 1+, 2+ and 3+ nuclei: QuPath's rules, on the engine's own measurements."""

from __future__ import annotations

import csv
import gzip
import json
import math
import shutil
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

import wsi_engine
from tests.support.immunostained import (
    MPP,
    QuPathCounts,
    immunostained,
    qupath_base,
    qupath_class,
)
from wsi_engine.cli import main
from wsi_engine.corrections.corrector import CorrectedChunk
from wsi_engine.corrections.positive import Intensities
from wsi_engine.engine.apply import apply_corrections
from wsi_engine.engine.classify import classify
from wsi_engine.errors import ModelError, ResultError, SettingsError
from wsi_engine.models.objects.file import read_classifier, write_classifier
from wsi_engine.nuclei.nuclei import Nuclei
from wsi_engine.nuclei.positivity import GRADES, Positivity
from wsi_engine.qupath.colours import class_colour
from wsi_engine.qupath.intensity import base_of, derived, grade_of
from wsi_engine.qupath.objects import PathClass, PathObject
from wsi_engine.qupath.reader import read_objects
from wsi_engine.qupath.roi import ROI
from wsi_engine.qupath.writer import write_objects
from wsi_engine.regions.cohort import build_cohort
from wsi_engine.regions.positive import allred, h_score, intensity_figures, wilson_interval
from wsi_engine.results.finished import SlideResult
from wsi_engine.results.verify import problems_of
from wsi_engine.training.classifier_rules import ClassifierTraining
from wsi_engine.training.object_classifier import train_classifier
from wsi_engine.training.object_examples import read_examples

SETTINGS: dict[str, Any] = {"mpp": MPP, "stains": "hdab"}
DAB = "DAB: Mean"
THREE = "dab:0.2,0.4,0.6"
AREA = "Area µm^2"


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return immunostained().write(tmp_path_factory.mktemp("slides") / "ki67.png")


@pytest.fixture(scope="module")
def run_result(slide: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A result whose nuclei have no class."""
    folder = wsi_engine.run(slide, tmp_path_factory.mktemp("out"), **SETTINGS).folder
    assert folder is not None
    return folder


@pytest.fixture
def result(run_result: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run_result, tmp_path / "out" / run_result.name))


def nuclei_of(folder: Path) -> list[PathObject]:
    return read_objects(folder / "nuclei.geojson.gz")


def classes_of(folder: Path) -> dict[str, str | None]:
    table = pq.read_table(folder / "nuclei.parquet")
    return dict(zip(table["id"].to_pylist(), table["class"].to_pylist(), strict=True))


def names_of(name: str | None) -> tuple[str, ...]:
    return tuple(name.split(": ")) if name else ()


def figures_of(folder: Path) -> dict[str, str]:
    with (folder / "regions.csv").open(encoding="utf-8") as lines:
        return next(csv.DictReader(lines))


# What is positive


@pytest.mark.parametrize(
    ("text", "measurement", "thresholds"),
    [
        ("dab", "dab", (0.2,)),
        ("dab:0.3", "dab", (0.3,)),
        ("dab:.2,0.4,6e-1", "dab", (0.2, 0.4, 0.6)),
        ("DAB: Mean", "DAB: Mean", (0.2,)),
        ("Cytoplasm: DAB: Mean:0.2,0.4,0.6", "Cytoplasm: DAB: Mean", (0.2, 0.4, 0.6)),
        ("Cell: Area µm^2", "Cell: Area µm^2", (0.2,)),
        ("dab:0.123456789", "dab", (0.123456789,)),
        ("dab:40", "dab", (40.0,)),
        ("Nucleus: DAB OD mean:0.25", "Nucleus: DAB OD mean", (0.25,)),
    ],
)
def test_thresholds_are_written_behind_the_measurement(text, measurement, thresholds):
    positivity = Positivity.parse(text)
    assert (positivity.measurement, positivity.thresholds) == (measurement, thresholds)
    assert Positivity.parse(str(positivity)) == positivity


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("dab:0.4,0.2", "must rise"),
        ("dab:0.2,0.2", "must rise"),
        ("dab:1,2,3,4", "one threshold, or three for 1\\+, 2\\+ and 3\\+, and not 4"),
        ("dab:0.2,0.4", "one threshold, or three for 1\\+, 2\\+ and 3\\+, and not 2"),
        ("dab:1e999", "1e999 is no number"),
        ("dab:nan", "nan is no number"),
        ("dab: inf", "inf is no number"),
        ("dab:abc", "abc is no number"),
        ("dab:0.2;0.4;0.6", "0.2;0.4;0.6 is no number"),
        ("dab:0.2 0.4", "0.2 0.4 is no number"),
        ("dab:0.2,", "nothing is no number"),
        ("dab:0.2:0.3", "thresholds have commas between them"),
        (":0.2", "name the measurement"),
    ],
)
def test_thresholds_that_cannot_be_are_refused(text, said):
    with pytest.raises(SettingsError, match=r"^positive = .*: give another value: .*" + said):
        wsi_engine.run("no.svs", "nowhere", positive=text)


@pytest.mark.parametrize(
    ("asked", "column"),
    [
        ("dab", "DAB: Mean"),
        ("DAB", "DAB: Mean"),
        ("dab: max", "DAB: Max"),
        ("Nucleus: DAB: Mean", "DAB: Mean"),
        ("Nucleus: DAB OD mean", "DAB: Mean"),
        ("cell: dab", "Cell: DAB: Mean"),
        ("Cytoplasm: DAB OD max", "Cytoplasm: DAB: Max"),
        ("Eosin", None),
    ],
)
def test_a_measurement_is_known_by_its_stain_and_by_the_names_that_qupath_has_had(asked, column):
    stains = [f"DAB: {what}" for what in ("Mean", "Max")]
    names = [f"{part}{name}" for part in ("", "Cytoplasm: ", "Cell: ") for name in stains]
    assert Positivity(asked).column_in(names) == column


def chunk(values: list[float], classes: list[int]) -> CorrectedChunk:
    count = len(values)
    nuclei = Nuclei(
        polygons=np.full(count, None, object),
        anchors=np.zeros((count, 2)),
        scores=np.zeros(count, np.float32),
        classes=np.array(classes, np.int16),
        probabilities=np.empty((count, 0), np.float32),
        owned=np.ones(count, bool),
        measurements=np.array(values, np.float32).reshape(-1, 1),
    )
    return CorrectedChunk([str(k) for k in range(count)], nuclei, [None] * count)


KNOWN = ["Tumor", "Immune cells: CD8", "Tumor: Positive", "3+", "Ignore*", "Artefact*: 1+"]

near_thresholds = st.sampled_from([0.2, 0.4, 0.6]).flatmap(
    lambda t: st.sampled_from(
        [
            float(np.float32(t)),
            float(np.nextafter(np.float32(t), np.float32(0))),
            float(np.nextafter(np.float32(t), np.float32(1))),
        ]
    )
)
any_value = st.one_of(near_thresholds, st.floats(width=32, allow_nan=True, allow_infinity=True))


@given(
    value=any_value,
    known=st.integers(-1, len(KNOWN) - 1),
    thresholds=st.sampled_from([(0.2,), (0.2, 0.4), (0.2, 0.4, 0.6), (-0.1,)]),
)
def test_every_value_of_every_class_becomes_what_it_becomes_in_qupath(value, known, thresholds):
    intensities = Intensities(Positivity(DAB, thresholds))
    every = [*KNOWN, *intensities.start(KNOWN, [DAB], "slide"), None]
    found = intensities.given(chunk([value], [known])).nuclei.classes[0]
    before = names_of(KNOWN[known]) if known >= 0 else ()
    assert names_of(every[found]) == qupath_class(before, value, thresholds)


def test_a_value_at_a_threshold_reaches_it_as_doubles_compare():
    """QuPath holds 0.2 as a float, which as a double is above 0.2, and 0.7 is below 0.7."""
    grades = Positivity(DAB, (0.2,)).grade(np.array([0.2, 0.1999999], np.float32))
    assert grades.tolist() == [1, 0]
    assert Positivity(DAB, (0.7,)).grade(np.array([0.7], np.float32)).tolist() == [0]
    assert Positivity(DAB, (0.5,)).grade(np.array([0.5, math.nan], np.float32)).tolist() == [1, -1]


@pytest.mark.parametrize("asked", [THREE, "dab:0.2"])
def test_the_same_polygons_get_qupaths_classes_from_what_qupath_reads(result, asked):
    """QuPath reads the GeoJSON, and would run `setCellIntensityClassifications` on it."""
    classify(result, positivity=Positivity.parse(asked))
    nuclei = nuclei_of(result)
    thresholds = Positivity.parse(asked).thresholds
    said = [
        qupath_class((), float(np.float32(item.measurements.get(DAB, math.nan))), thresholds)
        for item in nuclei
    ]
    assert [names_of(item.class_name) for item in nuclei] == said
    assert len({*said}) == 1 + len(thresholds), "some of every grade"


def test_positive_nuclei_are_those_that_were_drawn_so(result):
    """Those that lie on one drawn nucleus alone."""
    classify(result, positivity=Positivity.parse("dab:0.15"))
    truth = immunostained()
    drawn = shapely.STRtree(truth.nuclei.polygons())
    right = []
    for item in nuclei_of(result):
        hits = drawn.query(item.geometry, "intersects")
        if len(hits) == 1:
            right.append((item.class_name == "Positive") == (truth.dab[hits[0]] > 0))
    assert len(right) > 100
    assert np.mean(right) > 0.97


# Colours


@pytest.mark.parametrize(
    ("name", "colour"),
    [
        ("Positive", (250, 62, 62)),
        ("Negative", (112, 112, 225)),
        ("1+", (255, 255, 0)),
        ("2+", (255, 187, 62)),
        ("3+", (250, 62, 62)),
        ("Tumor: Positive", (200, 50, 50)),
        ("Tumor: Negative", (90, 90, 180)),
        ("Tumor: 1+", (255, 215, 0)),
        ("Stroma: Positive", (112, 150, 112)),
        ("Stroma: Negative", (187, 250, 187)),
        ("Stroma: 1+", (135, 180, 135)),
        ("Stroma: 3+", (60, 80, 60)),
    ],
)
def test_intensities_have_qupaths_colours(name, colour):
    """`PathClass.getDefaultColor`: 1.25 times that within Tumor, else a shade of the base class."""
    assert class_colour(name) == colour


def test_an_intensity_is_a_shade_of_the_colour_that_its_class_has():
    intensities = Intensities(Positivity(DAB, (0.2,)))
    intensities.start(["Plasma cells"], [DAB], "slide")
    colours = intensities.colours({"Plasma cells": (100, 200, 40)})
    assert colours["Plasma cells: Positive"] == (75, 150, 30)
    assert colours["Plasma cells: Negative"] == (125, 250, 50)


@pytest.mark.parametrize("name", [None, "Tumor", "Tumor: Positive", "A: B: 2+", "3+", "Negative"])
def test_what_a_class_is_of_is_its_first_ancestor_that_is_no_intensity(name):
    assert names_of(base_of(name)) == qupath_base(names_of(name))
    grade = grade_of(name)
    assert name == (base_of(name) if grade is None else derived(base_of(name), grade))


# In a run, and afterwards


def test_a_run_gives_what_classifying_its_result_gives(slide, run_result, tmp_path):
    ran = wsi_engine.run(slide, tmp_path / "ran", positive=THREE, **SETTINGS).folder
    later = Path(shutil.copytree(run_result, tmp_path / "later" / run_result.name))
    assert classify(later, positivity=Positivity.parse(THREE)).counts == Counter(
        classes_of(ran).values()
    )
    for name in ("nuclei.parquet", "nuclei.geojson.gz"):
        assert (ran / name).read_bytes() == (later / name).read_bytes(), name
    assert SlideResult(ran).record.positivity == SlideResult(later).record.positivity
    assert list(problems_of(ran)) == list(problems_of(later)) == []
    assert wsi_engine.run(slide, tmp_path / "ran", positive=THREE, **SETTINGS).is_earlier
    with pytest.raises(SettingsError, match=r"positive: dab:0\.2,0\.4,0\.6 -> dab:0\.3"):
        wsi_engine.run(slide, tmp_path / "ran", positive="dab:0.3", **SETTINGS)


def test_a_run_compares_with_the_thresholds_that_a_result_has_now(result, slide):
    out = result.parent
    for asked, before in ((THREE, "dab:0.3"), ("dab:0.3", THREE)):
        classify(result, positivity=Positivity.parse(asked))
        assert wsi_engine.run(slide, out, positive=asked, **SETTINGS).is_earlier
        assert wsi_engine.run(slide, out, **SETTINGS).is_earlier
        with pytest.raises(SettingsError, match=f"positive: {asked} -> {before}: .*") as refused:
            wsi_engine.run(slide, out, positive=before, **SETTINGS)
        assert "`wsi-engine classify`" in str(refused.value)
        assert "--force" not in str(refused.value)
    record = SlideResult(result).record
    assert record.basis["positive"] == record.settings.positive == "dab:0.3"


def test_where_more_than_the_classes_differs_a_run_has_to_start_again(result, slide):
    classify(result, positivity=Positivity.parse("dab:0.2"))
    settings = SETTINGS | {"simplify_um": 0.5, "positive": "dab:0.3"}
    with pytest.raises(
        SettingsError, match=r"simplify_um: 0\.08 -> 0\.5: start again with --force"
    ):
        wsi_engine.run(slide, result.parent, **settings)


@pytest.mark.parametrize("size", [128, 256])
def test_the_same_nuclei_are_positive_whatever_the_tiling(slide, run_result, tmp_path, size):
    settings = SETTINGS | {"tile_size": size, "positive": THREE}
    small = wsi_engine.run(slide, tmp_path / "small", **settings).folder
    large = Path(shutil.copytree(run_result, tmp_path / run_result.name))
    classify(large, positivity=Positivity.parse(THREE))
    assert classes_of(small) == classes_of(large)


def test_nothing_but_the_class_changes_and_no_pixel_is_read(result, slide, monkeypatch):
    monkeypatch.setattr("wsi_engine.slide.grid_reader.GridReader.read", None)
    before = pq.read_table(result / "nuclei.parquet")
    (result / "report.html").unlink()  # its examples would be read again
    classify(result, positivity=Positivity.parse(THREE))
    after = pq.read_table(result / "nuclei.parquet")
    same = [name for name in before.column_names if name != "class"]
    assert after.select(same).equals(before.select(same))


def test_other_thresholds_take_the_place_of_those_before(result, run_result, tmp_path):
    classify(result, positivity=Positivity.parse(THREE))
    classify(result, positivity=Positivity.parse("dab:0.3"))
    once = Path(shutil.copytree(run_result, tmp_path / "once" / run_result.name))
    classify(once, positivity=Positivity.parse("dab:0.3"))
    assert (result / "nuclei.parquet").read_bytes() == (once / "nuclei.parquet").read_bytes()
    assert SlideResult(result).record.positivity.thresholds == (0.3,)


def test_cells_are_positive_by_what_is_measured_of_the_cell(slide, tmp_path):
    asked = "Cell: DAB: Mean:0.2"
    folder = wsi_engine.run(slide, tmp_path, positive=asked, cells=4, **SETTINGS).folder
    for item in nuclei_of(folder):
        assert item.object_type == "cell"
        value = float(np.float32(item.measurements["Cell: DAB: Mean"]))
        assert names_of(item.class_name) == qupath_class((), value, (0.2,))
    classify(folder, positivity=Positivity.parse("nucleus: dab: mean"))
    for item in nuclei_of(folder):
        value = float(np.float32(item.measurements["Nucleus: DAB: Mean"]))
        assert names_of(item.class_name) == qupath_class((), value, (0.2,))


@pytest.mark.parametrize("which", ["run", "classify"])
def test_a_result_without_the_stain_is_left_as_it_was(slide, result, tmp_path, which):
    said = r"has no measurement 'eosin' .*\(of means there are Hematoxylin: Mean, DAB: Mean, "
    before = {path: path.read_bytes() for path in result.iterdir() if path.is_file()}
    ways = {
        "run": lambda: wsi_engine.run(slide, tmp_path / "other", positive="eosin", **SETTINGS),
        "classify": lambda: classify(result, positivity=Positivity.parse("eosin")),
    }
    with pytest.raises(ResultError, match=said):
        ways[which]()
    assert {path: path.read_bytes() for path in result.iterdir() if path.is_file()} == before
    assert not (tmp_path / "other" / "ki67").exists()


# Within other classes


@pytest.fixture
def with_classes(result: Path, tmp_path: Path) -> Callable[[], Path]:
    """A result whose nuclei are large or small, by a classifier."""

    def classified() -> Path:
        nuclei = nuclei_of(result)
        boundary = float(np.median([item.measurements[AREA] for item in nuclei]))
        for item in nuclei[::2]:
            large = item.measurements[AREA] > boundary
            item.classification = PathClass.of("Tumor" if large else "Stroma")
        write_objects(tmp_path / "some.geojson", nuclei)
        training = ClassifierTraining(trees=10, features=("shape",))
        trained = train_classifier([(result, [tmp_path / "some.geojson"])], training)
        write_classifier(tmp_path / "classes.json", trained.classifier)
        classify(result, trained.classifier)
        return result

    return classified


def test_classes_are_those_of_intensity_within_each_class(with_classes, slide, tmp_path):
    folder = with_classes()
    before = classes_of(folder)
    assert {*before.values()} == {"Tumor", "Stroma"}
    classify(folder, positivity=Positivity.parse(THREE))
    values = dict(
        zip(before, pq.read_table(folder / "nuclei.parquet")[DAB].to_pylist(), strict=True)
    )
    after = classes_of(folder)
    for identity, name in after.items():
        expected = qupath_class((str(before[identity]),), values[identity], (0.2, 0.4, 0.6))
        assert names_of(name) == expected
    # The same again, and in a run; and without probabilities of intensities.
    classify(folder, positivity=Positivity.parse(THREE))
    assert classes_of(folder) == after
    ran = wsi_engine.run(
        slide,
        tmp_path / "ran",
        classifier=tmp_path / "classes.json",
        positive=THREE,
        **SETTINGS,
    ).folder
    assert classes_of(ran) == after
    columns = pq.read_schema(folder / "nuclei.parquet").names
    assert [name for name in columns if name.startswith("probability")] == [
        "probability: Stroma",
        "probability: Tumor",
    ]
    assert list(problems_of(folder)) == []


def test_a_new_classifier_keeps_the_thresholds_and_learns_no_intensity(with_classes, tmp_path):
    folder = with_classes()
    classify(folder, positivity=Positivity.parse("dab:0.3"))
    nuclei = nuclei_of(folder)
    nuclei[0].classification, nuclei[0].is_locked = PathClass.of("Stroma: Positive"), True
    write_objects(tmp_path / "later.geojson", nuclei)
    examples = read_examples([tmp_path / "later.geojson"], SlideResult(folder))
    assert {*examples.classes} == {"Stroma"}
    classify(folder, positivity=None, classifier=None)
    assert {grade_of(name) for name in classes_of(folder).values()} == {"Positive", "Negative"}


def test_a_damaged_classifier_is_in_the_way_of_thresholds_and_not_of_a_new_one(
    with_classes, tmp_path
):
    folder = with_classes()
    (folder / "classifier.json").write_text("{}")
    with pytest.raises(ModelError, match="holds no object classifier"):
        classify(folder, positivity=Positivity.parse(THREE))
    classify(folder, read_classifier(tmp_path / "classes.json"), Positivity.parse(THREE))
    assert list(problems_of(folder)) == []


def test_a_person_decides_on_intensity_and_the_thresholds_on_all_others(result, tmp_path):
    classify(result, positivity=Positivity.parse("dab:0.2"))
    nuclei = nuclei_of(result)
    first, second, third = (item.id for item in nuclei[:3])
    was = classes_of(result)
    other = {"Positive": "Negative", "Negative": "Positive"}[was[first]]
    nuclei[0].classification = PathClass.of(other)
    nuclei[1].classification = PathClass.of("Stroma")
    nuclei[2].classification = PathClass.of("Ignore*")
    nuclei[3].roi = ROI(nuclei[3].geometry.buffer(-0.5))
    write_objects(tmp_path / "corrected.geojson", nuclei[:-1])
    apply_corrections(tmp_path / "corrected.geojson", result)
    now = classes_of(result)
    assert now[first] == other
    assert now[second] == f"Stroma: {was[second]}"
    assert now[third] == "Ignore*"
    assert now[nuclei[3].id] is None, "its pixels are not read again: it lacks the measurement"
    untouched = [item.id for item in nuclei[4:-1]]
    assert [now[i] for i in untouched] == [was[i] for i in untouched]
    classify(result, positivity=Positivity.parse("dab:5"))
    again = classes_of(result)
    assert again[first] == other
    assert again[second] == "Stroma: Negative"
    assert list(problems_of(result)) == []


# What of an export is a person's


def exported(folder: Path, file: Path) -> list[PathObject]:
    """Write what QuPath exports of a result, and return it."""
    nuclei = nuclei_of(folder)
    write_objects(file, nuclei)
    return nuclei


def without_measurements(nuclei: list[PathObject]) -> list[PathObject]:
    return [replace(item, measurements={}) for item in nuclei]


def with_other_ids(nuclei: list[PathObject]) -> list[PathObject]:
    """Return nuclei as "Update IDs" of QuPath's import makes them."""
    return [replace(item, id=str(uuid.UUID(int=k + 1))) for k, item in enumerate(nuclei)]


def kept(nuclei: list[PathObject]) -> list[PathObject]:
    return nuclei


def as_told(folder: Path, asked: str) -> dict[str, str | None]:
    """Return the classes that thresholds alone give."""
    positivity = Positivity.parse(asked)
    table = pq.read_table(folder / "nuclei.parquet")
    grades = (*positivity.grades, None)
    said = positivity.grade(table[positivity.column_in(table.column_names) or ""].to_numpy())
    ids = table["id"].to_pylist()
    return dict(zip(ids, (grades[k] for k in said.tolist()), strict=True))


@pytest.mark.parametrize("export", [kept, without_measurements, with_other_ids])
def test_an_export_of_before_new_thresholds_brings_none_of_its_intensities(
    result, tmp_path, export
):
    classify(result, positivity=Positivity.parse("dab:0.2"))
    nuclei = nuclei_of(result)
    nuclei[1].roi = ROI(nuclei[1].geometry.buffer(-0.5))
    redrawn, last = nuclei[1].id, nuclei[-1].id
    write_objects(tmp_path / "early.geojson", export(nuclei[:-1]))
    classify(result, positivity=Positivity.parse("dab:0.35,0.5,9"))
    later = as_told(result, "dab:0.35,0.5,9")
    assert len({*later.values()}) == 3
    applied = apply_corrections(tmp_path / "early.geojson", result)
    assert (applied.deleted, applied.edited, applied.added) == (1, 1, 0)
    assert str(applied.earlier_thresholds) == "dab:0.2"
    del later[last]
    assert classes_of(result) == later | {redrawn: None}
    classify(result, positivity=Positivity.parse("dab:5"))
    assert {*classes_of(result).values()} == {"Negative", None}
    assert list(problems_of(result)) == []


def test_what_a_person_changed_in_an_export_of_before_new_thresholds_is_kept(result, tmp_path):
    classify(result, positivity=Positivity.parse("dab:0.2"))
    nuclei = nuclei_of(result)
    by_hand = {"Positive": "Negative", "Negative": "Positive"}[str(nuclei[0].class_name)]
    nuclei[0].classification = PathClass.of(by_hand)
    write_objects(tmp_path / "early.geojson", nuclei)
    for asked in ("dab:0.4", "dab:5"):
        classify(result, positivity=Positivity.parse(asked))
    applied = apply_corrections(tmp_path / "early.geojson", result)
    assert applied.edited == 1
    assert classes_of(result) == dict.fromkeys(classes_of(result), "Negative") | {
        nuclei[0].id: by_hand
    }


def test_a_run_over_the_result_knows_the_thresholds_of_before(result, slide, tmp_path):
    classify(result, positivity=Positivity.parse("dab:0.2"))
    exported(result, tmp_path / "early.geojson")
    wsi_engine.run(slide, result.parent, name=result.name, positive="dab:5", force=True, **SETTINGS)
    assert apply_corrections(tmp_path / "early.geojson", result).edited == 0
    assert {*classes_of(result).values()} == {"Negative"}


def test_the_record_names_each_of_the_thresholds_of_before_once(result):
    for asked in ("dab:0.2", "dab:0.4", "dab:0.2", "dab:0.2"):
        classify(result, positivity=Positivity.parse(asked))
    told = json.loads((result / "run.json").read_bytes())["positivity"]
    assert told == {
        "measurement": "dab",
        "thresholds": [0.2],
        "earlier": [{"measurement": "dab", "thresholds": [0.4]}],
    }
    assert SlideResult(result).record.positivity.thresholds == (0.2,)


def test_a_few_nuclei_that_were_changed_by_hand_are_a_persons_under_the_first_thresholds(
    result, tmp_path
):
    """All of them disagree with the thresholds, and no others are in the file."""
    classify(result, positivity=Positivity.parse("dab:5"))
    few = nuclei_of(result)[:5]
    for item in few:
        item.classification = PathClass.of("Positive")
    write_objects(tmp_path / "few.geojson", few)
    assert apply_corrections(tmp_path / "few.geojson", result, partial=True).edited == 5
    assert Counter(classes_of(result).values())["Positive"] == 5


def test_a_nucleus_that_was_only_redrawn_is_told_by_its_measurement_ever_after(
    with_classes, tmp_path
):
    """An area is measured of the new outline, too."""
    folder = with_classes()
    classify(folder, positivity=Positivity.parse(f"{AREA}:0.01"))
    nuclei = nuclei_of(folder)
    item = nuclei[0]
    assert grade_of(item.class_name) == "Positive"
    base = base_of(item.class_name)
    item.roi = ROI(item.geometry.buffer(-0.5))
    write_objects(tmp_path / "redrawn.geojson", nuclei)
    assert apply_corrections(tmp_path / "redrawn.geojson", folder).edited == 1
    assert classes_of(folder)[item.id] == f"{base}: Positive"
    classify(folder, positivity=Positivity.parse(f"{AREA}:1e6"))
    assert classes_of(folder)[item.id] == f"{base}: Negative"
    classify(folder, positivity=Positivity.parse("dab:0.2"))
    assert classes_of(folder)[item.id] == base, "its pixels are not read again"


def test_a_redrawn_nucleus_has_the_colour_that_its_class_has(result, tmp_path):
    nuclei = nuclei_of(result)
    for item in nuclei:
        large = item.measurements[AREA] > 30
        item.classification = PathClass(("Large",) if large else ("Small",), (1, 2, 3))
    write_objects(tmp_path / "some.geojson", nuclei)
    trained = train_classifier(
        [(result, [tmp_path / "some.geojson"])], ClassifierTraining(trees=5, features=("shape",))
    )
    classify(result, trained.classifier, Positivity.parse("dab:0.2"))
    nuclei = nuclei_of(result)
    nuclei[0].roi = ROI(nuclei[0].geometry.buffer(-0.5))
    write_objects(tmp_path / "redrawn.geojson", nuclei)
    apply_corrections(tmp_path / "redrawn.geojson", result)
    (redrawn,) = (item for item in nuclei_of(result) if item.id == nuclei[0].id)
    assert redrawn.classification == PathClass((str(base_of(nuclei[0].class_name)),), (1, 2, 3))


def test_a_redrawn_nucleus_gets_the_intensity_that_a_person_gives_it_then(result, tmp_path):
    classify(result, positivity=Positivity.parse("dab:0.2"))
    nuclei = nuclei_of(result)
    nuclei[0].roi = ROI(nuclei[0].geometry.buffer(-0.5))
    write_objects(tmp_path / "redrawn.geojson", nuclei)
    apply_corrections(tmp_path / "redrawn.geojson", result)
    nuclei = nuclei_of(result)
    (redrawn,) = (item for item in nuclei if item.class_name is None)
    redrawn.classification = PathClass.of("Positive")
    write_objects(tmp_path / "graded.geojson", nuclei)
    assert apply_corrections(tmp_path / "graded.geojson", result).edited == 1
    classify(result, positivity=Positivity.parse("dab:5"))
    assert classes_of(result)[redrawn.id] == "Positive"


def test_the_same_file_once_more_changes_nothing(result, tmp_path):
    classify(result, positivity=Positivity.parse("dab:0.2"))
    nuclei = nuclei_of(result)
    other = {"Positive": "Negative", "Negative": "Positive"}[str(nuclei[0].class_name)]
    nuclei[0].classification = PathClass.of(other)
    nuclei[1].classification = PathClass.of("Immune cells")
    nuclei[2].roi = ROI(nuclei[2].geometry.buffer(-0.5))
    nuclei[3].classification = PathClass.of("Ignore*")
    nuclei[4].classification = None
    write_objects(tmp_path / "corrected.geojson", nuclei)
    first = apply_corrections(tmp_path / "corrected.geojson", result)
    assert first.edited == 4, "of the fifth the thresholds say what they said"
    before = (result / "nuclei.parquet").read_bytes()
    for asked in (None, "dab:0.2", "dab:0.4"):
        if asked is not None:
            classify(result, positivity=Positivity.parse(asked))
        again = apply_corrections(tmp_path / "corrected.geojson", result)
        assert (again.deleted, again.edited, again.added) == (0, 0, 0)
        assert again.corrections == first.corrections
        assert asked == "dab:0.4" or (result / "nuclei.parquet").read_bytes() == before


def test_a_persons_intensity_outlives_thresholds_that_say_the_same(result, tmp_path):
    classify(result, positivity=Positivity.parse("dab:5"))
    nuclei = nuclei_of(result)
    nuclei[0].classification = PathClass.of("Positive")
    write_objects(tmp_path / "graded.geojson", nuclei)
    apply_corrections(tmp_path / "graded.geojson", result)
    classify(result, positivity=Positivity.parse("dab:-5"))
    exported(result, tmp_path / "later.geojson")
    assert apply_corrections(tmp_path / "later.geojson", result).edited == 0
    classify(result, positivity=Positivity.parse("dab:5"))
    assert classes_of(result)[nuclei[0].id] == "Positive"


def test_an_intensity_that_a_person_takes_back_is_left_to_the_thresholds(result, tmp_path):
    classify(result, positivity=Positivity.parse("dab:5"))
    nuclei = nuclei_of(result)
    for name in ("Positive", None):
        nuclei[0].classification = None if name is None else PathClass.of(name)
        write_objects(tmp_path / f"{name}.geojson", nuclei)
        assert apply_corrections(tmp_path / f"{name}.geojson", result).edited == 1
    assert classes_of(result)[nuclei[0].id] == "Negative"


def test_a_drawn_nucleus_keeps_the_intensity_that_it_was_drawn_with(result, tmp_path):
    classify(result, positivity=Positivity.parse("dab:5"))
    nuclei = nuclei_of(result)
    drawn = PathObject(
        object_type="detection",
        roi=ROI(shapely.box(1, 1, 6, 6)),
        classification=PathClass.of("Positive"),
    )
    write_objects(tmp_path / "drawn.geojson", [drawn])
    added = apply_corrections(tmp_path / "drawn.geojson", result, partial=True)
    assert added.added == 1
    exported(result, tmp_path / "later.geojson")
    assert apply_corrections(tmp_path / "later.geojson", result).edited == 0
    assert Counter(classes_of(result).values()) == {"Positive": 1, "Negative": len(nuclei)}


def test_nuclei_of_another_program_become_positive_too(result, slide, tmp_path):
    measured = wsi_engine.measure(
        slide, result / "nuclei.geojson.gz", tmp_path / "m", mpp=MPP, stains="hdab"
    )
    classify(measured.folder, positivity=Positivity.parse(THREE))
    classify(result, positivity=Positivity.parse(THREE))
    assert classes_of(measured.folder) == classes_of(result)


# Scores

some_counts = st.lists(st.integers(0, 60), min_size=5, max_size=5)


@given(tumour=some_counts, alone=some_counts, others=st.integers(0, 9))
def test_scores_are_qupaths(tumour, alone, others):
    of_tumour = {f"Tumor: {g}": n for g, n in zip(GRADES, tumour, strict=True)}
    counts = of_tumour | dict(zip(GRADES, alone, strict=True)) | {"Tumor": others, None: 3}
    counts["Ignore*"] = 2
    figures = {column.name: value for column, value in intensity_figures(counts).items()}
    theirs = QuPathCounts(Counter({names_of(name): count for name, count in counts.items()}))
    assert figures["Num Detections"] == sum(counts.values())
    assert [figures[f"Num Tumor: {grade}"] for grade in GRADES] == tumour
    cases = {"": [()], "Tumor: ": [("Tumor",)], "Tumor + Unclassified: ": [(), ("Tumor",)]}
    for title, of in cases.items():
        expected = {
            "Positive %": theirs.positive_percentage(*of),
            "Allred proportion": theirs.allred_proportion(*of),
            "Allred intensity": theirs.allred_intensity(*of),
        }
        if math.isnan(expected["Positive %"]):
            # QuPath's Allred is 0 where there are no nuclei; here it is missing.
            expected = dict.fromkeys(expected, math.nan)
        expected["H-score"] = theirs.h_score(*of)
        for name, value in expected.items():
            assert figures[f"{title}{name}"] == pytest.approx(value, nan_ok=True), (title, name)


@given(graded=st.lists(st.integers(0, 50), min_size=3, max_size=3), negative=st.integers(0, 50))
def test_the_h_score_is_qupaths(graded, negative):
    counts = Counter({(g,): n for g, n in zip(GRADES[2:], graded, strict=True)})
    theirs = QuPathCounts(counts + Counter({("Negative",): negative})).h_score(())
    assert h_score(graded, negative) == pytest.approx(theirs, nan_ok=True)


@pytest.mark.parametrize(
    ("graded", "positive", "total", "scores"),
    [
        ([0, 0, 0], 0, 100, (0, 0)),
        ([1, 0, 0], 1, 101, (1, 1)),
        ([1, 0, 0], 1, 100, (2, 1)),
        ([0, 10, 0], 10, 100, (3, 2)),
        ([0, 0, 1], 1, 3, (4, 3)),
        ([1, 1, 1], 3, 4, (5, 2)),
        ([0, 2, 1], 3, 4, (5, 2)),
    ],
)
def test_allreds_scores_at_their_borders(graded, positive, total, scores):
    assert allred(graded, positive, total) == scores


@pytest.mark.parametrize(("positive", "total"), [(0, 10), (10, 10), (1, 3), (137, 2051)])
def test_the_interval_is_wilsons(positive, total):
    theirs = binomtest(positive, total).proportion_ci(0.95, method="wilson")
    assert wilson_interval(positive, total) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_without_nuclei_scores_are_missing_and_without_intensities_there_are_none():
    assert intensity_figures({None: 5, "Tumor": 3, "Artefact*: Positive": 1}) == {}
    figures = {c.name: v for c, v in intensity_figures({None: 0}, ["Negative", "1+"]).items()}
    assert figures.pop("Num Detections") == figures.pop("Num Negative") == 0
    assert figures.pop("Num 1+") == 0
    assert all(math.isnan(value) for value in figures.values())
    assert "H-score" in figures


def test_regions_and_cohort_have_the_scores(result, slide, tmp_path):
    classify(result, positivity=Positivity.parse(THREE))
    figures, counts = figures_of(result), Counter(classes_of(result).values())
    positive = sum(counts[grade] for grade in ("1+", "2+", "3+"))
    assert int(float(figures["Num Detections"])) == counts.total()
    assert int(float(figures["Num 3+"])) == counts["3+"]
    assert float(figures["Positive %"]) == pytest.approx(100 * positive / counts.total())
    assert float(figures["H-score"]) == pytest.approx(
        100 * (counts["1+"] + 2 * counts["2+"] + 3 * counts["3+"]) / counts.total()
    )
    low, high = (float(figures[f"Positive %: 95% CI {end}"]) for end in ("low", "high"))
    assert low < float(figures["Positive %"]) < high
    assert int(float(figures["Allred score"])) in range(2, 9)
    annotations = json.loads((result / "regions.geojson").read_bytes())["features"]
    assert annotations[0]["properties"]["measurements"]["Positive %"] == pytest.approx(
        float(figures["Positive %"]), rel=1e-6
    )
    wsi_engine.run(slide, result.parent, name="other", **SETTINGS)
    table = build_cohort(result.parent).table
    rows = [row for row in table.to_pylist() if row["kind"] == "slide"]
    assert [row["H-score"] is None for row in rows] == [False, True]
    with (result.parent / "cohort.csv").open(encoding="utf-8") as lines:
        columns = next(csv.reader(lines))
    wanted = {"Num 1+", "Positive %", "Positive %: 95% CI low", "H-score", "Allred score"}
    assert wanted <= {*columns}
    page = (result / "report.html").read_text(encoding="utf-8")
    assert "positive %" in page
    assert "H-score" in page


def test_a_slide_without_positive_nuclei_has_the_columns_of_one_with_some(result):
    classify(result, positivity=Positivity.parse("dab:5,6,7"))
    figures = figures_of(result)
    assert [float(figures[f"Num {grade}"]) for grade in ("1+", "2+", "3+")] == [0, 0, 0]
    assert float(figures["Positive %"]) == float(figures["H-score"]) == 0
    assert float(figures["Positive %: 95% CI high"]) > 0


# The command


def test_apply_says_of_an_export_that_it_is_of_before_the_thresholds(result, tmp_path, capsys):
    classify(result, positivity=Positivity.parse("dab:0.2"))
    exported(result, tmp_path / "early.geojson")
    command("apply", tmp_path / "early.geojson", result)
    assert "intensities in the file" not in " ".join(capsys.readouterr().err.split())
    classify(result, positivity=Positivity.parse("dab:0.4"))
    command("apply", tmp_path / "early.geojson", result)
    said = capsys.readouterr()
    assert "edited 0" in " ".join(said.out.split())
    assert (
        "the intensities in the file are those of dab:0.2, which the result had before: they are "
        "left to its present thresholds, but for those that you changed"
    ) in " ".join((said.out + said.err).split())


def command(*words: Any) -> None:
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    assert end.value.code == 0


def test_the_command_counts_what_is_positive(result, capsys):
    command("classify", result, "--positive", "dab:0.2")
    said = " ".join(capsys.readouterr().out.split())
    counts = Counter(classes_of(result).values())
    assert f"Negative {counts['Negative']}" in said
    assert f"Positive {counts['Positive']}" in said
    assert "classifier.json" not in said
    assert not (result / "classifier.json").exists()


def test_the_command_says_what_is_wrong(result, capsys):
    with pytest.raises(SystemExit):
        main(["classify", str(result), "--positive", "dab:3,2"])
    assert "--positive dab:3,2: thresholds must rise" in " ".join(capsys.readouterr().err.split())


def test_a_record_with_other_thresholds_than_there_can_be_is_refused(result):
    classify(result, positivity=Positivity.parse(THREE))
    path = result / "run.json"
    record = json.loads(path.read_bytes())
    record["positivity"]["thresholds"] = [0.1] * 4
    path.write_text(json.dumps(record))
    with pytest.raises(ResultError, match=r"run\.json is not the record of a run"):
        SlideResult(result)


def test_gzip_of_the_nuclei_is_whole(result):
    classify(result, positivity=Positivity.parse(THREE))
    document = json.loads(gzip.decompress((result / "nuclei.geojson.gz").read_bytes()))
    names = {f["properties"]["classification"]["name"] for f in document["features"]}
    assert names == {"Negative", "1+", "2+", "3+"}


def test_an_export_that_is_read_twice_for_its_thresholds_is_doubted_once(result, tmp_path, caplog):
    for asked in ("dab:0.2", "dab:0.35"):
        classify(result, positivity=Positivity.parse(asked))
    document = json.loads(gzip.decompress((result / "nuclei.geojson.gz").read_bytes()))
    features = document["features"] if isinstance(document, dict) else document
    features.append({"type": "Feature", "geometry": {"type": "Blob"}, "properties": {}})
    (tmp_path / "edited.geojson").write_text(json.dumps(document))
    apply_corrections(tmp_path / "edited.geojson", result, partial=True)
    assert len([record for record in caplog.records if "Blob" in record.getMessage()]) == 1
