"""What deeper layers would say of a unit, estimated from those that were read, or from words alone.

    features of a unit    [layers read | layers not read]
                             known  ──►  a linear estimate, from them and from the unit's words

The estimate is a ridge regression of the deeper layers' features on all that is known. A probe is
linear, too, so a unit that was not read to the end has the score that units with such shallow
features have on average; no gold label has a part in it. Windows whose best unit is far below the
best of the request are not read on: the gate of Round Attention (arXiv 2502.15294, §3) between
two layers, with these departures: passages are judged by the default's own score, not by their
mass; those near the best go on, and of the others the best few; before the first layer passages
are judged by their words; and behind the last one those that stopped are judged again, since a
sentence that was read may name what another passage is about.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
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
PURPOSES = ("units", "isolated")
"""What is scored: units of a request, or units by their own windows alone."""

FLOOR_POWER = 0.625
"""Of the number of windows: the more there are, the smaller the share that has to go on."""


@dataclass(frozen=True, slots=True)
class Stage:
    """After how many layers windows are judged, and which go on.

    A stage behind the last layer judges those that stopped before, beside what was read: which of
    them are read to the end after all.

    Attributes:
        depth: layers that were read; 0 for none, so that words decide.
        margin: how far below the request's best a window's best may be, in the unit of the score.
            Of isolated windows it is the score itself that a window needs.
        least: windows of a request from which on the stage pays.
        floor: of N windows, ceil(floor · N^.625) go on whatever the margin says, the best first.

    N and the best are those of the windows that are judged together: all of a request of up to
    65,536 tokens, and each such group of a longer one.
    """

    depth: int
    margin: float
    least: int
    floor: float = 0.0

    def choose(
        self, best: Tensor, settled: Tensor, judged: Tensor, is_isolated: bool = False
    ) -> Tensor:
        """Which windows go on, `[N]` bool: those that are settled, and the best of those judged.

        Args:
            best: the score of each window's best unit, `[N]`.
            settled: windows that go on anyway and count, `[N]` bool. judged: those to choose from.
            is_isolated: each by its own score, whatever the others have.
        """
        if is_isolated:
            return settled | (judged & (best >= self.margin))
        chosen = settled | (judged & (best >= best.max() - self.margin))
        rest = judged & ~chosen
        most = ceil(self.floor * len(best) ** FLOOR_POWER)
        lacking = min(most - int(chosen.sum()), int(rest.sum()))
        if lacking > 0:
            ranked = best.masked_fill(~rest, -torch.inf).argsort(descending=True, stable=True)
            chosen[ranked[:lacking]] = True
        return chosen


@dataclass(frozen=True, slots=True)
class Gate:
    """The estimates of one proxy's deeper layers, and the stages that were calibrated for it."""

    probe: LinearProbe

    def stages(self, purpose: str) -> list[Stage]:
        """The stages by depth, from weights of rows (depth, margin, least, floor).

        Raises:
            BadModelFile: the rows are others.
        """
        rows = self.probe.weights.get(f"stages_{purpose}")
        if rows is None or rows.ndim != 2 or rows.shape[1] != 4:
            raise BadModelFile(
                f"the gate's weight 'stages_{purpose}' is no list of stages; fit it anew: tamis "
                "probe gate"
            )
        return [
            Stage(int(depth), margin, int(least), floor)
            for depth, margin, least, floor in rows.tolist()
        ]

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
