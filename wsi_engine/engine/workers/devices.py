"""The model on the devices of a run, compiled where that pays."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wsi_engine.config import RunSettings
from wsi_engine.engine.plan import Plan
from wsi_engine.engine.progress import Observer, Progress, ignore
from wsi_engine.engine.tile_choice import batch_size_of, choose_core
from wsi_engine.models.around import load_model
from wsi_engine.models.devices import resolve_devices
from wsi_engine.models.inner_network import compilation_of, with_network
from wsi_engine.models.protocol import Model
from wsi_engine.schedule.clock import StageClock

if TYPE_CHECKING:
    from wsi_engine.models.compiling import Compilation

MEGAPIXELS_TO_COMPILE = 1500
"""As many pixels, halos included, save three times what compiling costs (benchmarks/model.md):
some 1000 tiles of the default size, or 250 mm² of tissue. On fewer it is not begun unasked."""


def batch_size_for(plan: Plan, devices: list[str]) -> int:
    """Return the number of tiles of a plan per batch."""
    return batch_size_of(plan.settings, plan.model.spec, plan.tile_grid.window_side, devices)


def place(
    plan: Plan,
    devices: list[str],
    tiles: int,
    clock: StageClock,
    observe: Observer = ignore,
) -> list[Model]:
    """Return the model of a plan on each device.

    Compiled or not, a network gives the same maps to the last bit (`Compilation.build` sees to
    it), so this changes how fast a run is and nothing else.

    Parameters
    ----------
    tiles
        Number of tiles that are still to be computed.
    """
    models: list[Model] = [plan.model.to(device) for device in devices]
    if plan.settings.compile == "never" or tiles == 0:
        return models
    side, batch = plan.tile_grid.window_side, batch_size_for(plan, devices)
    return [_compiled(model, batch, side, plan, tiles, clock, observe) for model in models]


def compile_network(settings: RunSettings) -> bool:
    """Compile the network that runs with such settings use; return whether there is one.

    Raises
    ------
    EngineError
        When the model is unknown, or its network cannot be compiled.
    """
    devices = resolve_devices(settings.device)
    model = load_model(settings).to(devices[0])
    side = choose_core(settings, model.spec) + 2 * model.spec.halo_px
    batch = batch_size_of(settings, model.spec, side, devices)
    compilation = compilation_of(model, batch, side)
    if compilation is not None and compilation.load() is None:
        compilation.build()
    return compilation is not None


def _compiled(
    model: Model,
    batch: int,
    side: int,
    plan: Plan,
    tiles: int,
    clock: StageClock,
    observe: Observer,
) -> Model:
    compilation = compilation_of(model, batch, side)
    if compilation is None:
        return model
    from wsi_engine.models.compiling import CompilationError

    with clock.measure("compile"):
        network = compilation.load()
        if network is None:
            asked = plan.settings.compile == "always"
            if not asked and not pays(compilation, tiles * side**2 / 1e6):
                return model
            observe(Progress(plan.info.path.name, "compiling"))
            try:
                network = compilation.build()
            except CompilationError:
                if asked:
                    raise
                return model
    return with_network(model, network)


def pays(compilation: Compilation, megapixels: float) -> bool:
    """Decide whether to compile for so many pixels unasked.

    The gain was measured in bf16; without instructions for it networks stay as they are.
    """
    from wsi_engine.models.compiling import compiling_obstacle

    return (
        megapixels >= MEGAPIXELS_TO_COMPILE
        and str(compilation.dtype) == "torch.bfloat16"
        and compiling_obstacle() is None
        and not compilation.is_futile
    )
