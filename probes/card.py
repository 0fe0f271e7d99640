"""Which model a reading is of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What a probe must match: which model, and how deep it is.

    Attributes:
        name: as users type it.
        revision: changes whenever the weights do.
        layers, heads: of the whole model, before any cut.
    """

    name: str
    revision: str
    layers: int
    heads: int

    def depth_advice(self, depth: int) -> str:
        """The way out where so many layers are wanted of a proxy that has fewer."""
        if depth <= self.layers:
            return f"load it with layers={depth} (the whole model has {self.layers})"
        return (
            f"the whole model has {self.layers}: want layers below {self.layers}, or choose a "
            "deeper proxy"
        )
