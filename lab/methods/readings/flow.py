"""Attention flow: the most that can run from the question down to a unit, over all paths.

Source: Abnar & Zuidema 2020 (arXiv 2005.00928, §3): edges (l, i) to (l - 1, j) of capacity
Ã_l[i, j] = ½ (mean over heads of A_l + I); the flow of j is the maximum flow from the question at
the last layer to (0, j), normalised over j.

Departures: over units, not tokens, because a flow over 500 tokens takes seconds: columns are summed
over a unit's tokens and rows averaged; the question is one node, all other tokens of title and gaps
are another; the template's opening is dropped and rows normalised again. Capacities are rounded to
2⁻²⁰, because the solver takes whole numbers. One feature, the log of the flow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from tamis.probes.probing.heads import Head
from tamis_lab.methods.attention_math import normalise_rows
from tamis_lab.methods.window_attention import contract
from tamis_lab.methods.window_attention.contract import (
    TINY,
    EntryInfo,
    TokenSpan,
    VisitorFactories,
    WindowAttention,
    WindowShape,
)
from tamis_lab.methods.window_attention.row_sums import LayerSums
from tamis_lab.methods.window_attention.visitor import RowBlock

UNIT_CAPACITY = 1 << 20


class Flow(contract.Reading):
    """The maximum flow from the question to each unit."""

    info: ClassVar[EntryInfo] = EntryInfo(
        "maximum flow from the question down to each unit", "arXiv 2005.00928"
    )

    def visitors(self, shape: WindowShape) -> VisitorFactories:
        """The capacities between units."""
        return {"capacity": lambda: UnitCapacity(shape)}

    def pool(self, window: WindowAttention, spans: Sequence[TokenSpan]) -> Tensor:
        """The log of each unit's flow: `[U, 1]`."""
        return self.score(window, spans, None)[:, None].clamp_min(TINY).log()

    def score(
        self, window: WindowAttention, spans: Sequence[TokenSpan], heads: Sequence[Head] | None
    ) -> Tensor:
        """Each unit's share of the flow: `[U]`; heads are mixed, so none are chosen."""
        capacity = window.sums["capacity"].result()
        flows = max_flows(capacity, source=len(spans) + 1, sinks=range(len(spans)))
        return flows / flows.sum().clamp_min(TINY)


class UnitCapacity:
    """Ã of each layer between the units, all other tokens, and the question: `[L, U+2, U+2]`."""

    def __init__(self, shape: WindowShape) -> None:
        """Of a window; a token of two units counts for the first of them."""
        self._trunk, self._cut = shape.trunk, shape.opening
        self._tokens, self._first_row = shape.branches[0]
        units = len(shape.spans)
        node = torch.full((shape.trunk + self._tokens,), units)
        for u in reversed(range(units)):
            a, b = shape.spans[u]
            node[shape.passage.start + a : shape.passage.start + b] = u
        node[shape.trunk :] = units + 1
        self._member = torch.nn.functional.one_hot(node, units + 2).float()
        self._sums = LayerSums()

    def visit(self, block: RowBlock) -> None:
        """Adds the rows of the trunk and of the question."""
        if block.branch not in (None, 0):
            return
        dropped = self._cut if block.branch is None else self._trunk + self._first_row
        rows = block.weights[:, max(0, dropped - block.first) :].mean(0)
        rows[:, : self._cut] = 0
        rows = normalise_rows(rows)
        start = block.first + block.weights.shape[1] - len(rows)
        to = rows @ self._member[: rows.shape[1]]
        self._sums.add(block.layer, self._member[start : start + len(rows)].T @ to)

    def result(self) -> Tensor:
        """The capacities; a node without tokens keeps to itself."""
        counts = self._member[self._cut : self._trunk].sum(0)
        counts[-1] = self._tokens - self._first_row
        mean = self._sums.stack() / counts.clamp_min(1)[:, None]
        return (mean + torch.eye(len(counts))) / 2


def max_flows(capacity: Tensor, source: int, sinks: Sequence[int]) -> Tensor:
    """The maximum flow from `source` above the last layer to each sink below the first.

    Args:
        capacity: Ã of each layer, from row i above it to column j below: `[L, V, V]`.
    """
    from scipy.sparse import csr_array  # takes a second to import
    from scipy.sparse.csgraph import maximum_flow

    layers, nodes, _ = capacity.shape
    whole = (capacity.double() * UNIT_CAPACITY).round().to(torch.int32).numpy()
    level, above, below = np.nonzero(whole)
    edges = csr_array(
        (whole[level, above, below], ((level + 1) * nodes + above, level * nodes + below)),
        shape=((layers + 1) * nodes,) * 2,
        dtype=np.int32,
    )
    top = layers * nodes + source
    flows = [maximum_flow(edges, top, sink).flow_value / UNIT_CAPACITY for sink in sinks]
    return torch.tensor(flows)


Reading = Flow
