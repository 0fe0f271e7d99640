"""The identity of a model, which probes and caches are tied to."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ModelCard:
    """The identity and size of a model; a probe is valid for one such card only.

    Attributes:
        name: the name that users type.
        revision: changes whenever the weights do.
        layers, heads: of the whole model, even if only its first layers are loaded.
    """

    name: str
    revision: str
    layers: int
    heads: int

    def depth_advice(self, depth: int) -> str:
        """What to do when `depth` layers are needed and the loaded model has fewer."""
        if depth <= self.layers:
            return f"load it with layers={depth} (the whole model has {self.layers})"
        return (
            f"the whole model has {self.layers}: want layers below {self.layers}, or choose a "
            "deeper proxy"
        )
