"""The network within a wrapped model, for those who compile it; torch comes with the network."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, cast

from wsi_engine.models.protocol import Model

if TYPE_CHECKING:
    from torch import nn

    from wsi_engine.models.compiling import Compilable, Compilation

M = TypeVar("M", bound=Model)


def compilation_of(model: Model, batch: int, side: int) -> Compilation | None:
    """Describe a model's network for batches of so many square tiles; ``None`` if it has none."""
    if not hasattr(model, "compilation"):
        return None
    return cast("Compilable", model).compilation(batch, side)


def with_network(model: M, network: nn.Module) -> M:
    """Return a model that can be compiled with another network in place of its own."""
    return cast("M", cast("Compilable", model).with_network(network))
