"""Linear layers whose weights stay in the layout that the processor multiplies fastest.

oneDNN multiplies bf16 in blocks. Row-major weights are reordered into that layout for every
product, which takes a third of the time of a product with few tokens; here they are reordered once.
The row-major copy is freed: `PackedLinear` replaces the linear layer in the model, computes the
same, and rebuilds the rows whenever `weight` is read.
"""

from __future__ import annotations

import os
from functools import lru_cache
from platform import machine
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

_POINTWISE: Any = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
_REORDER: Any = getattr(torch.ops.mkldnn, "_reorder_linear_weight", None)
_LAYOUT_TOKENS = 1024  # the number of tokens that oneDNN chooses the layout for


_HEAP_BYTES = 30 << 20


def raise_malloc_threshold() -> None:
    """Makes glibc keep freed blocks of the size of a layer's states, by freeing one such block.

    glibc returns memory to the system once twice the largest block ever freed is free. A pass of
    2,048 tokens then faults its pages in again at every product, for a tenth of its time. Freeing
    one large block raises that threshold; other allocators are unaffected.
    """
    torch.empty(_HEAP_BYTES, dtype=torch.uint8)


_PRIMITIVE_CACHES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
"""oneDNN's own, and that of torch before it, which holds what the other drops."""
_KEPT_PRIMITIVES = "256"
"""A batch of the default proxy uses some 20, one of the sentence encoder 5; attention in blocks
(without tiles) over a prompt of 8,192 tokens 128, the same in all layers."""


def has_tiles() -> bool:
    """Whether the processor multiplies bf16 by tiles (AMX)."""
    is_supported = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return is_supported is not None and bool(is_supported())


# torch is to keep 256 primitives of oneDNN and not 1,024, unless the environment says how many.
# oneDNN compiles one for each shape of a product, and batches have ever new numbers of tokens.
# One takes half a megabyte to a megabyte, which is a gigabyte after some hundred requests. Both
# caches look when the first one is made, so this is for a process that has made none.
for _variable in _PRIMITIVE_CACHES:
    os.environ.setdefault(_variable, _KEPT_PRIMITIVES)


def _has_bf16_blocks() -> bool:
    """Whether this build of torch multiplies bf16 in oneDNN's blocks; tested on x86 only."""
    is_supported: Any = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    if None in (_POINTWISE, _REORDER, is_supported) or machine().lower() not in ("x86_64", "amd64"):
        return False
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    return bool(is_supported())


_HAS_BF16_BLOCKS = _has_bf16_blocks()


@lru_cache(maxsize=1)
def cpu_capabilities() -> dict[str, Any]:
    """What the processor can do, by torch's names; empty in a torch that does not say."""
    look_up = getattr(torch.cpu, "get_capabilities", None)
    return dict(look_up()) if look_up is not None else {}


def multiplies_int8(device: torch.device) -> bool:
    """Whether a device multiplies int8 and sums exactly: x86 with VNNI.

    Without it, oneDNN adds pairs of products in 16 bits, which saturate.
    """
    has_vnni = bool(cpu_capabilities().get("avx512_vnni"))
    return device.type == "cpu" and has_vnni and hasattr(torch, "_int_mm")


def can_fuse(states: Tensor) -> bool:
    """Whether products with these states can be fused with the element-wise step after them."""
    return _HAS_BF16_BLOCKS and states.dtype == torch.bfloat16 and states.device.type == "cpu"


