"""Roles of heads: what each head attends to, whatever is asked; a report, and a profile.

Source: What Does BERT Look At? (Clark et al. 2019, arXiv 1906.04341, §3): averages over rows of

    separator  share on tokens without a letter or digit       previous  share on the token before
    first      share on the first token                        own       share on the token itself
    entropy    of the row, in nats                             same      share on other copies of it

Departures: rows are those of the trunk but the first, which has one place to look; a causal model
has no next token; separators are all tokens without a letter or digit, where BERT has [SEP]. A
window's units share the figures, so a probe on them alone tells no unit from another; their probe
of dependencies is not built. `tamis lab heads roles` prints the profile.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from tamis.probes.probing.heads import Head
from tamis_lab.methods.window_attention import contract
from tamis_lab.methods.window_attention.contract import (
    EntryInfo,
    TokenSpan,
    VisitorFactories,
    WindowAttention,
    WindowShape,
    logs_for_every_unit,
)
from tamis_lab.methods.window_attention.row_sums import LayerSums
from tamis_lab.methods.window_attention.visitor import RowBlock

ROLES = ("separator", "first", "previous", "own", "same", "entropy")


class Roles(contract.Reading):
    """Averages that say what a head is for."""

    info: ClassVar[EntryInfo] = EntryInfo(
        "what each head attends to, whatever is asked: separators, neighbours, copies",
        "arXiv 1906.04341",
    )
    ranks_units: ClassVar[bool] = False

    def visitors(self, shape: WindowShape) -> VisitorFactories:
        """The averages over the trunk's rows."""
        text = self.reader.layout.tokenizer.token_text
        spoken = {token: any(c.isalnum() for c in text(token)) for token in set(shape.ids)}
        separators = torch.tensor([not spoken[token] for token in shape.ids])
        return {"roles": lambda: RoleSum(torch.tensor(shape.ids), separators)}

    def pool(self, window: WindowAttention, spans: Sequence[TokenSpan]) -> Tensor:
        """Logs of all averages, for every unit: `[U, 6·L·H]`."""
        return logs_for_every_unit(window.sums["roles"].result(), spans)

    def score(
        self, window: WindowAttention, spans: Sequence[TokenSpan], heads: Sequence[Head] | None
    ) -> Tensor:
        """What heads attend to beside separators and the first token, alike in a window: `[U]`."""
        found = window.sums["roles"].result()
        return (1 - window.head_mean(found[..., :2].sum(-1), heads)).expand(len(spans))


class RoleSum:
    """Averages over the trunk's rows, the first one aside."""

    def __init__(self, ids: Tensor, separators: Tensor) -> None:
        """`ids` and `separators` (bool) are of the trunk's tokens: `[P]`."""
        self._ids, self._separators = ids, separators
        self._sums = LayerSums()

    def visit(self, block: RowBlock) -> None:
        """Adds the rows of the trunk."""
        if block.branch is not None:
            return
        skipped = 1 if block.first == 0 else 0
        rows, at = block.weights[:, skipped:], block.positions[skipped:]
        self._sums.add(block.layer, role_figures(rows, at, self._ids, self._separators).sum(1))

    def result(self) -> Tensor:
        """The averages in the order of `ROLES`: `[L, H, 6]`."""
        return self._sums.stack() / max(1, len(self._ids) - 1)


def role_figures(rows: Tensor, at: Tensor, ids: Tensor, separators: Tensor) -> Tensor:
    """The figures of single rows in the order of `ROLES`: `[H, n, 6]`.

    Args:
        rows: `[H, n, K]`. at: their positions, 1 or more: `[n]`. ids, separators: of P ≥ K tokens.
    """
    width = rows.shape[-1]
    place = at[None, :, None].expand(len(rows), -1, 1)
    own, previous = (rows.gather(2, place - back)[..., 0] for back in (0, 1))
    copies = (ids[at][:, None] == ids[None, :width]) & (torch.arange(width) != at[:, None])
    entropy = torch.special.entr(rows).sum(-1)
    shares = (rows[..., separators[:width]].sum(-1), rows[..., 0], previous, own)
    return torch.stack((*shares, (rows * copies).sum(-1), entropy), -1)


Reading = Roles
