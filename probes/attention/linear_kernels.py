"""Products with weights, in the layout that the processor multiplies fastest.

oneDNN multiplies bf16 in blocks. Weights in rows are brought into that layout at every product,
which takes a third of the time of a product with few tokens; here they are brought into it once
and stay. The rows are given up: `Packed` stands in the model where the linear layer stood, does
what it did, and makes them again for whoever asks for `weight`.
"""

from __future__ import annotations

from platform import machine
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

_POINTWISE: Any = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
_REORDER: Any = getattr(torch.ops.mkldnn, "_reorder_linear_weight", None)
_LAYOUT_TOKENS = 1024  # tokens that the layout is chosen for


_HEAP_BYTES = 30 << 20


def raise_malloc_threshold() -> None:
    """Tells glibc that blocks as large as a layer's states come and go.

    It gives memory back to the system as soon as twice the largest block that was ever freed is
    free, and a pass of 2,048 tokens then faults its pages in again at every product, for a tenth of
    its time. To free one large block is how it learns; other allocators do not care.
    """
    torch.empty(_HEAP_BYTES, dtype=torch.uint8)


def _has_bf16_blocks() -> bool:
    """Whether this build of torch multiplies bf16 by oneDNN's blocks; tried on x86 alone."""
    tells: Any = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    if None in (_POINTWISE, _REORDER, tells) or machine().lower() not in ("x86_64", "amd64"):
        return False
    return torch.backends.mkldnn.is_available() and bool(tells())  # type: ignore[no-untyped-call]


_HAS_BF16_BLOCKS = _has_bf16_blocks()


def can_fuse(states: Tensor) -> bool:
    """Whether products of these states take the step that follows them along."""
    return _HAS_BF16_BLOCKS and states.dtype == torch.bfloat16 and states.device.type == "cpu"


class Product:
    """`x @ weight.T + bias`, alone or with a step behind it.

    Args:
        weight: `[out, in]`, in rows or in oneDNN's layout.
        bias: `[out]` or None.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.weight, self.bias = weight, bias
        self._is_packed = weight.is_mkldnn

    def __call__(self, states: Tensor) -> Tensor:
        """`[N, in]` to `[N, out]`."""
        return (
            self._apply(states, "none")
            if self._is_packed
            else linear(states, self.weight, self.bias)
        )

    def silu(self, states: Tensor) -> Tensor:
        """With SiLU behind it; only where `fused`."""
        return self._apply(states, "swish")

    def multiply(self, states: Tensor, other: Tensor) -> Tensor:
        """Times another `[N, out]`; only where `fused`."""
        made: Tensor = _POINTWISE.binary(states, other, self.weight, self.bias, "mul")
        return made

    def _apply(self, states: Tensor, step: str) -> Tensor:
        made: Tensor = _POINTWISE(states, self.weight, self.bias, step, [], "")
        return made


class PackedLinear(nn.Module):
    """A linear layer whose weight is, perhaps with others, in oneDNN's layout.

    Args:
        blocks: the weights of several layers, one under the other.
        rows: the half-open span of them that is this layer's.
        bias: this layer's, or None.
    """

    def __init__(self, blocks: Tensor, rows: tuple[int, int], bias: nn.Parameter | None) -> None:
        super().__init__()
        self.blocks, self.rows, self.bias = blocks, rows, bias
        self.out_features, self.in_features = rows[1] - rows[0], blocks.shape[1]

    @property
    def weight(self) -> Tensor:
        """The rows `[out, in]`, made again; a change to them changes nothing."""
        return self.blocks.to_dense()[slice(*self.rows)]

    def forward(self, states: Tensor) -> Tensor:
        """As the linear layer; where gradients are kept, by the rows."""
        return linear(states, self.weight, self.bias)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[f"{prefix}weight"] = self.weight


def pack(parent: nn.Module, names: tuple[str, ...]) -> None:
    """Packs linear layers that are multiplied with the same states, in place of their rows."""
    layers = [getattr(parent, name) for name in names]
    if all(isinstance(layer, PackedLinear) for layer in layers):
        return
    joined = torch.cat([layer.weight.detach() for layer in layers])
    blocks = _REORDER(joined, _LAYOUT_TOKENS)
    start = 0
    for name, layer in zip(names, layers, strict=True):
        stop = start + layer.out_features
        setattr(parent, name, PackedLinear(blocks, (start, stop), layer.bias))
        start = stop


def unpack(model: nn.Module) -> None:
    """Puts linear layers, with rows that may be changed, where packed ones stand."""
    packed = [(n, m) for n, m in model.named_modules() if isinstance(m, PackedLinear)]
    for name, layer in packed:
        plain = nn.Linear(1, 1, bias=False)  # replaced whole: no weights are drawn for nothing
        plain.in_features, plain.out_features = layer.in_features, layer.out_features
        plain.weight = nn.Parameter(layer.weight.clone())
        plain.register_parameter("bias", layer.bias)
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, plain)


def make_products(parent: nn.Module, names: tuple[str, ...]) -> tuple[Product, ...]:
    """The product of layers that see the same states: one if they are packed, else one each."""
    layers = [getattr(parent, name) for name in names]
    if not isinstance(layers[0], PackedLinear):
        return tuple(Product(layer.weight, layer.bias) for layer in layers)
    biases = [layer.bias for layer in layers if layer.bias is not None]
    return (Product(layers[0].blocks, torch.cat(biases) if biases else None),)
