"""What a user types, and what they get for it; above all when something is wrong."""

from __future__ import annotations

import errno
import gzip
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.support.slides import overwrite_place, real_slide
from wsi_engine.archive.inputs import ListedSlide
from wsi_engine.archive.register import Register
from wsi_engine.cli import ExitCode, main
from wsi_engine.doctor import Finding
from wsi_engine.models.registry import available_models
from wsi_engine.models.watershed import Watershed
from wsi_engine.qupath.writer import GeoJSONWriter
from wsi_engine.results.failure import Failure, write_failure
from wsi_engine.results.layout import WORK
from wsi_engine.sample import SampleTruth


def run_cli(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return int(end.value.code or 0), printed.out, printed.err


def assert_clear_error(code: int, err: str, *words: str) -> None:
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert code == 1
    assert len(lines) == 1
    assert "Traceback" not in err
    for word in words:
        assert word in lines[0]


# --- what works -----------------------------------------------------------------------------


def test_run_writes_its_files_and_says_so(capsys, sample: SampleTruth, tmp_path: Path):
    code, out, _ = run_cli(capsys, "run", sample.slide_path, "-o", tmp_path)
    folder = tmp_path / "sample"
    assert code == 0
    result = {"columns.json", "nuclei.geojson.gz", "nuclei.parquet", "run.json", "tissue.geojson"}
    regions = {"regions.csv", "regions.geojson", "regions.parquet", "regions_columns.json"}
    page = {"report.html", "quality.json", "thumbnail.jpg"}
    assert {path.name for path in folder.iterdir()} == result | regions | page
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    features = json.loads(gzip.decompress((folder / "nuclei.geojson.gz").read_bytes()))["features"]
    assert len(features) == record["nuclei"]["count"] > 100
    assert f"{len(features):,}" in out
    assert {"Area µm^2", "Circularity"} <= features[0]["properties"]["measurements"].keys()
    assert {"slide", "settings", "versions", "stages", "model", "warnings"} <= record.keys()


def test_evaluate_says_how_good_the_sample_came_out(capsys, sample: SampleTruth, tmp_path: Path):
    run_cli(capsys, "run", sample.slide_path, "-o", tmp_path)
    found = tmp_path / "sample" / "nuclei.geojson.gz"
    code, out, _ = run_cli(capsys, "evaluate", found, sample.truth_path)
    assert code == 0
    f1 = float(out.split("F1 at IoU 0.5")[1].split()[0])
    assert 0.9 < f1 <= 1


def test_evaluate_takes_the_pixel_size_of_a_result(capsys, sample: SampleTruth, tmp_path: Path):
    run_cli(capsys, "run", sample.slide_path, "-o", tmp_path)
    folder = tmp_path / "sample"
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    record["slide"]["mpp"] = {"x": 0.5, "y": 0.5}
    (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")

    def diameters(*more: object) -> list[dict[str, object]]:
        _, out, _ = run_cli(capsys, "evaluate", folder, sample.truth_path, "--json", *more)
        return json.loads(out)["recall_by_diameter"]

    assert diameters() == diameters("--mpp", 0.5) != diameters("--mpp", 0.25)


def test_a_folder_of_slides_and_a_pattern(capsys, sample: SampleTruth, tmp_path: Path):
    slides = tmp_path / "slides"
    (slides / "deeper").mkdir(parents=True)
    shutil.copy(sample.slide_path, slides / "one.tif")
    shutil.copy(sample.slide_path, slides / "deeper" / "two.tif")
    code, *_ = run_cli(capsys, "run", slides, "-o", tmp_path / "a", "--tile-size", 512)
    assert code == 0
    of_archive = {".archive", "archive.sqlite", "summary.csv"}
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"one", "two", *of_archive}
    code, *_ = run_cli(capsys, "run", f"{slides}/*.tif", "-o", tmp_path / "b")
    assert code == 0
    assert {path.name for path in (tmp_path / "b").iterdir()} == {"one", *of_archive}


def test_one_bad_slide_does_not_stop_the_others(capsys, sample: SampleTruth, tmp_path: Path):
    bad = tmp_path / "bad.svs"
    bad.write_text("no slide")
    code, _, err = run_cli(capsys, "run", bad, sample.slide_path, "-o", tmp_path / "out")
    assert_clear_error(code, err, "bad.svs", "not a slide")
    assert (tmp_path / "out" / "sample" / "run.json").exists()
    assert [path.name for path in (tmp_path / "out" / "bad").iterdir()] == ["failed.json"]
    assert err.rstrip().endswith(f"1 slide failed; the reasons are in {tmp_path}/out/summary.csv")


def test_split_files_hold_all_nuclei_once(capsys, sample: SampleTruth, tmp_path: Path):
    run_cli(capsys, "run", sample.slide_path, "-o", tmp_path, "--split", 100)
    ids = []
    for path in sorted((tmp_path / "sample").glob("nuclei_*.geojson.gz")):
        features = json.loads(gzip.decompress(path.read_bytes()))["features"]
        assert 0 < len(features) <= 100
        ids += [feature["id"] for feature in features]
    record = json.loads((tmp_path / "sample" / "run.json").read_text(encoding="utf-8"))
    assert len(ids) == len(set(ids)) == record["nuclei"]["count"]


def test_roi_bounds_the_nuclei(capsys, sample: SampleTruth, tmp_path: Path):
    field = sample.field
    left, top = field.x_min + 200, field.y_min + 200
    roi = _roi(tmp_path / "roi.geojson", left, top, 400)
    code, *_ = run_cli(capsys, "run", sample.slide_path, "-o", tmp_path, "--roi", roi)
    assert code == 0
    text = gzip.decompress((tmp_path / "sample" / "nuclei.geojson.gz").read_bytes())
    rings = [f["geometry"]["coordinates"][0] for f in json.loads(text)["features"]]
    assert len(rings) > 10
    for ring in rings:
        x, y = np.mean(ring[:-1], axis=0)
        assert left - 30 < x < left + 430
        assert top - 30 < y < top + 430


def test_a_plain_image_with_mpp(capsys, tmp_path: Path, sample: SampleTruth):
    pixels = tifffile.imread(sample.slide_path)
    x, y = int(sample.field.x_min), int(sample.field.y_min)
    Image.fromarray(pixels[y : y + 800, x : x + 800]).save(tmp_path / "field.png")
    code, _, err = run_cli(capsys, "run", tmp_path / "field.png", "-o", tmp_path / "out")
    assert_clear_error(code, err, "--mpp")
    code, *_ = run_cli(capsys, "run", tmp_path / "field.png", "-o", tmp_path / "out", "--mpp", 0.25)
    assert code == 0


def test_a_preset_file_and_an_option_that_wins(capsys, sample: SampleTruth, tmp_path: Path):
    preset = tmp_path / "preset.yaml"
    preset.write_text("tile_size: 256\nworkers: 1\n")
    run_cli(capsys, "run", sample.slide_path, "-o", tmp_path, "--config", preset, "--workers", 2)
    settings = json.loads((tmp_path / "sample" / "run.json").read_text("utf-8"))["settings"]
    assert (settings["tile_size"], settings["workers"]) == (256, 2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["models"], ["starconvex", "watershed", "hovernet", "Apache-2.0", "CC BY-NC-SA"]),
        (["models"], ["fcn_resnet50_unet-bcss", "fcn-tissue_mask", "--regions-model"]),
        (["doctor"], ["torch", "openslide", "bf16", "compiler", "tiatoolbox"]),
        (["--help"], ["run", "info", "models", "doctor", "sample", "evaluate"]),
        (["run", "--help"], ["--roi", "--mpp", "--device", "--batch-size", "--tile-size"]),
    ],
)
def test_commands_that_inform(capsys, arguments: list[str], words: list[str]):
    code, out, _ = run_cli(capsys, *arguments)
    assert code == 0
    for word in words:
        assert word in out


