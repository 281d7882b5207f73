"""Order does not matter: the same bytes whatever the workers, the batches, the attempt."""

from __future__ import annotations

from pathlib import Path

import pytest

import wsi_engine
from wsi_engine.sample import SampleTruth

TILES = {"model": "watershed", "tile_size": 256, "report": False}
"""The fast model; test_engine_network.py has the same for the network."""


@pytest.fixture(scope="module")
def expected(sample: SampleTruth, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("expected")
    return _outputs(wsi_engine.run(sample.slide_path, folder, **TILES, workers=1))


@pytest.mark.parametrize(("workers", "batch_size"), [(1, 8), (2, 1), (2, 8), (4, 1), (4, 8)])
def test_bytes_do_not_depend_on_workers_and_batches(
    sample: SampleTruth,
    expected: dict[str, bytes],
    tmp_path: Path,
    workers: int,
    batch_size: int,
):
    result = wsi_engine.run(
        sample.slide_path,
        tmp_path,
        **TILES,
        workers=workers,
        batch_size=batch_size,
    )
    assert _outputs(result) == expected


def test_a_second_run_into_the_same_folder_gives_the_same_bytes(
    sample: SampleTruth, expected: dict[str, bytes], tmp_path: Path
):
    for force in (False, True):
        result = wsi_engine.run(sample.slide_path, tmp_path, **TILES, force=force)
        assert _outputs(result) == expected


def test_an_interrupted_run_goes_on_and_gives_the_same_bytes(
    sample: SampleTruth, expected: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("wsi_engine.store.tile_store.MOST_TILES_IN_PART", 3)

    def interrupt(progress: wsi_engine.Progress) -> None:
        if progress.tiles == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        wsi_engine.run(sample.slide_path, tmp_path, **TILES, observe=interrupt)
    folder = tmp_path / sample.slide_path.stem
    assert [path.name for path in folder.iterdir()] == [".work"]

    result = wsi_engine.run(sample.slide_path, tmp_path, **TILES)

    assert result.record.tiles.resumed == 9
    assert _outputs(result) == expected
    assert not (folder / ".work").exists()


def _outputs(result: wsi_engine.Result) -> dict[str, bytes]:
    assert result.folder is not None
    files = {path.name: path.read_bytes() for path in result.folder.iterdir()}
    del files["run.json"]
    assert sorted(files) == [
        "columns.json",
        "nuclei.geojson.gz",
        "nuclei.parquet",
        "regions.csv",
        "regions.geojson",
        "regions.parquet",
        "regions_columns.json",
        "tissue.geojson",
    ]
    return files
