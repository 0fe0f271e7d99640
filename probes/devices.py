"""What differs between devices: how tensors get there, how much room there is, and float64."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Ints = NDArray[np.int64]


def copy_to(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host on a device; on CUDA from pinned memory, so that nobody waits for it."""
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def free_bytes(device: torch.device) -> int | None:
    """Memory of a card that nobody uses; None where it has none of its own, as Apple's GPUs."""
    return int(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else None


def to_float64(tensor: Tensor) -> Tensor:
    """A tensor in fp64; on the CPU where its device has none, as Apple's GPUs (MPS)."""
    return (tensor.cpu() if tensor.device.type == "mps" else tensor).double()
