"""Token scores smoothed along the text: the last axis counts tokens."""

from __future__ import annotations

import math

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


def gaussian_filter(scores: Tensor, sigma: float, reach: float = 4.0) -> Tensor:
    """Scores under a Gaussian filter, its tails cut at `reach` sigma, edges mirrored: `[..., N]`.

    The same as `scipy.ndimage.gaussian_filter1d`; a sigma of 0 changes nothing.

    Raises:
        BadInput: a sigma below 0.
    """
    if not sigma >= 0 or math.isinf(sigma):
        raise BadInput(f"sigma is {sigma}; give 0 or more tokens")
    radius, N = int(reach * sigma + 0.5), scores.shape[-1]
    if not radius or not N:
        return scores
    offset = torch.arange(-radius, radius + 1)
    kernel = torch.exp(-0.5 * (offset / sigma) ** 2).to(scores)
    at = (torch.arange(N)[:, None] + offset) % (2 * N)  # mirrored with the edge: d c b a | a b c d
    at = torch.where(at < N, at, 2 * N - 1 - at).to(scores.device)
    return scores[..., at] @ (kernel / kernel.sum())
