"""Low-rank adapters while they are learnt: frozen weights, and small matrices beside q and k.

Idea: LoRA (Hu et al. 2021, arXiv 2106.09685, §4): a frozen projection W x becomes W x + s·B A x,
with A drawn and B zero, so that learning starts at the model as it is. Only the query and key
projections are adapted: where the model looks can move, what it carries from there cannot.

Departure: frozen projections keep their transposed weights, so that the way back, too, is one plain
product in the model's dtype. PyTorch's own runs bf16 several times slower back than forth on a CPU.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from tamis.probes.attention.linear_kernels import unpack
from tamis.probes.errors import BadInput, ProxyUnsupported

_PROJECTION = re.compile(r"(?:^|\.)layers\.(\d+)\.\w+\.(?:q_proj|k_proj)$")


class _FrozenProduct(torch.autograd.Function):
    """`x [..., I]` times frozen weights `[O, I]`; the gradient goes to `x` alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, transposed: Tensor, bias: Tensor | None) -> Tensor:
        ctx.transposed = transposed
        return linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        return linear(grads[0], ctx.transposed), None, None, None


# `apply` is typed in some releases of torch and not in others
_frozen_product = cast("Callable[..., Tensor]", _FrozenProduct.apply)


class FrozenLinear(nn.Module):
    """A linear layer that no longer learns, as fast back as forth."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        bias = layer.bias.detach() if layer.bias is not None else None
        self.register_buffer("weight", layer.weight.detach())
        self.register_buffer("transposed", layer.weight.detach().t().contiguous())
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        """`[..., I]` to `[..., O]`."""
        return _frozen_product(x, self.weight, self.transposed, self.bias)


class LowRankLinear(nn.Module):
    """A frozen projection with a low-rank one beside it: `W x + scale · B A x`.

    Attributes:
        a: `[rank, I]` fp32. b: `[O, rank]` fp32, zero at first.
    """

    def __init__(
        self, frozen: FrozenLinear, rank: int, scale: float, draw: torch.Generator
    ) -> None:
        super().__init__()
        outs, ins = frozen.get_buffer("weight").shape
        device = frozen.get_buffer("weight").device
        self.frozen, self.scale = frozen, scale
        self.a = nn.Parameter((torch.randn(rank, ins, generator=draw) / ins**0.5).to(device))
        self.b = nn.Parameter(torch.zeros(outs, rank, device=device))

    def forward(self, x: Tensor) -> Tensor:
        """`[..., I]` to `[..., O]`, in the dtype of `x`."""
        moved = linear(linear(x, self.a.to(x.dtype)), self.b.to(x.dtype))
        out: Tensor = self.frozen(x) + self.scale * moved
        return out


def projections(model: Any, layers: Sequence[int]) -> dict[str, nn.Linear]:
    """Query and key projections of these layers, by name, in the model's order.

    Raises:
        ProxyUnsupported: one of the layers has none of its own.
    """
    unpack(model)
    found: dict[str, nn.Linear] = {}
    for name, module in model.named_modules():
        place = _PROJECTION.search(name)
        if place and int(place[1]) in layers and isinstance(module, nn.Linear):
            found[name] = module
    if len(found) != 2 * len(layers):
        raise ProxyUnsupported(
            f"{type(model).__name__} has {len(found)} linear q_proj and k_proj in {len(layers)} "
            f"layers, and {2 * len(layers)} are needed; choose a decoder such as Llama, Qwen or "
            "Gemma 3"
        )
    return found


def attach(
    model: Any, layers: Sequence[int], rank: int = 8, scale: float = 2.0, seed: int = 0
) -> dict[str, LowRankLinear]:
    """Freezes a model in place and puts adapters on q and k of these layers.

    Args:
        layers: which to adapt, counted from 0.
        rank: of each adapter; more than a projection has is refused.
        scale: what `B A` is multiplied with.
        seed: of A.

    Raises:
        BadInput: a rank below 1 or above a projection's. ProxyUnsupported: no q and k projections.
    """
    chosen = projections(model, layers)
    least = min(min(layer.weight.shape) for layer in chosen.values())
    if not 1 <= rank <= least:
        raise BadInput(f"rank is {rank}; give 1 to {least}, the size of the smallest projection")
    model.requires_grad_(False)
    draw = torch.Generator().manual_seed(seed)
    adapters: dict[str, LowRankLinear] = {}
    linears = [(n, m) for n, m in model.named_modules() if type(m) is nn.Linear]
    for name, layer in linears:
        module: nn.Module = FrozenLinear(layer)
        if name in chosen:
            module = adapters[name] = LowRankLinear(FrozenLinear(layer), rank, scale, draw)
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, module)
    return adapters
