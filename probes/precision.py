"""Where fp64 is computed: on a tensor's own device, if that has it."""

from __future__ import annotations

from torch import Tensor


def to_float64(tensor: Tensor) -> Tensor:
    """A tensor in fp64; on the CPU where its device has none, as Apple's GPUs (MPS)."""
    return (tensor.cpu() if tensor.device.type == "mps" else tensor).double()