def test_models_say_where_their_weights_are_from(capsys):
    _, out, _ = run_cli(capsys, "models")
    told = dict(re.findall(r"^(\S+)\n(?: .*\n)*? weights +(.*?) *$", out, re.MULTILINE))
    for name in ("starconvex", "unet", "mask-rcnn"):
        assert told[name] == "come with the package, or --weights FILE"
    assert told["watershed"] == told["threshold"] == "none needed"
    assert told["ensemble"] == "those of the methods that vote"
    assert told["hovernet_fast-pannuke"] == "downloaded when first used, or --weights FILE"
    assert told.keys() >= available_models().keys()


def test_doctor_shows_how_to_install_extras(capsys, monkeypatch):
    """The bracket is no markup."""
    advice = "pip install 'a[b]'"
    monkeypatch.setattr("wsi_engine.doctor.examine", lambda: [Finding("a", "none", advice)])
    code, out, _ = run_cli(capsys, "doctor")
    assert code == 0
    assert advice in out


def test_verify_of_a_folder_without_results_is_an_error(capsys, tmp_path: Path):
    code, _, err = run_cli(capsys, "verify", tmp_path)
    assert_clear_error(code, err, "holds no results")


def test_status_counts_what_is_not_begun_and_says_why_slides_failed(capsys, tmp_path: Path):
    slides = [ListedSlide(str(tmp_path / f"{name}.svs")) for name in ("bad", "later", "now")]
    Register(tmp_path).enter(slides)
    reason = Failure("bad.svs is not a slide", "SlideError", 1, "2026-01-01T00:00:00", "host", "")
    (tmp_path / "bad").mkdir()
    write_failure(tmp_path / "bad", reason)
    (tmp_path / "now" / WORK).mkdir(parents=True)
    code, out, _ = run_cli(capsys, "status", tmp_path)
    assert code == 0
    assert "bad: bad.svs is not a slide" in out
    assert "1 failed, 1 empty (begun, but nothing is kept yet), 1 not begun" in out


