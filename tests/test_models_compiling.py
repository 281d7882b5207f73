"""Compiled networks: the same bytes, kept from run to run, and never a reason to fail."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from wsi_engine.models import compiling
from wsi_engine.models.compiling import (
    Compilation,
    CompilationError,
    CompiledNetwork,
    cache_folder,
)
from wsi_engine.models.inner_network import Compilable
from wsi_engine.models.starconvex.model import load_starconvex
from wsi_engine.models.watershed import Watershed

CPU = "cpu"
SHAPE = (2, 3, 16, 24)


class Doubling(nn.Module):
    """What stands for the machine code of a package in tests that do not compile."""

    def __init__(self, factor: float = 2.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((3,), factor), requires_grad=False)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels * self.weight[0]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "wsi-engine" / "compiled"


@pytest.fixture
def factor(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Compile in no time: a package holds the number to multiply by."""
    multiplies_by = [2.0]

    def compile_package(exported: Any, package_path: str, **_: Any) -> str:
        Path(package_path).write_text(str(multiplies_by[0]))
        return package_path

    def load(library: Path) -> nn.Module:
        return Doubling(float(library.read_text()))

    monkeypatch.setattr(torch._inductor, "aoti_compile_and_package", compile_package)
    monkeypatch.setattr(compiling, "_extract", shutil.copy)
    monkeypatch.setattr(compiling, "_load", load)
    monkeypatch.setattr(torch.export, "export", lambda network, example: network)
    monkeypatch.setattr(compiling, "compiling_obstacle", lambda: None)
    return multiplies_by


def compilation(**changes: Any) -> Compilation:
    given = {"network": Doubling(), "shape": SHAPE, "dtype": torch.float32}
    return Compilation(**(given | changes))


class TestKey:
    def test_it_is_the_same_every_time(self) -> None:
        assert compilation().key == compilation().key

    @pytest.mark.parametrize(
        "changes",
        [
            {"network": Doubling(2.5)},
            {"network": nn.Sequential(Doubling())},
            {"shape": (1, 3, 16, 24)},
            {"dtype": torch.bfloat16},
        ],
    )
    def test_it_tells_networks_shapes_and_precisions_apart(self, changes: dict[str, Any]) -> None:
        assert compilation(**changes).key != compilation().key

    @pytest.mark.parametrize(
        ("owner", "name", "value"),
        [
            (torch, "__version__", "99.0"),
            (torch, "get_num_threads", lambda: 77),
            (compiling, "_processor", lambda: "another"),
        ],
    )
    def test_it_tells_machines_apart(
        self, owner: Any, name: str, value: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        here = compilation().key
        monkeypatch.setattr(owner, name, value)
        assert compilation().key != here


@pytest.mark.usefixtures("factor")
class TestCache:
    def test_what_was_built_is_there_for_the_next_run(self) -> None:
        assert compilation().load() is None
        built, loaded = compilation().build(), compilation().load()
        pixels = torch.rand(SHAPE)
        assert isinstance(loaded, CompiledNetwork)
        assert torch.equal(built(pixels), 2 * pixels)
        assert torch.equal(loaded(pixels), 2 * pixels)

    def test_nothing_else_is_left_in_the_folder(self, cache: Path) -> None:
        compilation().build()
        (package,) = cache.iterdir()
        assert package.name.startswith(compilation().key)

    @pytest.mark.parametrize("damage", ["3.0", "", "2.0 "])
    def test_a_package_that_is_not_what_was_written_is_removed(
        self, cache: Path, damage: str
    ) -> None:
        compilation().build()
        (package,) = cache.iterdir()
        package.write_text(damage)
        assert compilation().load() is None
        assert not list(cache.iterdir())

    def test_a_package_that_cannot_be_loaded_is_removed(
        self, cache: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        compilation().build()

        def refuse(library: Path) -> None:
            raise OSError("cannot open shared object file")

        monkeypatch.setattr(compiling, "_load", refuse)
        assert compilation().load() is None
        assert not list(cache.iterdir())

    @pytest.mark.skipif(os.name != "posix", reason="permissions as POSIX has them")
    def test_nothing_is_loaded_from_a_folder_that_others_can_write_to(self, cache: Path) -> None:
        compilation().build()
        assert cache.stat().st_mode & 0o077 == 0
        cache.chmod(0o777)
        assert compilation().load() is None
        with pytest.raises(CompilationError, match="written to by others"):
            compilation().build()

    def test_a_folder_that_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "wsi-engine").write_text("a file")
        assert compilation().load() is None
        with pytest.raises(CompilationError, match="wsi-engine"):
            cache_folder()


class TestBuild:
    def test_other_maps_are_never_used(self, factor: list[float], cache: Path) -> None:
        factor[0] = 2.000001
        assert not compilation().is_futile
        with pytest.raises(CompilationError, match="does not give the same maps"):
            compilation().build()
        assert compilation().load() is None
        assert compilation().is_futile
        assert not list(cache.glob("*.so"))

    def test_a_compiler_that_fails(
        self, factor: list[float], cache: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: Any, **__: Any) -> None:
            raise RuntimeError("C++ compile error\n" + 100 * "lots of output\n")

        monkeypatch.setattr(torch._inductor, "aoti_compile_and_package", fail)
        with pytest.raises(CompilationError, match=r"\(C\+\+ compile error\)") as caught:
            compilation().build()
        assert "\n" not in str(caught.value)
        assert not list(cache.iterdir())

    def test_without_a_compiler(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(shutil, "which", lambda name: None)
        with pytest.raises(CompilationError, match=r"no C\+\+ compiler; install g\+\+"):
            compilation().build()

    def test_other_shapes_go_through_the_network_itself(self, factor: list[float]) -> None:
        built = compilation().build()
        factor[0] = 0.0
        pixels = torch.rand(1, 3, 8, 8)
        assert torch.equal(built(pixels), 2 * pixels)


class TestModels:
    def test_the_network_can_be_compiled_and_the_classical_method_not(self) -> None:
        assert isinstance(load_starconvex(), Compilable)
        assert not isinstance(Watershed(), Compilable)

    def test_shape_and_precision_are_those_of_the_batches(self) -> None:
        model = load_starconvex().to(CPU)
        found = model.compilation(3, 96)
        assert found is not None
        assert (found.shape, found.dtype) == ((3, 3, 96, 96), model.dtype)

    def test_on_a_gpu_there_is_nothing_to_compile(self) -> None:
        model = load_starconvex()
        object.__setattr__(model, "device", torch.device("cuda"))
        assert model.compilation(1, 96) is None


@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling needs a C++ compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_network_that_is_really_compiled(cache: Path) -> None:
    """Built, found again, and the same to the last bit; another batch does as well."""
    from tests.test_starconvex import small_net
    from wsi_engine.models.layers import folded
    from wsi_engine.models.starconvex.model import StarConvexModel
    from wsi_engine.models.starconvex.spec import SPEC

    model = StarConvexModel(folded(small_net()), SPEC, threshold=0.5).to(CPU)
    found = model.compilation(1, 64)
    assert found is not None
    found.build()
    network = found.load()
    assert isinstance(network, CompiledNetwork)
    compiled = model.with_network(network)
    rng = np.random.default_rng(4)
    for count in (1, 1, 2):
        batch = rng.integers(0, 256, (count, 64, 64, 3), np.uint8)
        assert compiled.maps(batch).tobytes() == model.maps(batch).tobytes()
