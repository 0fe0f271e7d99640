"""Low-rank adapters in training: frozen weights, and small trainable matrices beside them.

Idea: LoRA (Hu et al. 2021, arXiv 2106.09685, §4): a frozen projection W x becomes W x + s·B A x,
with random A and zero B, so that training starts at the unchanged model. Adapters of the query and
key projections change where the model attends; those of value and output what it carries from
there to the layers above.

Departure: frozen projections also store their transposed weights, so that the backward pass, too,
is one plain product in the model's dtype. PyTorch's backward pass in bf16 is several times slower
than its forward pass on a CPU.
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

_PROJECTION = re.compile(r"(?:^|\.)layers\.(\d+)\.\w+\.([qkvo])_proj$")
PROJECTIONS = "qkvo"
"""The projections that can be adapted, a letter each: query, key, value, output."""


class _FrozenProduct(torch.autograd.Function):
    """`x [..., I]` times frozen weights `[O, I]`; only `x` gets a gradient."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, transposed: Tensor, bias: Tensor | None
    ) -> Tensor:
        ctx.transposed = transposed
        return linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        return linear(grads[0], ctx.transposed), None, None, None


# `apply` is typed in some releases of torch and not in others
_frozen_product = cast("Callable[..., Tensor]", _FrozenProduct.apply)


class FrozenLinear(nn.Module):
    """A linear layer with frozen weights, whose backward pass is as fast as its forward pass."""

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
        a: `[rank, I]` fp32.
        b: `[O, rank]` fp32, initially zero.
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
        change = linear(linear(x, self.a.to(x.dtype)), self.b.to(x.dtype))
        out: Tensor = self.frozen(x) + self.scale * change
        return out


def projections(model: Any, layers: Sequence[int], kinds: str = "qk") -> dict[str, nn.Linear]:
    """The projections of some kinds in the given layers by name, in the model's order.

    Args:
        kinds: letters of `PROJECTIONS`.

    Raises:
        ProxyUnsupported: a layer has no separate linear projection of each kind.
    """
    unpack(model)
    found: dict[str, nn.Linear] = {}
    for name, module in model.named_modules():
        match = _PROJECTION.search(name)
        if not match or not isinstance(module, nn.Linear):
            continue
        if int(match[1]) in layers and match[2] in kinds:
            found[name] = module
    if len(found) != len(kinds) * len(layers):
        raise ProxyUnsupported(
            f"{type(model).__name__} has {len(found)} linear projections of {', '.join(kinds)} in "
            f"{len(layers)} layers, and {len(kinds) * len(layers)} are needed; choose a decoder "
            "such as Llama, Qwen or Gemma 3"
        )
    return found


def attach(
    model: Any,
    layers: Sequence[int],
    rank: int = 8,
    scale: float = 2.0,
    seed: int = 0,
    kinds: str = "qk",
) -> dict[str, LowRankLinear]:
    """Freezes a model in place, and adds adapters to projections of the given layers.

    Args:
        layers: the layers to adapt, counted from 0.
        rank: of each adapter.
        scale: the factor of `B A`.
        seed: for the random initialisation of A.
        kinds: of projections that are adapted: letters of `PROJECTIONS`.

    Returns:
        The adapters by name of their projection.

    Raises:
        BadInput: a rank below 1 or above the smallest projection's size.
        ProxyUnsupported: a layer has no separate linear projection of each kind.
    """
    adapted = projections(model, layers, kinds)
    max_rank = min(min(layer.weight.shape) for layer in adapted.values())
    if not 1 <= rank <= max_rank:
        raise BadInput(f"rank is {rank}; give 1 to {max_rank}, the size of the smallest projection")
    model.requires_grad_(False)
    draw = torch.Generator().manual_seed(seed)
    adapters: dict[str, LowRankLinear] = {}
    linears = [(n, m) for n, m in model.named_modules() if type(m) is nn.Linear]
    for name, layer in linears:
        module: nn.Module = FrozenLinear(layer)
        if name in adapted:
            module = adapters[name] = LowRankLinear(FrozenLinear(layer), rank, scale, draw)
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, module)
    return adapters
