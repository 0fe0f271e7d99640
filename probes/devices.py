"""What differs between devices: how tensors get there, how much room there is, and float64."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Ints = NDArray[np.int64]
ALIGNMENT = 16
"""Bytes that each tensor of a joint copy is padded to, so that every type can begin there."""


def copy_to(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host on a device; on CUDA from pinned memory, so that nobody waits for it."""
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def copy_all(tensors: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """Tensors of the host on a device, in one copy, whose memory they share."""
    if device.type == "cpu":
        return list(tensors)
    sizes = [-(-one.nbytes // ALIGNMENT) * ALIGNMENT for one in tensors]
    flat = torch.zeros(sum(sizes), dtype=torch.uint8)
    for part, one in zip(torch.split(flat, sizes), tensors, strict=True):
        part[: one.nbytes] = one.reshape(-1).view(torch.uint8)
    sent = torch.split(copy_to(flat, device), sizes)
    pairs = zip(sent, tensors, strict=True)
    return [part[: one.nbytes].view(one.dtype).view(one.shape) for part, one in pairs]


def free_bytes(device: torch.device) -> int | None:
    """Memory of a card that nobody uses; None where it has none of its own, as Apple's GPUs."""
    return int(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else None


def to_float64(tensor: Tensor) -> Tensor:
    """A tensor in fp64; on the CPU where its device has none, as Apple's GPUs (MPS)."""
    return (tensor.cpu() if tensor.device.type == "mps" else tensor).double()
