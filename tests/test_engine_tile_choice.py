"""How large tiles are, and how many are under way, by the network and the memory at hand."""

from __future__ import annotations

from pathlib import Path

import pytest

import wsi_engine
from wsi_engine.config import RunSettings
from wsi_engine.engine.tile_choice import batch_size_of, choose_core, threads_of
from wsi_engine.errors import SettingsError
from wsi_engine.models import memory
from wsi_engine.models.memory import memory_at_hand
from wsi_engine.models.registry import available_models
from wsi_engine.sample import SampleTruth

GIB = 1 << 30
SPECS = {name: entry.spec for name, entry in available_models().items()}
EVERY_MODEL = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
QUICK = {"model": "watershed", "measure": (), "regions": False, "report": False, "tissue": False}


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch):
    """Set the memory and the processors of the machine."""

    def make(gib: float, processors: int = 8) -> None:
        monkeypatch.setattr(memory, "memory_at_hand", lambda: int(gib * GIB))
        monkeypatch.setattr("os.cpu_count", lambda: processors)

    return make


@EVERY_MODEL
@pytest.mark.parametrize("gib", [1, 2, 8, 512])
def test_a_tile_fits_a_quarter_of_the_memory_and_one_gib(machine, spec, gib):
    machine(gib, processors=96)
    core = choose_core(RunSettings(), spec)
    window = core + 2 * spec.halo_px
    assert core % spec.stride == 0
    assert window**2 * spec.bytes_per_px <= min(gib * GIB / 4, GIB)
    threads = threads_of(RunSettings(), window)
    assert 2 <= threads <= 96
    assert threads == 2 or threads * window**2 * 100 <= min(gib * GIB / 4, GIB)


@EVERY_MODEL
def test_at_most_half_of_a_window_is_halo(machine, spec):
    machine(16)
    core = choose_core(RunSettings(), spec)
    assert (core + 2 * spec.halo_px) ** 2 <= 2.2 * core**2
    if spec.halo_px <= 208:
        assert core == -(-1024 // spec.stride) * spec.stride


def test_what_is_set_holds(machine):
    machine(1)
    spec = SPECS["hovernet_fast-pannuke"]
    chosen = RunSettings(tile_size=4000, batch_size=3, workers=50)
    assert choose_core(chosen, spec) == 4000
    assert batch_size_of(chosen, spec, 4448, ["cpu"]) == 3
    assert threads_of(chosen, 4448) == 50


@pytest.mark.parametrize(("gib", "expected"), [(1, 1), (4, 2), (12, 8), (80, 8)])
def test_batches_fit_half_of_a_gpu(monkeypatch, gib, expected):
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda device: (gib * GIB // 3, gib * GIB))
    # A window takes 750 MiB.
    chosen = batch_size_of(RunSettings(), SPECS["starconvex"], 1239, ["cuda:0"])
    assert chosen == expected
    assert batch_size_of(RunSettings(), SPECS["starconvex"], 1239, ["cpu"]) == 1


def test_a_container_has_what_it_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    whole = memory_at_hand()
    files = [tmp_path / name for name in ("absent", "unlimited", "limited")]
    files[1].write_text("max\n")
    files[2].write_text(f"{whole // 2}\n")
    for limits, expected in ((files[:2], whole), (files, whole // 2)):
        monkeypatch.setattr(memory, "_LIMITS_OF_CONTAINERS", tuple(limits))
        memory_at_hand.cache_clear()
        try:
            assert memory_at_hand() == expected
        finally:
            memory_at_hand.cache_clear()


def test_a_finished_result_stands_on_a_machine_with_other_memory(
    sample: SampleTruth, tmp_path: Path, machine
):
    machine(0.5)
    first = wsi_engine.run(sample.slide_path, tmp_path, **QUICK)
    core = first.record.tiles.core_px
    assert core < 1024
    assert first.record.basis["tile_size"] == core
    machine(64)
    assert wsi_engine.run(sample.slide_path, tmp_path, **QUICK).is_earlier
    with pytest.raises(SettingsError, match=f"tile_size: {core} -> 512"):
        wsi_engine.run(sample.slide_path, tmp_path, tile_size=512, **QUICK)


def test_tiles_of_another_size_are_not_gone_on_with(sample: SampleTruth, tmp_path: Path, machine):
    def interrupt(progress: wsi_engine.Progress) -> None:
        if progress.tiles == 2:
            raise KeyboardInterrupt

    machine(0.25)
    with pytest.raises(KeyboardInterrupt):
        wsi_engine.run(sample.slide_path, tmp_path, observe=interrupt, **QUICK)
    machine(64)
    with pytest.raises(SettingsError, match=r"unfinished run with tile_size: \d+ -> 1024;"):
        wsi_engine.run(sample.slide_path, tmp_path, **QUICK)
    # In an archive, whose machines differ, they are computed again.
    result = wsi_engine.run(sample.slide_path, tmp_path, **QUICK, redo_foreign_tiles=True)
    assert result.record.tiles.resumed == 0
    (warning,) = (each for each in result.record.warnings if "computed again" in each)
    assert "tile_size" in warning
