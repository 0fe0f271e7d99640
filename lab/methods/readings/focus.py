"""Focus directions: a learnt vector is added to the queries of heads that read the context.

Source: Focus Directions (Zhu et al. 2025, arXiv 2503.23306, §4): per layer and head d_q and d_k,
trained with the model frozen so that the mass on the gold document grows; q + s·d_q and k + s·d_k
in the 20 contextual heads.

    a'[l, h, r, ·] = softmax over the prompt of (R_r (q_r + s·d_q[l, h]))·k / √d

Departures: d_q is added before rotation (R_r rotates to row r), where it prefers kinds of keys by
their distance; added after it, as published, it prefers absolute places, and d_k then shifts every
logit of a row alike and does nothing, so there is no d_k. The question's rows are changed, the pass
is not, so that directions are fitted layer by layer on states that do not move
(`tamis_lab.train.heads.focus`). The heads are those of the contrast profile, not the paper's 20
contextual ones, which it finds by the answer's rows; the strength is 1 for .2, and directions are
fitted at a rate of .02 for .001. Heads without a direction are read as they are.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from tamis.compressors.options import option
from tamis.probes.attention.recorder import softmax_rows
from tamis.probes.errors import BadInput, BadModelFile
from tamis_lab.methods.attention_math import rotate
from tamis_lab.methods.window_attention import contract
from tamis_lab.methods.window_attention.contract import (
    EntryInfo,
    VisitorFactories,
    WindowAttention,
    WindowShape,
)
from tamis_lab.methods.window_attention.row_sums import LayerSums
from tamis_lab.methods.window_attention.visitor import RowBlock

STRENGTH = 1.0


class Focus(contract.ComparedReading):
    """The question's rows with a learnt direction added to their queries."""

    info: ClassVar[EntryInfo] = EntryInfo(
        "a learnt direction added to the queries of contextual heads", "arXiv 2503.23306"
    )

    directions: Tensor = option(
        None,
        "[layers, H, d] of the whole model, or a safetensors file with a tensor `directions`; "
        "without any, rows are as they are.",
        takes=Path | str | Tensor | None,
    )
    strength: float = option(STRENGTH, "What the directions are multiplied by.")

    def setup(self) -> None:
        """Loads the directions.

        Raises:
            BadModelFile: the file is missing or damaged. BadInput: directions of another shape.
        """
        card, attn = self.reader.card, self.reader.body.layers[0].self_attn
        shape = (card.layers, card.heads, int(attn.head_dim))
        found = torch.zeros(shape) if self.directions is None else _load(self.directions)
        if tuple(found.shape) != shape:
            raise BadInput(f"directions are {tuple(found.shape)}; {card.name} has {shape}")
        self.directions = found.float()

    def visitors(self, shape: WindowShape) -> VisitorFactories:
        """The rows with directions, of both questions."""
        return {
            f"focus {branch}": lambda branch=branch: FocusedRows(self, branch, shape)  # type: ignore[misc]
            for branch in range(len(shape.branches))
        }

    def token_weights(self, window: WindowAttention, branch: int) -> Tensor:
        """The mean of the changed rows: `[L, H, N]`."""
        rows: Tensor = window.sums[f"focus {branch}"].result()
        return rows[..., window.shape.passage]


class FocusedRows:
    """The mean of a branch's question rows, with directions added to their queries."""

    def __init__(self, focus: Focus, branch: int, shape: WindowShape) -> None:
        """Of a reading's directions and one branch."""
        self._focus, self._branch, self._trunk = focus, branch, shape.trunk
        self._tokens, self._first_row = shape.branches[branch]
        self._sums = LayerSums()

    def visit(self, block: RowBlock) -> None:
        """Adds the branch's rows."""
        if block.branch != self._branch:
            return
        counted = max(0, self._first_row - (block.first - self._trunk))
        direction = self._focus.strength * self._focus.directions[block.layer]
        rows = block.weights[:, counted:]
        if direction.any():
            body, at = self._focus.reader.body, block.positions[counted:]
            rows = focused_rows(
                block.queries[:, counted:],
                block.keys,
                turned_directions(body, block.layer, direction, at),
                at,
            )
        sums = rows[..., : self._trunk].sum(1) / (self._tokens - self._first_row)
        self._sums.add(block.layer, sums)

    def result(self) -> Tensor:
        """The mean rows over the trunk: `[L, H, P]`."""
        return self._sums.stack()


def turned_directions(body: Any, layer: int, direction: Tensor, at: Tensor) -> Tensor:
    """Directions `[H, d]` rotated to each row's position, scaled as queries are: `[H, n, d]`."""
    scale = float(body.layers[layer].self_attn.scaling)
    copies = direction[:, None].expand(-1, len(at), -1)
    return rotate(body, layer, copies, at) * scale


def focused_rows(queries: Tensor, keys: Tensor, turned: Tensor, at: Tensor) -> Tensor:
    """Softmax rows of queries with directions added: `[H, n, K]`.

    Args:
        queries: scaled and rotated, `[H, n, d]`. keys: `[Hkv, K, d]`. turned: `[H, n, d]`.
        at: positions of the rows, `[n]`.
    """
    mask = torch.arange(keys.shape[1])[None] <= at[:, None]
    return softmax_rows(queries + turned, keys, mask, 1.0)


def _load(directions: Path | str | Tensor) -> Tensor:
    if isinstance(directions, Tensor):
        return directions
    try:
        found: Tensor = load_file(directions)["directions"]
        return found
    except (OSError, SafetensorError, KeyError) as error:
        raise BadModelFile(f"{directions} holds no directions: {error}") from error


Reading = Focus
