"""How much a set of best heads depends on the cases that they were found with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from tamis.probes.errors import BadInput

DRAWS = 500


def stability(
    cases: Tensor, sizes: Sequence[int], draws: int = DRAWS, seed: int = 0
) -> Mapping[str, float]:
    """For each k, the mean Jaccard overlap of the best k heads with those of resampled cases.

    A single case cannot be resampled: the result is then empty.

    Args:
        cases: `[C, L, H]`, one score per case and head.
        sizes: the values of k; those above L·H are left out.

    Raises:
        BadInput: there is no case.
    """
    if not len(cases):
        raise BadInput("there is no case to resample; give labelled records")
    if len(cases) == 1:
        return {}
    flat = cases.flatten(1).double()
    draw = torch.Generator().manual_seed(seed)
    picks = torch.randint(len(flat), (draws, len(flat)), generator=draw)
    means = torch.stack([flat[pick].mean(0) for pick in picks])  # [draws, L·H]
    return {
        str(k): round(_overlaps(flat.mean(0), means, k), 4) for k in sizes if k <= flat.shape[1]
    }


def _overlaps(whole: Tensor, means: Tensor, k: int) -> float:
    best = torch.zeros(means.shape[1], dtype=torch.bool)
    best[whole.topk(k).indices] = True
    shared = best[means.topk(k, dim=1).indices].sum(1).double()
    return float((shared / (2 * k - shared)).mean())
