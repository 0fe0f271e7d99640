"""HiP (arXiv 2406.09827, §3): groups of keys, halved again and again by a representative.

The keys' blocks of 2 are divided into m equal groups. In each round every group is halved, each
half is scored by the largest logit of its first block, and the best m halves stay, until they are
single blocks. Every block scored counts as its keys read.

Departures: each row of a question is a query block of its own, instead of 32 rows; m is N/2 halved
a whole number of times, so that groups are equal; where halving would compare as many keys as there
are, all are read instead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from tamis_lab.methods.kv_search.contract import (
    SelectorClass,
    SelectorInfo,
    best_hits,
    block_members,
    prepare_queries,
)
from tamis_lab.methods.kv_search.types import KeyHits

BLOCK = 2


class Hip:
    """Keeps the best halves of groups until they are single blocks."""

    info: ClassVar[SelectorInfo] = SelectorInfo(
        "groups of keys halved by their first block",
        "HiP, 2406.09827",
        "groups kept",
        reads_blocks=True,
    )

    def __init__(self, keys: Tensor, train: Tensor) -> None:
        self._keys = keys
        self._blocks = -(-len(keys) // BLOCK)

    @property
    def efforts(self) -> list[int]:
        """Halvings of the number of blocks that compare fewer keys than there are; all blocks."""
        shifts = range(3, max(4, (self._blocks // 12).bit_length()))
        return sorted({-(-self._blocks // 2**shift) for shift in shifts} | {self._blocks})

    def search(self, queries: Tensor, k: int, effort: int) -> KeyHits:
        """The best keys of the blocks left of the largest number of groups up to `effort`."""
        queries = prepare_queries(queries, self._keys, k, effort)
        groups = max((step for step in self.efforts if step <= effort), default=self.efforts[0])

        def score_blocks(blocks: Tensor) -> Tensor:
            ids = block_members(blocks, BLOCK, len(self._keys))
            logits = torch.einsum("qd,qcd->qc", queries, self._keys[ids.clamp_min(0)])
            logits = logits.masked_fill(ids < 0, -torch.inf)
            return logits.view(len(queries), -1, BLOCK).amax(2)

        blocks, scored = halve_groups(
            score_blocks, self._blocks, groups, len(queries), queries.device
        )
        ids = block_members(blocks, BLOCK, len(self._keys))
        read = scored * BLOCK if scored else len(self._keys)  # blocks that are left were scored
        return best_hits(self._keys, queries, ids, k, min(read, len(self._keys)) * len(queries))


def halve_groups(
    score_blocks: Callable[[Tensor], Tensor],
    blocks: int,
    groups: int,
    rows: int,
    device: torch.device | str = "cpu",
) -> tuple[Tensor, int]:
    """The blocks that are left when groups have been halved until each is a single block.

    Args:
        score_blocks: `[Q, M]` blocks to their `[Q, M]` scores, on the device. rows: Q.

    Returns:
        `[Q, groups]` blocks, and how many blocks were scored for each row.
    """
    edges = torch.arange(groups + 1, device=device) * blocks // groups
    starts, ends = edges[:-1].expand(rows, -1), edges[1:].expand(rows, -1)
    scored = 0
    while int((ends - starts).max()) > 1:
        middle = starts + (ends - starts + 1) // 2
        starts, ends = torch.cat((starts, middle), 1), torch.cat((middle, ends), 1)
        scores = score_blocks(starts.clamp_max(blocks - 1)).masked_fill(starts >= ends, -torch.inf)
        best = scores.topk(groups).indices
        starts, ends = starts.gather(1, best), ends.gather(1, best)
        scored += 2 * groups
    return starts, scored


Selector: SelectorClass = Hip
