"""A disk that is full, read-only or cut off: one sentence, and the run goes on when it can."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import wsi_engine
from tests.support.runs import SETTINGS, TILES_IN_PART, in_a_process, outputs, write_small_slide
from wsi_engine.errors import OutputError
from wsi_engine.results.verify import problems_of
from wsi_engine.store import tile_store

FULL = 9
"""Exit code of a run that says why it cannot write."""


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_slide(tmp_path_factory.mktemp("slides") / "small.tif")


@pytest.fixture(scope="module")
def expected(slide: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = wsi_engine.run(slide, tmp_path_factory.mktemp("expected"), **SETTINGS).folder
    assert folder is not None
    return outputs(folder)


@pytest.fixture
def small_disk(tmp_path: Path):
    """A disk of 400 kB: room for some of the parts, not for all that is written."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root on Linux mounts disks; the limit on files is tested elsewhere")
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", disk]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this container may not mount disks")
    try:
        yield disk
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_full_disk_and_then_space_again(slide, expected, small_disk, monkeypatch):
    monkeypatch.setattr(tile_store, "MOST_TILES_IN_PART", TILES_IN_PART)
    with pytest.raises(OutputError, match=r"small: .*(full|disk I/O error)"):
        wsi_engine.run(slide, small_disk, **SETTINGS)
    kept = len(list(small_disk.glob("small/.work/tiles/part-*.arrow")))
    assert kept > 0
    assert problems_of(small_disk / "small") == []
    subprocess.run(["mount", "-o", "remount,size=50m", small_disk], check=True)
    result = wsi_engine.run(slide, small_disk, **SETTINGS)
    assert result.record.tiles.resumed >= (kept - 1) * TILES_IN_PART
    assert outputs(small_disk / "small") == expected
    assert problems_of(small_disk / "small") == []


@pytest.mark.skipif(sys.platform == "win32", reason="there is no limit on the size of files")
@pytest.mark.parametrize("most_bytes", [100, 5_000, 20_000, 60_000])
def test_files_that_may_not_grow(slide, expected, tmp_path, most_bytes):
    """Wherever it hits: the journal, a part, a table, the GeoJSON."""
    assert in_a_process(run_with_small_files, slide, tmp_path, most_bytes) == FULL
    assert not (tmp_path / "small" / "run.json").exists()
    wsi_engine.run(slide, tmp_path, **SETTINGS)
    assert outputs(tmp_path / "small") == expected


def run_with_small_files(slide: Path, out: Path, most_bytes: int) -> None:
    import resource

    tile_store.MOST_TILES_IN_PART = TILES_IN_PART
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, resource.RLIM_INFINITY))
    try:
        wsi_engine.run(slide, out, **SETTINGS)
    except OutputError:
        sys.exit(FULL)


def test_a_folder_of_slides_may_be_read_only(slide, expected, tmp_path):
    folder = tmp_path / "slides"
    folder.mkdir()
    os.link(slide, folder / "small.tif")
    before = folder.stat().st_mtime_ns, sorted(folder.iterdir())
    folder.chmod(0o555)
    try:
        wsi_engine.run(folder / "small.tif", tmp_path / "out", **SETTINGS)
    finally:
        folder.chmod(0o755)
    # Root may write everywhere: that nothing was written is seen on the folder itself.
    assert (folder.stat().st_mtime_ns, sorted(folder.iterdir())) == before
    assert outputs(tmp_path / "out" / "small") == expected


def test_clocks_that_jump_change_nothing(slide, expected, tmp_path, monkeypatch):
    """Neither what is found, nor when it is saved, nor who has the folder."""
    import itertools
    import time

    jumps = itertools.cycle([0.0, 4e9, 1e9, -1e9, 2e9])
    monkeypatch.setattr(time, "time", lambda: next(jumps))
    monkeypatch.setattr(time, "time_ns", lambda: int(next(jumps) * 1e9))
    monkeypatch.setattr(tile_store, "MOST_TILES_IN_PART", TILES_IN_PART)
    parts = []
    save = tile_store.TileStore._save
    monkeypatch.setattr(
        tile_store.TileStore,
        "_save",
        lambda store, tiles, *rest: parts.append(len(tiles)) or save(store, tiles, *rest),
    )
    wsi_engine.run(slide, tmp_path, **SETTINGS)
    assert set(parts[:-1]) == {TILES_IN_PART}
    assert outputs(tmp_path / "small") == expected
