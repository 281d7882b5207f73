"""What other packages bring, from packages that are really installed: models, readers, exports."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.support.plugins import install_package, with_packages
from wsi_engine import open_slide, run
from wsi_engine.phantom import lay_out_tissue, render_tissue, scatter_nuclei
from wsi_engine.slide.frames import LevelBox
from wsi_engine.slide.pyramid import write_pyramid

SETTINGS = {"tile_size": 192, "tissue": False, "regions": False, "report": False}

OPTIONS = ["--tile-size", "192", "--no-tissue", "--no-regions", "--no-report"]

WATERSHED = ["--model", "watershed", *OPTIONS]

ROOT = Path(__file__).parents[1]

PAGES = [(ROOT / page).read_text(encoding="utf-8") for page in ("README.md", "docs/models.md")]

READER = """
    import json

    import numpy as np
    from PIL import Image

    from wsi_engine.closing import Closing
    from wsi_engine.slide.frames import Level0Box, Mpp
    from wsi_engine.slide.protocol import Level, SlideInfo
    from wsi_engine.slide.readers import Reader


    class TiledFolder(Closing):
        def __init__(self, path):
            about = json.loads((path / "tiles.json").read_text())
            width, height = about["size"]
            self._path, self._side = path, about["side"]
            self.info = SlideInfo(
                path, "toy", (Level(0, width, height, 1.0),), Level0Box(0, 0, width, height),
                Mpp(about["mpp"], about["mpp"]), "tiles.json", None, 1, (),
            )

        def read(self, level, box):
            side, region = self._side, np.full((box.height, box.width, 3), 255, np.uint8)
            for row in range(max(0, box.y // side), (box.y + box.height - 1) // side + 1):
                for column in range(max(0, box.x // side), (box.x + box.width - 1) // side + 1):
                    path = self._path / f"{row}_{column}.png"
                    if not path.exists():
                        continue
                    tile = np.asarray(Image.open(path))
                    y, x = row * side - box.y, column * side - box.x
                    top, left = max(0, y), max(0, x)
                    part = tile[top - y : box.height - y, left - x : box.width - x]
                    region[top : top + part.shape[0], left : left + part.shape[1]] = part
            return region

        def close(self):
            pass


    TILES = Reader(
        "tiled-folder",
        lambda path: path.is_dir() and (path / "tiles.json").exists(),
        TiledFolder,
        takes_folders=True,
    )
    """

EXPORT = """
    import json

    from wsi_engine.export.formats import Format


    def write(run, path, options):
        key = options.others.get("key", "nuclei")
        path.write_text(json.dumps({key: len(run)}))
        return [path]


    COUNT = Format(write, (".count.json",), "the number of nuclei", "people", frozenset({"key"}))
    """


def documented_model() -> tuple[str, dict[str, dict[str, str]]]:
    """Return the model of README.md, and the entry points that docs/models.md states."""
    blocks = re.findall(r"```(python|toml)\n(.*?)```", "\n".join(PAGES), re.DOTALL)
    (source,) = [text for kind, text in blocks if "we.ModelEntry(" in text]
    (about,) = [text for kind, text in blocks if kind == "toml"]
    return source, tomllib.loads(about)["project"]["entry-points"]


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a model, a reader and an export are installed."""
    folder = tmp_path_factory.mktemp("packages")
    install_package(folder, "dark-spots", *documented_model())
    reader = {"wsi_engine.readers": {"tiled-folder": "tiled_folder:TILES"}}
    install_package(folder, "tiled-folder", READER, reader)
    export = {"wsi_engine.exports": {"count": "count_export:COUNT"}}
    return install_package(folder, "count-export", EXPORT, export)


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("slide") / "slide.tif"
    rng = np.random.default_rng(3)
    tissue = lay_out_tissue((768, 768), 0.25, rng)
    pixels = render_tissue((768, 768), scatter_nuclei(tissue, rng), 0.25, rng, tissue)
    write_pyramid(path, pixels, 0.25)
    return path


def command(packages: Path, *arguments: object) -> str:
    """Run a command with the packages; return all that it prints."""
    done = with_packages(packages, "-m", "wsi_engine", *map(str, arguments))
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


# --- a model ----------------------------------------------------------------------------------


def test_the_documented_model_is_at_most_40_lines():
    source, _ = documented_model()
    assert len(source.splitlines()) <= 40


def test_the_documented_model_keeps_its_promises(packages):
    code = "import wsi_engine as we; print(we.check_model('dark-spots'))"
    done = with_packages(packages, "-c", code)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_an_installed_model_runs_by_name_and_as_an_object(packages, slide, tmp_path):
    assert "dark-spots" in command(packages, "models")
    options = ["--model", "dark-spots", *OPTIONS]
    command(packages, "run", slide, "-o", tmp_path, *options)
    record = json.loads((tmp_path / "slide" / "run.json").read_text(encoding="utf-8"))
    assert record["model"]["name"] == "dark-spots"
    assert record["basis"]["package of the model"] == "dark-spots 1.0"
    assert record["nuclei"]["count"] > 100
    code = f"""
import dark_spots, wsi_engine as we
slide, output = {str(slide)!r}, {str(tmp_path / "object")!r}
print(we.run(slide, output, model=dark_spots.DarkSpots(), **{SETTINGS}).count)
"""
    assert with_packages(packages, "-c", code).stdout == f"{record['nuclei']['count']}\n"
    named, given = (tmp_path / part / "nuclei.geojson.gz" for part in ("slide", "object/slide"))
    assert named.read_bytes() == given.read_bytes()


# --- a reader ---------------------------------------------------------------------------------


def write_tiled_folder(path: Path, slide: Path) -> Path:
    """Write the pixels of a slide as a folder of PNG tiles."""
    path.mkdir(parents=True)
    with open_slide(slide) as opened:
        width, height, mpp = opened.info.width, opened.info.height, opened.info.mpp
        pixels = opened.read(0, LevelBox(0, 0, width, height))
    for y in range(0, height, 500):
        for x in range(0, width, 500):
            tile = Image.fromarray(pixels[y : y + 500, x : x + 500])
            tile.save(path / f"{y // 500}_{x // 500}.png")
    about = {"size": [width, height], "side": 500, "mpp": mpp.x}
    (path / "tiles.json").write_text(json.dumps(about), encoding="utf-8")
    return path


def test_a_folder_that_a_reader_takes_is_a_slide(packages, slide, tmp_path):
    tiles = write_tiled_folder(tmp_path / "slides" / "deep" / "patient.tiles", slide)
    assert "toy" in command(packages, "info", tiles)
    command(packages, "run", tiles, "-o", tmp_path / "one", *WATERSHED)
    run(slide, tmp_path / "tif", model="watershed", **SETTINGS)
    found = pq.read_table(tmp_path / "one" / "patient" / "nuclei.parquet")
    expected = pq.read_table(tmp_path / "tif" / "slide" / "nuclei.parquet")
    assert len(found) > 100
    assert found["geometry"] == expected["geometry"]
    record = json.loads((tmp_path / "one" / "patient" / "run.json").read_text(encoding="utf-8"))
    assert record["basis"]["package of the reader"] == "tiled-folder 1.0"


def test_an_archive_takes_such_a_folder_as_one_slide(packages, slide, tmp_path):
    write_tiled_folder(tmp_path / "slides" / "deep" / "patient.tiles", slide)
    line = ["run", tmp_path / "slides", "-o", tmp_path / "out", *WATERSHED]
    command(packages, *line)
    found = [path.parent.name for path in (tmp_path / "out").glob("*/run.json")]
    assert found == ["patient"]
    record = tmp_path / "out" / "patient" / "run.json"
    before = record.stat().st_mtime_ns
    command(packages, *line)
    assert record.stat().st_mtime_ns == before, "done twice"


# --- an export --------------------------------------------------------------------------------


def test_an_installed_export_writes_by_its_name_with_an_option_of_its_own(
    packages, finished_run, tmp_path
):
    path = tmp_path / "x.count.json"
    command(packages, "export", finished_run, "--to", "count", "-o", path, "--option", "key=n")
    count = len(pq.read_table(finished_run / "nuclei.parquet"))
    assert json.loads(path.read_text(encoding="utf-8")) == {"n": count}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--to", "coun"], "there is no format 'coun': give one of geoparquet, .*, count"),
        (["--to", "count", "--option", "kee=n"], "kee is no option of count: leave it out"),
        (["--to", "count", "--option", "key"], "--option key: give name=value"),
        (["--to", "labels", "--option", "mpp=1"], "mpp has an option of its own: give --mpp"),
    ],
)
def test_a_wrong_use_of_exports_is_one_sentence(packages, finished_run, arguments, words):
    done = with_packages(packages, "-m", "wsi_engine", "export", str(finished_run), *arguments)
    assert done.returncode == 1
    assert re.fullmatch(f"error: {words}\n", done.stderr), done.stderr


# --- packages that are broken -----------------------------------------------------------------

BROKEN = {
    "absent-import": ("import no_such_module", {"absent": "absent_import:ENTRY"}),
    "not-an-entry": ("ENTRY = 'dark'", {"text": "not_an_entry:ENTRY"}),
    "exits-at-once": ("import sys\nsys.exit(3)", {"exits": "exits_at_once:ENTRY"}),
    "thief": ("import dark_spots\nENTRY = dark_spots.ENTRY", {"watershed": "thief:ENTRY"}),
    "namesake": ("import dark_spots\nENTRY = dark_spots.ENTRY", {"other": "namesake:ENTRY"}),
    "twin": ("import dark_spots\nENTRY = dark_spots.ENTRY", {"dark-spots": "twin:ENTRY"}),
}

SENTENCES = {
    "absent": "model 'absent' of the package absent-import 1.0 cannot be used "
    "(ModuleNotFoundError: No module named 'no_such_module'): update or uninstall it",
    "text": "model 'text' of the package not-an-entry 1.0 cannot be used (it is a str, not a "
    "ModelEntry): update or uninstall it",
    "exits": "model 'exits' of the package exits-at-once 1.0 cannot be used (SystemExit: 3): "
    "update or uninstall it",
    "watershed": "model 'watershed' of the package thief 1.0 is passed over: wsi_engine has one "
    "of that name",
    "other": "model 'other' of the package namesake 1.0 cannot be used (it calls itself "
    "'dark-spots'): update or uninstall it",
    "dark-spots": "model 'dark-spots' is in the packages dark-spots 1.0 and twin 1.0: uninstall "
    "all but one",
}


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("broken")
    install_package(folder, "dark-spots", *documented_model())
    for name, (source, points) in BROKEN.items():
        install_package(folder, name, source, {"wsi_engine.models": points})
    readers = {"wsi_engine.readers": {"absent": "absent_import:READER"}}
    return install_package(folder, "absent-import-too", "import no_such_module", readers)


def test_broken_packages_are_named_and_the_other_models_are_listed(broken):
    listed = command(broken, "models")
    assert all(name in listed for name in ("starconvex", "watershed", "hovernet_fast-pannuke"))
    warnings = [line for line in listed.splitlines() if line.startswith("warning: ")]
    assert sorted(warnings) == sorted(f"warning: {sentence}" for sentence in SENTENCES.values())


@pytest.mark.parametrize("name", [name for name in SENTENCES if name != "watershed"])
def test_a_broken_model_that_is_asked_for_is_one_sentence(broken, slide, tmp_path, name):
    line = ["-m", "wsi_engine", "run", str(slide), "-o", str(tmp_path), "--model", name]
    done = with_packages(broken, *line)
    assert done.returncode == 1
    assert done.stderr == f"error: {SENTENCES[name]}\n"


def test_broken_packages_do_not_stop_a_run(broken, slide, tmp_path):
    said = command(broken, "run", slide, "-o", tmp_path, *WATERSHED)
    assert "nuclei" in said
    assert "warning" not in said, "OpenSlide takes the slide: nobody else is asked"


def test_a_broken_reader_is_named_where_it_would_have_been_asked(broken, slide, tmp_path):
    Image.fromarray(np.full((64, 64, 3), 255, np.uint8)).save(tmp_path / "plain.png")
    said = command(broken, "info", tmp_path / "plain.png")
    assert (
        "warning: reader 'absent' of the package absent-import-too 1.0 cannot be used "
        "(ModuleNotFoundError: No module named 'no_such_module'): update or uninstall it\n" in said
    )
    assert "plain image" in said
