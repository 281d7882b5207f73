"""A slide that is taken away, changed or misnamed; a reader or a model that fails half-way."""

from __future__ import annotations

import itertools
import math
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wsi_engine
from tests.support.runs import SETTINGS, TILES_IN_PART, outputs, write_small_slide
from tests.support.slides import overwrite_place
from wsi_engine.errors import ModelError, SlideChangedError, SlideError, TileError
from wsi_engine.models.watershed import Watershed
from wsi_engine.phantom import lay_out_tissue, render_tissue, scatter_nuclei
from wsi_engine.results.verify import problems_of
from wsi_engine.slide.finding import find_slides
from wsi_engine.slide.grid_reader import GridReader
from wsi_engine.slide.pyramid import write_pyramid
from wsi_engine.store import tile_store


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_slide(tmp_path_factory.mktemp("slides") / "small.tif")


@pytest.fixture(scope="module")
def expected(original: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = wsi_engine.run(original, tmp_path_factory.mktemp("expected"), **SETTINGS).folder
    assert folder is not None
    return outputs(folder)


@pytest.fixture
def slide(original: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "small.tif"
    copy.write_bytes(original.read_bytes())
    return copy


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tile_store, "MOST_TILES_IN_PART", TILES_IN_PART)


def at_tile(number: int, act: Callable[[], object]) -> Callable[[wsi_engine.Progress], None]:
    """Do something once, when so many tiles are through."""
    once = iter([act])

    def observe(progress: wsi_engine.Progress) -> None:
        if progress.stage == "nuclei" and progress.tiles == number:
            for do in once:
                do()

    return observe


# --- The file of the slide ----------------------------------------------------------------------


def test_a_slide_that_vanishes_is_an_error_and_the_run_goes_on_when_it_is_back(
    slide, expected, tmp_path, monkeypatch
):
    # However slow the disk is, it is looked at again after every tile.
    monkeypatch.setattr("wsi_engine.slide.fingerprint.MOST_TIME_WATCHING", math.inf)
    aside = tmp_path / "aside"
    with pytest.raises(SlideError, match=r"small\.tif is gone .*goes on"):
        wsi_engine.run(slide, tmp_path, **SETTINGS, observe=at_tile(9, lambda: slide.rename(aside)))
    assert not (tmp_path / "small" / "run.json").exists()
    aside.rename(slide)
    assert wsi_engine.run(slide, tmp_path, **SETTINGS).record.tiles.resumed == 9
    assert outputs(tmp_path / "small") == expected


def grow(slide: Path) -> None:
    with slide.open("ab") as stream:
        stream.write(b"more")


def rewrite(slide: Path) -> None:
    """As long as before, and other bytes where the fingerprint does not look."""
    raw = bytearray(slide.read_bytes())
    raw[len(raw) // 3] ^= 1
    slide.write_bytes(raw)
    os.utime(slide, ns=(0, time.time_ns() + 10**9))


def exchange(slide: Path) -> None:
    other = slide.with_name("other")
    other.write_bytes(slide.read_bytes()[::-1])
    other.replace(slide)


@pytest.mark.parametrize("change", [grow, rewrite, exchange])
@pytest.mark.parametrize("when", [30, 64])
def test_a_slide_that_changes_stops_the_run_and_nothing_is_mixed(slide, tmp_path, change, when):
    with pytest.raises(SlideChangedError, match=r"small\.tif was changed while it was read"):
        wsi_engine.run(slide, tmp_path, **SETTINGS, observe=at_tile(when, lambda: change(slide)))
    assert not (tmp_path / "small").exists()


def test_another_slide_under_the_same_name_is_refused_and_the_difference_shown(
    slide, expected, tmp_path
):
    wsi_engine.run(slide, tmp_path, **SETTINGS)
    grow(slide)
    with pytest.raises(wsi_engine.EngineError, match=r"finished result with slide: \w+\.\.\. -> "):
        wsi_engine.run(slide, tmp_path, **SETTINGS)
    assert outputs(tmp_path / "small") == expected


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1792 x 896 px at 0.25 µm, damaged where the calibration does not look: at the border."""
    path = tmp_path_factory.mktemp("damaged") / "small.tif"
    rng = np.random.default_rng(3)
    tissue = lay_out_tissue((448, 448), 0.25, rng)
    nuclei = scatter_nuclei(tissue, rng)
    block = render_tissue((448, 448), nuclei, 0.25, rng, tissue)
    write_pyramid(path, np.tile(block, (2, 4, 1)), 0.25, tile_size=64)
    overwrite_place(path, 1, 13, 0)
    return path


@pytest.mark.parametrize("split", [False, True], ids=["in one process", "split"])
def test_damage_that_was_met_before_the_cut_is_reported_by_the_run_that_goes_on(
    damaged, tmp_path, split
):
    whole = wsi_engine.run(damaged, tmp_path / "whole", **SETTINGS)
    assert not whole.is_complete

    def run(**options: Any) -> wsi_engine.Result:
        with ThreadPoolExecutor(1) as executor:
            split_over = {"executor": executor} if split else {}
            return wsi_engine.run(damaged, tmp_path / "cut", **SETTINGS, **split_over, **options)

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(observe=at_tile(45, interrupt))
    result = run()
    # None of the tiles that see the damage is computed again.
    assert result.record.tiles.resumed == 44
    assert result.record.unreadable == whole.record.unreadable
    assert outputs(tmp_path / "cut" / "small") == outputs(tmp_path / "whole" / "small")


# --- What fails at a tile -----------------------------------------------------------------------


def fails_at(number: int, function: Callable, instead: Callable) -> Callable:
    calls = itertools.count()

    def sometimes(self, *arguments):
        found = function(self, *arguments)
        return instead(found) if next(calls) == number else found

    return sometimes


def raising(found: object) -> None:
    raise RuntimeError("wires are loose")


def with_value(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def spoiled(maps: np.ndarray) -> np.ndarray:
        maps = maps.astype(np.float32)
        maps[0, maps.shape[1] // 2, maps.shape[2] // 2] = value
        return maps

    return spoiled


FAULTS = {
    "reader": (GridReader, "read", raising, TileError, r"reading failed at tile \d+ \(Runtime"),
    "model": (Watershed, "maps", raising, TileError, r"the model failed at tile \d+ \(Runtime"),
    "decoder": (Watershed, "decode", raising, TileError, r"decoding failed at tile \d+ \(Run"),
    "NaN": (Watershed, "maps", with_value(np.nan), ModelError, r"NaN or infinity on tile \d+"),
    "inf": (Watershed, "maps", with_value(np.inf), ModelError, r"NaN or infinity on tile \d+"),
    "-inf": (Watershed, "maps", with_value(-np.inf), ModelError, r"NaN or infinity on tile \d+"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_fails_once_is_named_and_the_run_goes_on(
    slide, expected, tmp_path, monkeypatch, fault
):
    owner, name, instead, error, message = FAULTS[fault]
    fields = 40  # calls before the first tile, at most: the calibration reads too
    with monkeypatch.context() as patched:
        patched.setattr(owner, name, fails_at(fields, getattr(owner, name), instead))
        with pytest.raises(error, match=message):
            wsi_engine.run(slide, tmp_path, **SETTINGS)
    assert not (tmp_path / "small" / "run.json").exists()
    result = wsi_engine.run(slide, tmp_path, **SETTINGS)
    assert 0 < result.record.tiles.resumed < 64
    assert outputs(tmp_path / "small") == expected


# --- Names --------------------------------------------------------------------------------------

NAMES = ['ゲノム σ-42  it\'s "q" `$(x)`\t.tif', "-o --force\n[x]*{y}?%20#.tif", "a...tif.tif"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names")
@pytest.mark.parametrize("name", NAMES)
def test_any_name_will_do(original, expected, tmp_path, name):
    folder = tmp_path / "in 'a' fol\nder"
    folder.mkdir()
    slide = folder / name
    os.link(original, slide)
    assert find_slides([str(folder)]) == [slide]
    result = wsi_engine.run(slide, tmp_path / "out", **SETTINGS)
    assert result.folder == tmp_path / "out" / slide.stem
    # The table, and it alone, tells the name of the slide.
    for file in ("nuclei.geojson.gz", "tissue.geojson"):
        assert (result.folder / file).read_bytes() == expected[file]
    assert problems_of(tmp_path / "out" / slide.stem) == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names")
@pytest.mark.parametrize("name", [n for n in ("...tif", "..tif") if Path(n).stem in {".", ".."}])
def test_a_name_cannot_lead_out_of_the_output_folder(original, tmp_path, name):
    """Without its suffix it is the folder above, or the folder itself."""
    slide = tmp_path / "slides" / name
    slide.parent.mkdir()
    os.link(original, slide)
    with pytest.raises(wsi_engine.EngineError, match="give its file a name"):
        wsi_engine.run(slide, tmp_path / "out", **SETTINGS)
    assert sorted(tmp_path.iterdir()) == [slide.parent]


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_links_that_lead_in_circles_are_not_followed_for_ever(original, tmp_path):
    folder = tmp_path / "slides"
    (folder / "deep").mkdir(parents=True)
    os.link(original, folder / "deep" / "small.tif")
    (folder / "deep" / "up").symlink_to(folder, target_is_directory=True)
    (folder / "self.tif").symlink_to(folder / "self.tif")
    (folder / "there").symlink_to(folder / "back")
    (folder / "back").symlink_to(folder / "there")
    found = find_slides([str(folder)])
    assert folder / "deep" / "small.tif" in found
    assert len(found) <= 2
    with pytest.raises(wsi_engine.EngineError, match=r"self\.tif"):
        wsi_engine.run(folder / "self.tif", tmp_path / "out", **SETTINGS)
