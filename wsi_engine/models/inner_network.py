"""The network within a wrapped model, for those who compile it; torch comes with the network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, Self, TypeVar, runtime_checkable

from wsi_engine.models.protocol import Model

if TYPE_CHECKING:
    from torch import nn

    from wsi_engine.models.compiling import Compilation


@runtime_checkable
class Compilable(Model, Protocol):
    """A model whose network can be compiled."""

    def compilation(self, batch: int, side: int) -> Compilation | None:
        """Describe the network for batches of so many square tiles; ``None`` on a GPU."""
        ...

    def with_network(self, network: nn.Module) -> Self:
        """Return the model with another network in place of its own."""
        ...


M = TypeVar("M", bound=Model)


def compilation_of(model: Model, batch: int, side: int) -> Compilation | None:
    """Describe a model's network for batches of so many square tiles; ``None`` if it has none."""
    return model.compilation(batch, side) if isinstance(model, Compilable) else None


def with_network(model: M, network: nn.Module) -> M:
    """Return a model that can be compiled with another network in place of its own."""
    if not isinstance(model, Compilable):
        raise TypeError(f"{model.spec.name} has no network to replace")
    return model.with_network(network)
