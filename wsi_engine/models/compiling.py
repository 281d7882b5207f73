"""Networks compiled ahead of time for the processor, kept from run to run.

They are shared objects, so they are loaded only from a folder that nobody else can write to, and
only if their content is what was written. Whatever is wrong with one, it is made anew.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from wsi_engine.digests import digest
from wsi_engine.errors import ModelError

log = logging.getLogger(__name__)

COMPILERS = ("g++", "clang++", "cl")
_NOISY = ("torch.utils.cpp_extension", "torch._inductor", "torch._export")


class CompilationError(ModelError):
    """A network could not be compiled."""


class CompiledNetwork(nn.Module):
    """A compiled network for batches of one shape; the network itself for all others."""

    def __init__(self, code: Any, shape: tuple[int, ...], network: nn.Module) -> None:
        super().__init__()
        self._code, self._shape, self._network = code, shape, network

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Predict from pixels."""
        run = self._code if tuple(pixels.shape) == self._shape else self._network
        maps: torch.Tensor = run(pixels)
        return maps


@dataclass(frozen=True, eq=False)
class Compilation:
    """A network compiled for one shape of batch on this processor.

    Attributes
    ----------
    network
        On the CPU, ready for inference.
    shape
        (n, channels, height, width) of the batches, channels last in memory.
    dtype
        Precision in which it computes.
    """

    network: nn.Module
    shape: tuple[int, int, int, int]
    dtype: torch.dtype

    @functools.cached_property
    def key(self) -> str:
        """Fingerprint of all that the machine code depends on."""
        weights = hashlib.sha256()
        for name, tensor in self.network.state_dict().items():
            weights.update(f"{name} {tuple(tensor.shape)}".encode())
            weights.update(tensor.float().numpy().tobytes())
        return digest(
            {
                "weights": weights.hexdigest(),
                "network": str(self.network),
                "shape": self.shape,
                "dtype": str(self.dtype),
                "torch": torch.__version__,
                "threads": torch.get_num_threads(),
                "processor": _processor(),
            }
        )[:32]

    def load(self) -> nn.Module | None:
        """Return the network from the cache, or ``None`` where it is not, or is damaged."""
        try:
            folder = cache_folder()
        except CompilationError as error:
            log.warning("%s", error)
            return None
        for path in folder.glob(f"{self.key}-*.so"):
            if _checksum(path) == path.stem.removeprefix(f"{self.key}-"):
                try:
                    return CompiledNetwork(_load(path), self.shape, self.network)
                except Exception as error:  # whatever the loader of shared objects says
                    log.warning("a compiled network cannot be loaded (%s)", error)
            path.unlink(missing_ok=True)
        return None

    @property
    def is_futile(self) -> bool:
        """Whether it was compiled before and computed something else."""
        try:
            return self._marker.exists()
        except CompilationError:
            return True

    def build(self) -> nn.Module:
        """Compile the network, check it against itself, and keep it for the next run.

        This takes from half a minute to some minutes.

        Raises
        ------
        CompilationError
            When there is no compiler, or it fails, or the compiled network does not give the
            very bytes of the other.
        """
        obstacle = compiling_obstacle()
        if obstacle:
            raise CompilationError(f"the network cannot be compiled: {obstacle}")
        with tempfile.TemporaryDirectory(dir=cache_folder(), prefix="building-") as scratch:
            package, library = Path(scratch) / "network.pt2", Path(scratch) / "network.so"
            try:
                from torch import _inductor

                with _quiet(), torch.no_grad():
                    exported = torch.export.export(self.network, (self._example(),))
                    _inductor.aoti_compile_and_package(
                        exported, package_path=str(package), inductor_configs={"freezing": True}
                    )
                _extract(package, library)
                compiled = CompiledNetwork(_load(library), self.shape, self.network)
                same = self._agrees(compiled)
            except Exception as error:  # torch and the C++ compiler raise anything
                first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
                raise CompilationError(
                    f"the network cannot be compiled ({first_line}): use --compile never"
                ) from error
            if not same:
                self._marker.touch()
                raise CompilationError(
                    "compiled, the network does not give the same maps on this processor, so it "
                    "is not used: use --compile never"
                )
            library.replace(cache_folder() / f"{self.key}-{_checksum(library)}.so")
        return compiled

    @property
    def _marker(self) -> Path:
        return cache_folder() / f"{self.key}.differs"

    def _example(self) -> torch.Tensor:
        """Draw a batch with the noise of pixels on the left and shapes like nuclei beside it."""
        generator = torch.Generator().manual_seed(0)
        pixels = torch.rand(self.shape, generator=generator) * 4 - 2.8
        half = self.shape[3] // 2
        smooth = nn.functional.avg_pool2d(pixels, 9, stride=1, padding=4)
        pixels[..., half:] = (8 * smooth[..., half:] + 4).clamp(-2.8, 1.2)
        return pixels.to(self.dtype, memory_format=torch.channels_last)

    def _agrees(self, compiled: nn.Module) -> bool:
        with torch.inference_mode():
            example = self._example()
            return torch.equal(compiled(example), self.network(example))


def compiling_obstacle() -> str | None:
    """Say what keeps networks from being compiled here; ``None`` if nothing does."""
    if _release(torch.__version__) < (2, 6):
        return f"torch {torch.__version__} cannot; install 2.6 or later"
    if os.name != "posix":
        return "only Linux and macOS are supported"
    if not any(shutil.which(name) for name in COMPILERS):
        return "there is no C++ compiler; install g++"
    return None


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("+")[0].split(".")[:2])


def cache_folder() -> Path:
    """Return the user's own folder of compiled networks; make it if need be.

    Raises
    ------
    CompilationError
        When it cannot be made, or belongs to or is open to somebody else.
    """
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    folder = (Path(base) if base else Path.home() / ".cache") / "wsi-engine" / "compiled"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except OSError as error:
        raise CompilationError(f"{folder}: {error.strerror}") from None
    if hasattr(os, "getuid") and (status.st_uid != os.getuid() or status.st_mode & 0o022):
        raise CompilationError(
            f"{folder} can be written to by others, so nothing is loaded from it: remove it"
        )
    return folder


def _extract(package: Path, library: Path) -> None:
    from wsi_engine.models.machine_code import extract_library

    extract_library(package, library)


def _load(library: Path) -> Any:
    # Imported late: older versions of torch lack what it needs.
    from wsi_engine.models.machine_code import MachineCode

    return MachineCode(library)


def _checksum(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:32]


def _processor() -> str:
    """Name the instructions that the processor has: machine code is made for all of them."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    features = [line for line in lines if line.startswith(("model name", "flags", "Features"))]
    known = [platform.machine(), platform.processor(), torch.backends.cpu.get_cpu_capability()]
    return "\n".join([*known, *dict.fromkeys(features)])


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what torch says to those who compile from the user."""
    levels = {name: logging.getLogger(name).level for name in _NOISY}
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
