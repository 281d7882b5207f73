"""The page of a slide: whole in one file, true to the result, safe to open and to show."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import shapely
import tifffile

import wsi_engine
from tests.support.pages import Page
from tests.support.results import SIDE_PX, write_annotations_by_hand, write_result
from wsi_engine.cli import main
from wsi_engine.errors import ResultError, SlideError
from wsi_engine.qupath.rules.rule import VERSIONS
from wsi_engine.qupath.validation import validate
from wsi_engine.regions.measure import measure_regions
from wsi_engine.report.charts import Axis, distribution, histogram, number
from wsi_engine.report.cohort import write_cohort_report
from wsi_engine.report.colours import OKABE_ITO, viridis
from wsi_engine.report.examples import SHOWN, choose_examples
from wsi_engine.report.map_frame import MapFrame, scale_bar
from wsi_engine.report.maps import class_colours, density
from wsi_engine.report.plausibility import nuclei_flag, pixel_size_flag
from wsi_engine.report.slide import report_on, write_report
from wsi_engine.report.svg import tag
from wsi_engine.results.finished import SlideResult
from wsi_engine.results.folder import ResultFolder
from wsi_engine.results.quality_files import read_flags, write_flags
from wsi_engine.sample import SampleTruth
from wsi_engine.slide.fingerprint import fingerprint
from wsi_engine.slide.frames import Mpp
from wsi_engine.slide.pyramid import write_pyramid
from wsi_engine.slide.quality import Flag

HOSTILE = "<script>alert(1)<b>&'\" {{ 7*7 }}"


def scattered(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(100, SIDE_PX - 100, (count, 2)).round(2)


def measured(count: int, seed: int = 1) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "Area µm^2": rng.gamma(6, 6, count),
        "Circularity": rng.beta(8, 2, count),
        "Hematoxylin: Mean": rng.normal(0.5, 0.1, count),
    }


@pytest.fixture(scope="module")
def page(finished_run: Path) -> Page:
    """The page that a run wrote."""
    return Page(finished_run / "report.html")


# ---------------------------------------------------------------- one file, no network


def test_a_run_leaves_its_page(finished_run: Path, page: Page):
    count = json.loads((finished_run / "run.json").read_text())["nuclei"]["count"]
    assert f"{count:,} nuclei" in page.words
    assert (finished_run / "report.html").stat().st_size < 3_000_000


def test_the_page_has_all_that_it_shows(page: Page):
    # Overview, density, and twice twelve nuclei; nothing but data URIs (see pages.py).
    assert len(page.images) == 2 + 2 * SHOWN
    assert "http" not in page.text.replace("http-equiv", "").lower()
    assert page.scripts == []
    assert "default-src 'none'" in page.policy
    assert all(title for title in page.titles)


def test_the_page_says_what_there_is_to_say(page: Page):
    for heading in (
        "Quality",
        "Classes",
        "Measurements",
        "Typical",
        "Unusual",
        "How this was made",
    ):
        assert heading in page.words
    for name in ("blur", "pen", "folds", "tissue", "nuclei", "pixel size"):
        assert name in page.words
    assert "tells no classes apart" in page.words
    assert [t for t in page.titles if t.startswith("Histogram of Area µm²; percentiles 5 %")]
    assert "watershed" in page.words


def test_the_same_page_twice(finished_run: Path):
    first = (finished_run / "report.html").read_bytes()
    assert write_report(finished_run).read_bytes() == first


def test_percentiles_are_those_of_the_table(finished_run: Path, page: Page):
    areas = pq.read_table(finished_run / "nuclei.parquet")["Area µm^2"].to_numpy()
    for value in np.percentile(areas, [5, 25, 50, 75, 95]):
        assert f"{value:.3g}" in page.words


def test_the_nuclei_that_are_shown_are_in_the_result(finished_run: Path, page: Page):
    ids = set(pq.read_table(finished_run / "nuclei.parquet")["id"].to_pylist())
    shown = [title.split()[1] for title in page.titles if title.startswith("Nucleus ")]
    assert len(shown) == len(set(shown)) == 2 * SHOWN
    assert set(shown) <= ids


def test_places_of_flags_are_valid_annotations(tmp_path: Path):
    folder = write_result(
        tmp_path / "s", scattered(20) / 4, tissue=(shapely.box(0, 0, 1000, 1000),
        shapely.box(2000, 2000, 3000, 3000)),
    )  # fmt: skip
    write_report(folder)
    report = validate(folder / "quality.geojson")
    assert all(report.is_clean_in(version) for version in VERSIONS if version not in ("0.2", "0.3"))
    [feature] = json.loads((folder / "quality.geojson").read_text())["features"]
    assert feature["properties"]["classification"]["name"] == "No nuclei"
    # When the doubt is gone, so is the file.
    shutil.rmtree(folder)
    write_result(folder, scattered(200))
    write_report(folder)
    assert not (folder / "quality.geojson").exists()


# ---------------------------------------------------------------- with and without the slide


def test_a_slide_that_has_moved(finished_run: Path, sample: SampleTruth, tmp_path: Path):
    folder = shutil.copytree(finished_run, tmp_path / "sample")
    record = json.loads((folder / "run.json").read_text())
    record["slide_path"] = str(tmp_path / "gone.tif")
    (folder / "run.json").write_text(json.dumps(record))
    without = Page(write_report(folder))
    assert "not at hand" in without.words
    assert len(without.images) == 1  # density
    moved = shutil.copy(sample.slide_path, tmp_path / "elsewhere.tif")
    assert len(Page(write_report(folder, moved)).images) == 2 + 2 * SHOWN


def without_slide(folder: Path) -> Path:
    record = json.loads((folder / "run.json").read_text())
    record["slide_path"] = str(folder / "gone.tif")
    (folder / "run.json").write_text(json.dumps(record))
    return folder


def test_what_was_seen_in_the_pixels_stays(
    finished_run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    folder = without_slide(shutil.copytree(finished_run, tmp_path / "sample"))
    result = SlideResult(folder)
    places = (shapely.box(0, 0, 512, 512), shapely.box(600, 0, 700, 100))
    said = [
        Flag("blur", "look", 12.5, "%", "6 of 48.", places),
        Flag("pen", "ok", 0.0, "mm²", "No."),
    ]
    earlier = [*said, Flag("nuclei", "look", 1.0, "mm²", "Of an earlier page.")]
    write_flags(result, earlier, result.folder)
    page = Page(write_report(folder))
    kept = read_flags(result)
    assert [flag.name for flag in kept] == [
        "blur",
        "pen",
        "nuclei",
        "density",
        "damage",
        "pixel size",
    ]
    assert kept[:2] == said
    assert kept[2].sentence != "Of an earlier page."
    assert "6 of 48." in page.words
    assert "sample: The slide was not at hand" in caplog.text


@pytest.mark.parametrize("kept", [None, "text", '{"flags": []}', "another run"])
def test_pixels_that_nobody_has_seen_are_not_ok(
    finished_run: Path, tmp_path: Path, kept: str | None
):
    folder = without_slide(shutil.copytree(finished_run, tmp_path / "sample"))
    if kept is None:
        (folder / "quality.json").unlink()
    elif kept == "another run":
        facts = json.loads((folder / "quality.json").read_text())
        (folder / "quality.json").write_text(json.dumps(facts | {"run_finished": "2020"}))
    else:
        (folder / "quality.json").write_text(kept)
    for _ in range(2):
        assert "pixels not checked" in Page(write_report(folder)).words
    write_cohort_report(tmp_path)
    words = Page(tmp_path / "cohort.html").words
    assert "pixels not checked" in words
    assert "✓ ok" not in words


def test_the_slide_of_another_result(finished_run: Path, tmp_path: Path):
    write_pyramid(tmp_path / "other.tif", np.full((300, 300, 3), 240, np.uint8), 0.25)
    with pytest.raises(ResultError, match="is not the slide of"):
        write_report(finished_run, tmp_path / "other.tif")
    with pytest.raises(SlideError, match="no such file"):
        write_report(finished_run, tmp_path / "none.tif")


def test_a_slide_that_was_exchanged_is_not_shown(finished_run: Path, tmp_path: Path):
    folder = shutil.copytree(finished_run, tmp_path / "sample")
    record = json.loads((folder / "run.json").read_text())
    record["slide_path"] = str(tmp_path / "other.tif")
    (folder / "run.json").write_text(json.dumps(record))
    write_pyramid(tmp_path / "other.tif", np.full((300, 300, 3), 240, np.uint8), 0.25)
    assert "not at hand" in Page(write_report(folder)).words


def test_label_and_macro_never_appear(tmp_path: Path):
    """An Aperio slide whose associated images are yellow, magenta and cyan."""
    path = tmp_path / "named.svs"
    tissue = np.full((512, 512, 3), 240, np.uint8)
    tissue[100:400, 100:400] = (200, 120, 170)
    colours = {"thumbnail": (255, 255, 0), "label": (255, 0, 255), "macro": (0, 255, 255)}
    with tifffile.TiffWriter(path) as tiff:
        about = "Aperio Image Library v0\r\n512x512 (64x64) RAW|AppMag = 40|MPP = 0.25"
        tiff.write(tissue, tile=(64, 64), photometric="rgb", description=about, metadata=None)
        for name, colour in colours.items():
            image = np.tile(np.array(colour, np.uint8), (64, 64, 1))
            about = f"Aperio Image Library v0\r\n{name} 64x64"
            tiff.write(
                image, photometric="rgb", description=about, metadata=None, rowsperstrip=64,
                subfiletype={"thumbnail": 0, "label": 1, "macro": 9}[name],
            )  # fmt: skip
    with wsi_engine.open_slide(path) as slide:
        assert set(slide.info.associated_images) == set(colours)
    folder = write_result(tmp_path / "out", scattered(30) / 10, measurements=measured(30))
    record = json.loads((folder / "run.json").read_text())
    record["slide"]["bounds"] |= {"width": 512, "height": 512}
    record["slide"]["fingerprint"] = fingerprint(path)
    (folder / "run.json").write_text(json.dumps(record))
    page = Page(write_report(folder, path))
    assert len(page.images) == 2 + 2 * SHOWN
    for image in [*page.images, tifffile.imread(path)]:
        for colour in colours.values():
            assert not (np.abs(image.astype(int) - colour).max(axis=2) < 60).any()


# ---------------------------------------------------------------- untrusted and poor results


def test_names_are_text(tmp_path: Path):
    folder = write_result(
        tmp_path / HOSTILE.replace("/", ""), scattered(40), classes=(HOSTILE, "Tumor"),
        labels=[0] * 20 + [1] * 10 + [-1] * 10, measurements=measured(40),
    )  # fmt: skip
    record = json.loads((folder / "run.json").read_text())
    record["warnings"] = [HOSTILE]
    record["model"]["name"] = record["slide"]["name"] = HOSTILE
    (folder / "run.json").write_text(json.dumps(record))
    measure_regions(folder)
    page = Page(write_report(folder))
    assert page.scripts == []
    assert page.words.count("alert(1)") >= 4
    assert "{{ 7*7 }}" in page.words
    assert "unclassified 10 25.0 %" in page.words


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_few_nuclei(tmp_path: Path, count: int):
    folder = write_result(tmp_path / "few", scattered(count), measurements=measured(count))
    page = Page(write_report(folder))
    assert f"{count} nuclei" in page.words
    assert "nan" not in page.words.lower()


def test_nothing_was_measured(tmp_path: Path):
    page = Page(write_report(write_result(tmp_path / "bare", scattered(9))))
    assert "Nothing was measured" in page.words
    assert "Typical nuclei" not in page.words


def test_values_that_are_missing(tmp_path: Path):
    values = measured(30)
    values["Area µm^2"][:] = np.nan
    values["Circularity"][:29] = np.nan
    page = Page(write_report(write_result(tmp_path / "gaps", scattered(30), measurements=values)))
    assert "nan" not in page.words.lower()


def test_no_result(tmp_path: Path):
    with pytest.raises(ResultError, match="no such folder"):
        write_report(tmp_path / "none")


def test_regions_of_other_nuclei_are_not_shown(tmp_path: Path):
    folder = write_result(tmp_path / "r", scattered(30), measurements=measured(30))
    assert "Regions" not in Page(write_report(folder)).words
    measure_regions(folder)
    assert "Regions region kind class mm²" in Page(write_report(folder)).words
    other = write_result(tmp_path / "other", scattered(31), measurements=measured(31))
    shutil.copy(other / "nuclei.parquet", folder)
    assert "Regions" not in Page(write_report(folder)).words


def test_unreadable_places_are_told(tmp_path: Path):
    folder = write_result(tmp_path / "u", scattered(30))
    record = json.loads((folder / "run.json").read_text())
    record["unreadable"] = [{"x_min": 0.0, "y_min": 10.0, "x_max": 256.0, "y_max": 266.0}]
    (folder / "run.json").write_text(json.dumps(record))
    page = Page(write_report(folder))
    assert "1 damaged part of the slide could not be read" in page.words
    assert "x 0 to 256, y 10 to 266" in page.words


# ---------------------------------------------------------------- which nuclei


def test_typical_and_unusual(tmp_path: Path):
    """A measurement with a tail, and one nucleus beyond everything."""
    values = measured(400)
    values["Area µm^2"][7] = 4_000
    values["Circularity"][9] = 0.01
    folder = write_result(tmp_path / "t", scattered(400), measurements=values)
    typical, unusual = choose_examples(SlideResult(folder))
    assert len(typical) == len(unusual) == SHOWN
    assert not {e.row for e in typical} & {e.row for e in unusual}
    by_row = {e.row: e.stands_out for e in unusual}
    assert by_row[7][0] == "Area µm^2"
    assert by_row[7][1] > 8
    assert by_row[9][0] == "Circularity"
    assert by_row[9][1] < 0
    reasons = [(name, score > 0) for name, score in by_row.values()]
    assert max(reasons.count(reason) for reason in reasons) <= 3
    for name, column in values.items():
        low, high = np.percentile(column, [20, 80])
        assert all(low < column[e.row] < high for e in typical), name


def test_rows_are_read_in_the_order_that_is_asked_for(finished_run: Path):
    result = SlideResult(finished_run)
    ids = pq.read_table(finished_run / "nuclei.parquet")["id"].to_pylist()
    rows = [5, 0, len(ids) - 1, 5]
    assert result.table.take(rows, ["x", "id"])["id"].to_pylist() == [ids[row] for row in rows]
    assert len(result.table.take([], ["id"])) == 0


# ---------------------------------------------------------------- doubts


@pytest.mark.parametrize(
    ("power", "mpp", "area", "level"),
    [
        (40, 0.25, 30.0, "ok"),
        (None, 0.25, 30.0, "ok"),
        (20, 0.25, 30.0, "look"),  # 20x has about 0.5 µm
        (40, 0.25, 120.0, "look"),  # 12.4 µm across
        (40, 0.25, 8.0, "look"),  # 3.2 µm across
        (20, 0.25, 120.0, "bad"),
        (40, 0.25, np.nan, "ok"),
    ],
)
def test_pixel_size(tmp_path: Path, power: float | None, mpp: float, area: float, level: str):
    areas = {"Area µm^2": np.full(9, area)}
    folder = write_result(tmp_path / "p", scattered(9), measurements=areas, mpp=mpp)
    record = json.loads((folder / "run.json").read_text())
    record["slide"]["objective_power"] = power
    (folder / "run.json").write_text(json.dumps(record))
    assert pixel_size_flag(SlideResult(folder)).level == level


@pytest.mark.parametrize(
    ("side", "level", "places"),
    [(600, "ok", 0), (800, "look", 1)],  # 0.0225 and 0.04 mm²
)
def test_tissue_without_nuclei(tmp_path: Path, side: float, level: str, places: int):
    tissue = (shapely.box(0, 0, 1000, 1000), shapely.box(2000, 0, 2000 + side, side))
    folder = write_result(tmp_path / "e", [(500, 500)], tissue=tissue)
    flag = nuclei_flag(SlideResult(folder), shapely.MultiPolygon(tissue))
    assert (flag.level, len(flag.where)) == (level, places)


def test_no_nuclei_at_all_is_bad(tmp_path: Path):
    assert nuclei_flag(SlideResult(write_result(tmp_path / "z", [])), None).level == "bad"


def test_tissue_without_nuclei_is_told_where_the_run_searched_the_whole_slide(tmp_path: Path):
    """As `measure` does: two squares of 0.09 mm², nuclei in one of them."""
    image = np.full((1024, 2048, 3), 240, np.uint8)
    image[200:800, 200:800] = image[200:800, 1200:1800] = (200, 120, 170)
    write_pyramid(tmp_path / "slide.tif", image, 0.5)
    folder = write_result(tmp_path / "out", [(500, 500)], tissue=None, mpp=0.5)
    record = json.loads((folder / "run.json").read_text())
    record["slide"]["bounds"] |= {"width": 2048, "height": 1024}
    record["slide"]["fingerprint"] = fingerprint(tmp_path / "slide.tif")
    (folder / "run.json").write_text(json.dumps(record))
    words = Page(write_report(folder, tmp_path / "slide.tif")).words
    assert "1 piece of tissue, 0.09 mm², without a nucleus" in words
    assert "0.18 mm² of tissue." in words
    (folder / "quality.json").unlink()
    assert "the run did not look for tissue" in Page(write_report(folder)).words


# ---------------------------------------------------------------- maps and charts


def test_density_is_right_up_to_the_border():
    """A lattice of 1,600 nuclei per mm², on a part of the slide."""
    frame = MapFrame(4000, 4000, Mpp(0.25, 0.25))
    places = np.arange(50, 2000, 100.0)
    anchors = np.stack(np.meshgrid(places, places), -1).reshape(-1, 2)
    found = density(frame, anchors, shapely.box(0, 0, 2000, 2000))
    inside = found[np.isfinite(found)]
    assert len(inside) == pytest.approx(found.size / 4, rel=0.02)
    np.testing.assert_allclose(inside, 1600, rtol=0.06)


def test_nuclei_in_a_small_part_of_a_large_area(tmp_path: Path):
    """Less than a hundredth of the map has a density; its peak is 1 / (2π (0.05 mm)²) = 63.7."""
    page = Page(write_report(write_result(tmp_path / "few", [(500.0, 500.0)], mpp=2.0)))
    [title] = [title for title in page.titles if title.startswith("Density of nuclei")]
    assert "from 0 to 65 per mm²" in title


def test_nuclei_outside_of_the_slide_are_not_on_the_page(tmp_path: Path):
    inside = scattered(40)
    anchors = [*inside, *(inside + SIDE_PX), *(inside - SIDE_PX)]
    labels = [0] * 40 + [1] * 80
    folder = write_result(tmp_path / "all", anchors, classes=("A", "B"), labels=labels)
    alone = write_result(tmp_path / "alone", inside, classes=("A", "B"), labels=labels[:40])
    page, as_if_alone = Page(write_report(folder)), Page(write_report(alone))
    assert "40 nuclei 40 nuclei per mm²" in page.words
    assert "A 40 100.0 % B 0 0.0 %" in page.words
    for found, expected in zip(page.images, as_if_alone.images, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_density_of_pixels_that_are_not_square():
    frame = MapFrame(4000, 2000, Mpp(0.25, 0.5))
    assert frame.width == frame.height == 1000
    anchors = np.array([[2000.0, 1000.0]])
    found = density(frame, anchors, shapely.box(0, 0, 4000, 2000))
    assert np.unravel_index(np.nanargmax(found), found.shape) == (250, 250)


@pytest.mark.parametrize(
    ("width_um", "label"), [(60, "10 µm"), (1000, "200 µm"), (3600, "500 µm"), (40_000, "5 mm")]
)
def test_scale_bars_have_round_lengths(width_um: float, label: str):
    assert label in scale_bar(1000, 800, width_um / 1000)


def test_an_axis_has_round_numbers():
    assert Axis(3, 71, 0, 340).ticks() == [20, 40, 60]
    assert Axis(0.58, 0.99, 0, 340).ticks() == pytest.approx([0.6, 0.7, 0.8, 0.9])
    assert Axis(0, 10, 20, 100).place(99) == 120


@pytest.mark.parametrize(
    ("value", "text"),
    [(14891.0, "14,891"), (0.0456789, "0.0457"), (100.0, "100"), (None, "–"), (np.nan, "–")],
)
def test_numbers(value: float | None, text: str):
    assert number(value) == text


@pytest.mark.parametrize("step", [0, 1, 3, 30])
def test_values_that_hardly_differ_can_be_drawn(step: int):
    """Values of float32 a few of its steps apart."""
    value = np.float32(0.7)
    values = np.array([value, value, value + step * np.spacing(value)], np.float32)
    assert "nan" not in histogram(distribution("Area µm^2", "µm^2", values), values).lower()


def test_attributes_are_escaped():
    assert tag("text", "<b>", stroke='"><script>') == (
        '<text stroke="&#34;&gt;&lt;script&gt;">&lt;b&gt;</text>'
    )


def test_colours_are_told_apart_without_hue():
    """Viridis grows lighter all along; classes differ in lightness or are far apart."""
    light = viridis(np.linspace(0, 1, 50)) @ np.array([0.299, 0.587, 0.114])
    assert (np.diff(light) > 0).all()
    names = [f"class {k}" for k in range(10)]
    colours = list(class_colours(names).values())
    assert colours[:8] == list(OKABE_ITO)
    assert len(set(colours[8:])) == 1


# ---------------------------------------------------------------- the command line, and run


def test_the_command(finished_run: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as end:
        main(["report", str(finished_run)])
    assert not end.value.code
    assert f"file: {finished_run / 'report.html'}" in capsys.readouterr().out


def test_a_run_without_a_page(sample: SampleTruth, tmp_path: Path):
    x, y = sample.field.x_min, sample.field.y_min
    roi = write_annotations_by_hand(tmp_path / "roi.geojson", shapely.box(x, y, x + 99, y + 99))
    result = wsi_engine.run(sample.slide_path, tmp_path, model="watershed", roi=roi, report=False)
    assert result.folder is not None
    assert not {"report.html", "quality.json"} & {p.name for p in result.folder.iterdir()}


def test_a_page_that_fails_does_not_fail_the_run(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with (
        caplog.at_level(logging.WARNING, "wsi_engine"),
        ResultFolder(tmp_path, "none") as held,
    ):
        report_on(held)
    assert "no report.html" in caplog.text


def test_no_defect_of_a_page_fails_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    def broken(*_: object) -> None:
        raise ValueError("math domain error")

    monkeypatch.setattr("wsi_engine.report.slide.headline", broken)
    write_result(tmp_path / "r", scattered(9))
    with caplog.at_level(logging.WARNING, "wsi_engine"), ResultFolder(tmp_path, "r") as held:
        report_on(held)
    assert "no report.html: ValueError: math domain error" in caplog.text


def test_finest_outline_of_a_map():
    frame = replace(MapFrame(1000, 1000, Mpp(0.5, 0.5)), width_px=2000)
    assert (frame.width, frame.height) == (1000, 500)
    ring = shapely.Point(500, 500).buffer(400, quad_segs=500)
    assert frame.outline((ring,)).count(" ") < 200


def test_a_new_result_takes_the_old_page_with_it(sample: SampleTruth, tmp_path: Path):
    x, y = sample.field.x_min, sample.field.y_min
    roi = write_annotations_by_hand(tmp_path / "roi.geojson", shapely.box(x, y, x + 99, y + 99))
    settings = {"model": "watershed", "roi": roi}
    folder = wsi_engine.run(sample.slide_path, tmp_path, **settings).folder
    assert folder is not None
    assert (folder / "report.html").exists()
    wsi_engine.run(sample.slide_path, tmp_path, **settings, report=False, force=True)
    assert not (folder / "report.html").exists()
    assert not (folder / "quality.json").exists()