def test_scripts_and_presets_come_with_the_engine(capsys, tmp_path: Path):
    for command, name in (("qupath-scripts", "import_results.groovy"), ("configs", "default.yaml")):
        code, out, _ = run_cli(capsys, command, tmp_path)
        assert code == 0
        assert (tmp_path / name).is_file()
        assert name in out


def test_info_of_a_real_slide(capsys):
    code, out, _ = run_cli(capsys, "info", real_slide("CMU-1-Small-Region.svs"))
    assert code == 0
    for word in ["aperio", "2220 x 2967", "0.499", "20x", "label, macro", "mm²"]:
        assert word in out


def test_plain_lines_where_there_is_no_terminal(sample: SampleTruth, tmp_path: Path):
    command = [sys.executable, "-m", "wsi_engine", "run", sample.slide_path, "-o", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "finding nuclei" in done.stderr
    assert "\x1b" not in done.stderr + done.stdout


# --- what is wrong --------------------------------------------------------------------------


def test_no_such_file(capsys, tmp_path: Path):
    code, _, err = run_cli(capsys, "run", tmp_path / "absent.svs", "-o", tmp_path / "out")
    assert_clear_error(code, err, "absent.svs", "no such file")
    assert not (tmp_path / "out").exists()


def test_not_a_slide(capsys, tmp_path: Path):
    (tmp_path / "text.svs").write_text("not a slide at all")
    code, _, err = run_cli(capsys, "run", tmp_path / "text.svs", "-o", tmp_path / "out")
    assert_clear_error(code, err, "text.svs", "not a slide")
    assert not (tmp_path / "out").exists()


def test_truncated_slide(capsys, tmp_path: Path):
    whole = real_slide("CMU-1-Small-Region.svs").read_bytes()
    (tmp_path / "cut.svs").write_bytes(whole[: len(whole) // 2])
    code, _, err = run_cli(capsys, "run", tmp_path / "cut.svs", "-o", tmp_path / "out")
    assert_clear_error(code, err, "cut.svs")
    assert not (tmp_path / "out").exists()


def test_slide_without_mpp(capsys, tmp_path: Path):
    slide = real_slide("TCGA-CR-7395-01A-01-TS1_crop.svs")
    code, _, err = run_cli(capsys, "run", slide, "-o", tmp_path / "out")
    assert_clear_error(code, err, slide.name, "--mpp")
    assert not (tmp_path / "out" / slide.stem).exists()


@pytest.mark.parametrize("mpp", ["0", "-1", "nan", "1000"])
def test_absurd_mpp(capsys, sample: SampleTruth, tmp_path: Path, mpp: str):
    code, _, err = run_cli(capsys, "run", sample.slide_path, "-o", tmp_path / "out", "--mpp", mpp)
    assert_clear_error(code, err, "--mpp", "µm")


def test_glass_without_tissue(capsys, tmp_path: Path):
    Image.new("RGB", (800, 600), (242, 241, 243)).save(tmp_path / "glass.png")
    code, _, err = run_cli(
        capsys, "run", tmp_path / "glass.png", "-o", tmp_path / "out", "--mpp", 0.25
    )
    assert_clear_error(code, err, "no tissue", "--no-tissue")
    assert not (tmp_path / "out" / "glass").exists()


def test_glass_without_nuclei_is_a_result(capsys, tmp_path: Path):
    Image.new("RGB", (800, 600), (242, 241, 243)).save(tmp_path / "glass.png")
    code, *_ = run_cli(
        capsys, "run", tmp_path / "glass.png", "-o", tmp_path, "--mpp", 0.25, "--no-tissue"
    )
    assert code == 0
    text = gzip.decompress((tmp_path / "glass" / "nuclei.geojson.gz").read_bytes())
    assert json.loads(text) == {"type": "FeatureCollection", "features": []}


def test_roi_outside_the_slide(capsys, sample: SampleTruth, tmp_path: Path):
    roi = _roi(tmp_path / "far.geojson", 1e6, 1e6, 100)
    code, _, err = run_cli(capsys, "run", sample.slide_path, "-o", tmp_path / "out", "--roi", roi)
    assert_clear_error(code, err, "far.geojson", "outside")
    assert not (tmp_path / "out" / "sample").exists()


def test_roi_that_is_not_geojson(capsys, sample: SampleTruth, tmp_path: Path):
    roi = tmp_path / "roi.geojson"
    roi.write_text('{"type": "FeatureCollection", "features": [{"type": "Feature"}]}')
    code, _, err = run_cli(capsys, "run", sample.slide_path, "-o", tmp_path / "out", "--roi", roi)
    assert_clear_error(code, err, "roi.geojson", "feature 0")


def test_output_that_cannot_be_a_folder(capsys, sample: SampleTruth, tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    code, _, err = run_cli(capsys, "run", sample.slide_path, "-o", tmp_path / "file")
    assert_clear_error(code, err, "cannot write")


def test_disk_full(capsys, sample: SampleTruth, tmp_path: Path, monkeypatch):
    def write(self: GeoJSONWriter, features: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(GeoJSONWriter, "write", write)
    code, _, err = run_cli(capsys, "run", sample.slide_path, "-o", tmp_path)
    assert_clear_error(code, err, "disk is full")
    assert not list((tmp_path / "sample").glob("nuclei*"))
    assert not (tmp_path / "sample" / "run.json").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="file size limits are of POSIX")
def test_a_file_that_may_not_grow(sample: SampleTruth, tmp_path: Path):
    limited = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000)); "
        "from wsi_engine.cli import main; main(sys.argv[1:])"
    )
    command = [sys.executable, "-c", limited, "run", sample.slide_path, "-o", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "error: cannot write to" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "sample").glob("nuclei*"))


