"""What deeper layers would say of a unit, estimated from those that were read, or from words alone.

    features of a unit    [layers read | layers not read]
                             known  ──►  a linear estimate, from them and from the unit's words

The estimate is a ridge regression of the deeper layers' features on all that is known. A probe is
linear, too, so a unit that was not read to the end has the score that units with such shallow
features have on average; no gold label has a part in it. Windows whose best unit is far below the
best of the request are not read on: the gate of Round Attention (arXiv 2502.15294, §3) between
two layers, with these departures: passages are judged by the default's own score, not by their
mass; how many go on is decided by their distance from the best, not by a share; and before the
first layer they are judged by their words.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from tamis.compressors.features.shipped_probes import choose_probe
from tamis.compressors.features.words import WORD_FEATURES
from tamis.compressors.reading.windows import Reader
from tamis.probes.errors import BadModelFile
from tamis.probes.probing.linear import LinearProbe

GATE = "gate"
"""What cards call it, in place of a method."""
PURPOSES = ("units", "documents", "isolated")
"""What is scored: units of a request, whole documents, or units by their own windows alone."""


@dataclass(frozen=True, slots=True)
class Stage:
    """After how many layers windows are judged, and which go on.

    Attributes:
        depth: layers that were read; 0 for none, so that words decide.
        margin: how far below the request's best a window's best may be, in the unit of the score.
            Of isolated windows it is the score itself that a window needs.
        least: windows of a request from which on the stage pays.
    """

    depth: int
    margin: float
    least: int


@dataclass(frozen=True, slots=True)
class Gate:
    """The estimates of one proxy's deeper layers, and the stages that were calibrated for it."""

    probe: LinearProbe

    def stages(self, purpose: str) -> list[Stage]:
        """The stages by depth, from weights of rows (depth, margin, least)."""
        rows = self.probe.weights.get(f"stages_{purpose}")
        if rows is None or rows.ndim != 2 or rows.shape[1] != 3:
            raise BadModelFile(f"the gate's weight 'stages_{purpose}' is no list of stages")
        return [Stage(int(depth), margin, int(least)) for depth, margin, least in rows.tolist()]

    def complete(self, known: Tensor, words: Tensor) -> Tensor:
        """The features of all layers, those that were not read estimated: `[U, 2·L·H]`.

        Args:
            known: of the layers that were read, `[U, 2, l, H]`. words: `[U, len(WORD_FEATURES)]`.
        """
        units, _, depth, _ = known.shape
        card = self.probe.card
        missing = 2 * (card.layers - depth) * card.heads
        if not missing:
            return known.flatten(1)
        given = 2 * depth * card.heads + len(WORD_FEATURES)
        estimate = self.probe.weight(f"layers_from_{depth}", (given + 1, missing))
        deeper = torch.cat([known.flatten(1), words, torch.ones(units, 1)], 1) @ estimate
        return torch.cat([known, deeper.view(units, 2, -1, card.heads)], 2).flatten(1)


def choose_gate(reader: Reader, gate: LinearProbe | Path | str | None, layers: int) -> Gate | None:
    """The gate to use, checked against the reader's model; None where there is none of this depth.

    Args:
        gate: one, the path of one, `auto` for the one that ships, or None for none.
        layers: that the method reads.

    Raises:
        ProbeMismatch, BadModelFile, BadInput: as for `choose_probe`.
    """
    found = choose_probe(GATE, reader, gate)
    return Gate(found) if found is not None and found.card.layers == layers else None
