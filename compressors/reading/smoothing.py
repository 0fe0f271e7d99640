"""Token scores smoothed along the text: the last axis counts tokens."""

from __future__ import annotations

import torch
from torch import Tensor

from tamis.probes.devices import to_float64
from tamis.probes.errors import BadInput


def box_filter(scores: Tensor, width: int, padded: bool = False) -> Tensor:
    """The moving average over `width` tokens, stride 1, same length: `[..., N]`.

    Token i is averaged over `[i - width // 2, i - width // 2 + width)`.

    Args:
        padded: count places beyond both ends as zeros, as a convolution with "same" padding does;
            else the mean is over the tokens that exist.

    Raises:
        BadInput: a width below 1.
    """
    if width < 1:
        raise BadInput(f"a width of {width} tokens; give at least 1")
    N = scores.shape[-1]
    total = torch.nn.functional.pad(to_float64(scores).cumsum(-1), (1, 0))
    place = torch.arange(N, device=total.device) - width // 2
    start, stop = place.clamp(0, N), (place + width).clamp(0, N)
    sums = total[..., stop] - total[..., start]
    return (sums / (width if padded else (stop - start))).to(scores.dtype).to(scores.device)
