"""When a run compiles its network, and that its result does not depend on it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import wsi_engine
from wsi_engine.config import make_settings
from wsi_engine.engine.progress import Progress
from wsi_engine.engine.workers import devices
from wsi_engine.engine.workers.devices import MEGAPIXELS_TO_COMPILE, compile_network, pays
from wsi_engine.models.compiling import Compilation, CompilationError
from wsi_engine.models.starconvex.spec import WEIGHTS
from wsi_engine.sample import SampleTruth


class Counted(nn.Module):
    """A network that counts its calls: what was compiled, or found in the cache."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.calls = 0

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        maps: torch.Tensor = self.network(pixels)
        return maps


class Cache:
    """Stands for the cache of compiled networks and for the compiler."""

    def __init__(self) -> None:
        self.holds = self.fails = False
        self.builds = 0
        self.networks: list[Counted] = []

    def load(self, compilation: Compilation) -> nn.Module | None:
        return self._network(compilation) if self.holds else None

    def build(self, compilation: Compilation) -> nn.Module:
        self.builds += 1
        if self.fails:
            raise CompilationError("the network cannot be compiled: no luck")
        self.holds = True
        return self._network(compilation)

    def _network(self, compilation: Compilation) -> nn.Module:
        self.networks.append(Counted(compilation.network))
        return self.networks[-1]

    @property
    def calls(self) -> int:
        return sum(network.calls for network in self.networks)


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch) -> Cache:
    cache = Cache()
    monkeypatch.setattr(Compilation, "load", lambda c: cache.load(c))
    monkeypatch.setattr(Compilation, "build", lambda c: cache.build(c))
    monkeypatch.setattr(Compilation, "is_futile", False)
    monkeypatch.setattr("wsi_engine.models.compiling.compiling_obstacle", lambda: None)
    return cache


def run(sample: SampleTruth, **settings: Any) -> tuple[Any, list[str]]:
    """Run a network that torch runs, which a user's own weights are."""
    settings = {"weights": None if "model" in settings else WEIGHTS} | settings
    seen: list[Progress] = []
    result = wsi_engine.run(
        sample.slide_path, tile_size=512, observe=seen.append, device="cpu", **settings
    )
    return result, list(dict.fromkeys(progress.stage for progress in seen))


@pytest.mark.parametrize(
    ("compile", "cached", "large", "builds", "used"),
    [
        ("never", True, True, 0, False),
        ("auto", True, False, 0, True),
        ("auto", False, False, 0, False),
        ("auto", False, True, 1, True),
        ("always", False, False, 1, True),
        ("always", True, False, 0, True),
    ],
)
def test_when_the_network_is_compiled(
    sample: SampleTruth,
    cache: Cache,
    monkeypatch: pytest.MonkeyPatch,
    compile: str,
    cached: bool,
    large: bool,
    builds: int,
    used: bool,
) -> None:
    cache.holds = cached
    monkeypatch.setattr(devices, "pays", lambda compilation, megapixels: large)
    result, stages = run(sample, compile=compile)
    assert cache.builds == builds
    assert (cache.calls > 0) == used
    assert ("compiling" in stages) == (builds > 0)
    assert ("compile" in result.record.stages) == (compile != "never")
    assert result.record.settings.compile == compile


def test_a_compiler_that_fails_costs_nothing_unless_it_was_asked_for(
    sample: SampleTruth, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.fails = True
    monkeypatch.setattr(devices, "pays", lambda compilation, megapixels: True)
    result, _ = run(sample, compile="auto")
    assert result.count > 0
    assert cache.builds == 1
    with pytest.raises(CompilationError, match="no luck"):
        run(sample, compile="always")


def test_the_classical_method_has_nothing_to_compile(sample: SampleTruth, cache: Cache) -> None:
    result, _ = run(sample, model="watershed", compile="always")
    assert result.count > 0
    assert cache.builds == 0


@pytest.mark.parametrize(
    ("megapixels", "dtype", "obstacle", "futile", "expected"),
    [
        (MEGAPIXELS_TO_COMPILE, torch.bfloat16, None, False, True),
        (MEGAPIXELS_TO_COMPILE - 1, torch.bfloat16, None, False, False),
        (MEGAPIXELS_TO_COMPILE, torch.float32, None, False, False),
        (MEGAPIXELS_TO_COMPILE, torch.bfloat16, "there is no C++ compiler", False, False),
        (MEGAPIXELS_TO_COMPILE, torch.bfloat16, None, True, False),
    ],
)
def test_what_is_compiled_unasked(
    monkeypatch: pytest.MonkeyPatch,
    megapixels: float,
    dtype: torch.dtype,
    obstacle: str | None,
    futile: bool,
    expected: bool,
) -> None:
    monkeypatch.setattr("wsi_engine.models.compiling.compiling_obstacle", lambda: obstacle)
    monkeypatch.setattr(Compilation, "is_futile", futile)
    compilation = Compilation(nn.Identity(), (1, 3, 64, 64), dtype)
    assert pays(compilation, megapixels) == expected


def test_warming_up_compiles_what_the_next_run_uses(
    sample: SampleTruth, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = []
    build = cache.build
    monkeypatch.setattr(
        Compilation, "build", lambda c: shapes.append((c.shape, c.dtype)) or build(c)
    )
    for _ in range(2):
        assert compile_network(make_settings(tile_size=512, device="cpu", weights=WEIGHTS))
    cache.holds = False
    run(sample, compile="always")
    assert len(shapes) == 2
    assert shapes[0] == shapes[1]
    assert not compile_network(make_settings(model="watershed"))