class Product:
    """`x @ weight.T + bias`, alone or fused with an element-wise step.

    Args:
        weight: `[out, in]`, row-major or in oneDNN's layout.
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
        """The product followed by SiLU; only where `can_fuse`."""
        return self._apply(states, "swish")

    def gelu(self, states: Tensor, approximate: str = "none") -> Tensor:
        """The product followed by GELU, exact or by `tanh`; only where `can_fuse`."""
        result: Tensor = _POINTWISE(states, self.weight, self.bias, "gelu", [], approximate)
        return result

    def multiply(self, states: Tensor, other: Tensor) -> Tensor:
        """The product multiplied element-wise with another `[N, out]`; only where `can_fuse`."""
        result: Tensor = _POINTWISE.binary(states, other, self.weight, self.bias, "mul")
        return result

    def _apply(self, states: Tensor, step: str) -> Tensor:
        result: Tensor = _POINTWISE(states, self.weight, self.bias, step, [], "")
        return result


class PackedLinear(nn.Module):
    """A linear layer whose weight is in oneDNN's layout, possibly together with others.

    Args:
        blocks: the weights of one or several layers, stacked.
        rows: the half-open span of them that is this layer's.
        bias: this layer's, or None.
    """

    def __init__(self, blocks: Tensor, rows: tuple[int, int], bias: nn.Parameter | None) -> None:
        super().__init__()
        self.blocks, self.rows, self.bias = blocks, rows, bias
        self.out_features, self.in_features = rows[1] - rows[0], blocks.shape[1]

    @property
    def weight(self) -> Tensor:
        """A row-major copy `[out, in]`; modifying it does not change the layer."""
        return self.blocks.to_dense()[slice(*self.rows)]

    def forward(self, states: Tensor) -> Tensor:
        """As the linear layer, computed from the row-major copy, so that gradients flow."""
        return linear(states, self.weight, self.bias)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[f"{prefix}weight"] = self.weight


def pack_weight(weight: Tensor) -> Tensor:
    """A weight `[out, in]` in oneDNN's layout where that is faster, else as it is."""
    if not can_fuse(weight):
        return weight
    blocks: Tensor = _REORDER(weight, _LAYOUT_TOKENS)
    return blocks


def pack(parent: nn.Module, names: tuple[str, ...]) -> None:
    """Replaces linear layers that take the same states by packed ones."""
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
    """Replaces packed layers by ordinary linear layers, whose weights may be modified."""
    packed = [(n, m) for n, m in model.named_modules() if isinstance(m, PackedLinear)]
    for name, layer in packed:
        plain = nn.Linear(
            1, 1, bias=False
        )  # its weight is replaced below: 1 x 1 avoids drawing random weights
        plain.in_features, plain.out_features = layer.in_features, layer.out_features
        plain.weight = nn.Parameter(layer.weight.clone())
        plain.register_parameter("bias", layer.bias)
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, plain)


def join(parent: nn.Module, names: tuple[str, ...]) -> Product:
    """One product of linear layers that take the same states; their weights become parts of its.

    For devices where a product is slow to start. The layers stay what they are: a change of their
    weights in place is one of the product's, too.
    """
    layers = [getattr(parent, name) for name in names]
    weight = torch.cat([layer.weight.detach() for layer in layers])
    sizes = [layer.out_features for layer in layers]
    for layer, rows in zip(layers, torch.split(weight, sizes), strict=True):
        layer.weight.data = rows
    if any(layer.bias is None for layer in layers):
        return Product(weight, None)
    bias = torch.cat([layer.bias.detach() for layer in layers])
    for layer, own in zip(layers, torch.split(bias, sizes), strict=True):
        layer.bias.data = own
    return Product(weight, bias)


def can_join(parent: nn.Module, names: tuple[str, ...]) -> bool:
    """Whether all of these layers are ordinary ones, with biases or without."""
    layers = [getattr(parent, name) for name in names]
    biases = {layer.bias is None for layer in layers}
    return len(biases) == 1 and all(type(layer) is nn.Linear for layer in layers)


def make_products(parent: nn.Module, names: tuple[str, ...]) -> tuple[Product, ...]:
    """The products of layers that take the same states: one if they are packed, else one each."""
    layers = [getattr(parent, name) for name in names]
    if not isinstance(layers[0], PackedLinear):
        return tuple(Product(layer.weight, layer.bias) for layer in layers)
    biases = [layer.bias for layer in layers if layer.bias is not None]
    return (Product(layers[0].blocks, torch.cat(biases) if biases else None),)
