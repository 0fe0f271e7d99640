"""Shared Attention: a run of late layers takes the weights of the layer before it.

Source: Shared Attention (Liao and Vargas 2024, arXiv 2407.12866): weights of late layers are alike,
so that a run of them multiplies its own values by one layer's weights: no query, no key, no
softmax.

    layers s+1 ... s+r take the weights of layer s

Departures: the run ends before the deepest layer, whose rows are read; the share says how many
layers have weights of their own (28 of 32 in the paper); queries and keys of a shared layer are
still computed here, so time is saved in attention alone. Rows of shared layers are no evidence of
their own, and are left out of scores.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from tamis_lab.methods.prefill import contract
from tamis_lab.methods.prefill.contract import PatternInfo, PromptShape


class SharedLayers(contract.Sight):
    """Layers that take another's weights."""

    def __init__(self, sources: Mapping[int, int]) -> None:
        """`sources` names the layer that a layer takes its weights from."""
        self._sources = dict(sources)

    def reuse(self, layer: int) -> int | None:
        """The source of a layer, if it has one."""
        return self._sources.get(layer)


class Shared(contract.Pattern):
    """One run of late layers."""

    info: ClassVar[PatternInfo] = PatternInfo(
        "a run of late layers takes the weights of the layer before it",
        "arXiv 2407.12866",
        share="layers with weights of their own",
    )

    def start(self, shape: PromptShape) -> contract.Sight:
        """The last run that leaves the share."""
        return SharedLayers(late_run(shape.layers, self.share))


def late_run(layers: int, share: float) -> dict[int, int]:
    """The source of each layer of the run that ends before the deepest one."""
    count = min(max(0, layers - 2), round((1 - share) * layers))
    first = layers - 1 - count
    return {layer: first - 1 for layer in range(first, layers - 1)}


Pattern = Shared