def test_unknown_model_names_the_nearest(capsys, sample: SampleTruth, tmp_path: Path):
    code, _, err = run_cli(
        capsys, "run", sample.slide_path, "-o", tmp_path / "out", "--model", "watersheds"
    )
    assert_clear_error(code, err, "watersheds", "did you mean 'watershed'")
    assert not (tmp_path / "out").exists()


def test_cuda_asked_for_and_absent(capsys, sample: SampleTruth, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    code, _, err = run_cli(
        capsys, "run", sample.slide_path, "-o", tmp_path / "out", "--device", "cuda"
    )
    assert_clear_error(code, err, "cuda", "--device cpu")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("option", "value", "word"),
    [
        ("--device", "gpu", "device"),
        ("--batch-size", "0", "--batch-size"),
        ("--workers", "many", "--workers"),
        ("--tile-size", "3", "tile_size"),
        ("--split", "0", "split"),
        ("--config", "absent.yaml", "absent.yaml"),
    ],
)
def test_settings_that_cannot_work(
    capsys, sample: SampleTruth, tmp_path: Path, option: str, value: str, word: str
):
    code, _, err = run_cli(capsys, "run", sample.slide_path, "-o", tmp_path / "out", option, value)
    assert_clear_error(code, err, word)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", [None, "steps: many\n", "- a\n", "steps: [\n"])
def test_a_recipe_that_cannot_be_used(capsys, tmp_path: Path, text: str | None):
    recipe = tmp_path / "recipe.yaml"
    if text is not None:
        recipe.write_text(text)
    code, _, err = run_cli(capsys, "train", recipe)
    assert_clear_error(code, err, "recipe.yaml")


def test_a_preset_with_an_unknown_setting(capsys, sample: SampleTruth, tmp_path: Path):
    preset = tmp_path / "preset.yaml"
    preset.write_text("tilesize: 256\n")
    code, _, err = run_cli(
        capsys, "run", sample.slide_path, "-o", tmp_path / "out", "--config", preset
    )
    assert_clear_error(code, err, "tilesize", "tile_size")


def test_a_batch_that_does_not_fit_is_halved(
    capsys, sample: SampleTruth, tmp_path: Path, monkeypatch
):
    whole = Watershed.maps

    def small_device(self: Watershed, batch: np.ndarray) -> np.ndarray:
        if len(batch) > 2:
            raise MemoryError
        return whole(self, batch)

    arguments = ("run", sample.slide_path, "--model", "watershed")
    arguments += ("--tile-size", 256, "--batch-size", 8, "-o")
    run_cli(capsys, *arguments, tmp_path / "large")
    monkeypatch.setattr(Watershed, "maps", small_device)
    code, _, err = run_cli(capsys, *arguments, tmp_path / "small")
    assert code == 0
    assert "batches of 2" in err
    for name in ("nuclei.geojson.gz", "nuclei.parquet"):
        small, large = (tmp_path / size / "sample" / name for size in ("small", "large"))
        assert small.read_bytes() == large.read_bytes()


def test_a_model_that_fails_leaves_nothing_half_written(
    capsys, sample: SampleTruth, tmp_path: Path, monkeypatch
):
    def broken(self: Watershed, maps: np.ndarray) -> None:
        raise ValueError("broken model")

    monkeypatch.setattr(Watershed, "decode", broken)
    options = ["-o", tmp_path / "out", "--model", "watershed"]
    code, _, err = run_cli(capsys, "run", sample.slide_path, *options)
    assert_clear_error(code, err, "decoding failed at tile ", "ValueError: broken model")
    assert not (tmp_path / "out" / "sample").exists()


def test_a_damaged_tile_is_reported_and_the_rest_is_done(
    capsys, sample: SampleTruth, tmp_path: Path
):
    slide = tmp_path / "damaged.tif"
    _damage(sample, slide)
    code, _, err = run_cli(capsys, "run", slide, "-o", tmp_path, "--tile-size", 256)
    assert code == ExitCode.DAMAGED
    assert "damaged region" in err
    record = json.loads((tmp_path / "damaged" / "run.json").read_text(encoding="utf-8"))
    whole = json.loads(_run_record(capsys, sample, tmp_path).read_text(encoding="utf-8"))
    assert len(record["unreadable"]) >= 1
    lost = whole["nuclei"]["count"] - record["nuclei"]["count"]
    assert 0 < lost < 0.35 * whole["nuclei"]["count"]


@pytest.mark.skipif(sys.platform == "win32", reason="sends a POSIX signal")
def test_ctrl_c_leaves_nothing_half_written(sample: SampleTruth, tmp_path: Path):
    command = [sys.executable, "-m", "wsi_engine", "run", sample.slide_path, "-o", tmp_path]
    process = subprocess.Popen(
        [*command, "--tile-size", "64", "--workers", "1"],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "finding nuclei" in line:
            break
    process.send_signal(signal.SIGINT)
    rest = process.stderr.read()
    assert process.wait() == ExitCode.INTERRUPTED
    assert "error: interrupted" in rest
    assert "Traceback" not in rest
    left = {path.name for path in tmp_path.glob("sample/*")}
    assert left <= {".work"}


def _run_record(capsys, sample: SampleTruth, tmp_path: Path) -> Path:
    run_cli(capsys, "run", sample.slide_path, "-o", tmp_path, "--tile-size", 256)
    return tmp_path / "sample" / "run.json"


def _damage(sample: SampleTruth, copy: Path) -> None:
    """Overwrite one tile, in the middle of the generated field, of every level that shows it."""
    shutil.copy(sample.slide_path, copy)
    x, y = (sample.field.x_min + sample.field.x_max, sample.field.y_min + sample.field.y_max)
    overwrite_place(copy, 1, int(x / 4 / 256), int(y / 4 / 256))


def _roi(path: Path, left: float, top: float, side: float) -> Path:
    right, bottom = left + side, top + side
    ring = [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]
    feature = {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"objectType": "annotation"},
    }
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    return path
